"""Check data about classes before training: counts, sizes, tokens, copies, examples."""

from collections.abc import Iterator, Sequence

from medjax.data.audit.records import Sample
from medjax.data.classes.batches import LabelRecord
from medjax.recipes.policy.check_report import Report, make_report
from medjax.recipes.policy.examples import count_tokens
from medjax.recipes.policy.findings import Finding
from medjax.recipes.policy.setup import Setup
from medjax.rl.text.label_set_text import COMMA, NONE


def examine_classes(setup: Setup, findings: Sequence[Finding]) -> Report:
    """All that the page and the document of a check say of a run's pictures.

    Args:
        setup: Data, policy and encoding of the run.
        findings: What was found already.
    """
    tokens, seen = count_tokens(setup)
    named = {
        part: [name for mine, name in _shown(setup.parts.samples, seen) if mine == part]
        for part in ("train", "test")
    }
    return make_report(setup, findings, tokens, named, no_boxes)


def _shown(
    samples: Sequence[Sample], seen: Sequence[tuple[str, LabelRecord]]
) -> Iterator[tuple[str, str]]:
    """Part and class of every row, or of the questions that were looked at.

    A picture that shows several classes counts for each, one that shows none as "none".
    """
    for sample in samples:
        for name in sample.labels or (NONE,):
            yield sample.part, name
    for part, record in () if samples else seen:
        for name in (
            record.name.split(f"{COMMA} ") if record.several else (record.name,)
        ):
            yield part, name


def no_boxes(answer: str) -> list[tuple[float, float, float, float]]:
    """Answers about classes have no boxes: [].

    Args:
        answer: Any text.
    """
    del answer
    return []
