"""Check data about classes before training: counts, sizes, tokens, copies, examples."""

from collections.abc import Iterator, Sequence

from medjax.data.audit.records import Sample
from medjax.data.classes.batches import LabelRecord
from medjax.recipes.policy import check_report
from medjax.recipes.policy.check_report import Report
from medjax.recipes.policy.checking import Finding
from medjax.recipes.policy.examples import count_tokens, draw_examples
from medjax.recipes.policy.stages import Setup
from medjax.rl.text.label_set_text import COMMA, NONE

_EXAMPLES = 10


def examine_classes(setup: Setup, findings: Sequence[Finding]) -> Report:
    """All that the page and the document of a check say of a run's pictures.

    Args:
        setup: Data, policy and encoding of the run.
        findings: What was found already.
    """
    tokens, seen = count_tokens(setup)
    examples = draw_examples(setup, count=_EXAMPLES)
    named = {
        part: [name for mine, name in _shown(setup.parts.samples, seen) if mine == part]
        for part in ("train", "test")
    }
    labels = check_report.label_table(named)
    numbers = check_report.count_table(setup.parts)
    shown = check_report.size_table(setup)
    budget = check_report.token_table(setup, tokens)
    document = {
        "parts": numbers[1],
        "labels": labels[1],
        "pictures": shown[1],
        "tokens": budget[1],
        "examples": check_report.example_rows(examples, no_boxes),
    }
    cell = setup.policy.geometry.factor
    sheet = check_report.example_figure(examples, no_boxes, cell)
    return Report(
        document=document,
        tables=[numbers[0], labels[0], shown[0], budget[0]],
        figures={"examples": sheet},
        findings=findings,
    )


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
