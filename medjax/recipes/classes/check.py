"""Check data about classes before training: counts, sizes, tokens, copies, examples."""

from collections.abc import Sequence

from medjax.recipes.policy import check_report
from medjax.recipes.policy.check_report import Report
from medjax.recipes.policy.checking import Finding
from medjax.recipes.policy.examples import count_tokens, draw_examples
from medjax.recipes.policy.stages import Setup

_EXAMPLES = 10


def examine_classes(setup: Setup, findings: Sequence[Finding]) -> Report:
    """All that the page and the document of a check say of a run's pictures.

    Args:
        setup: Data, policy and encoding of the run.
        findings: What was found already.
    """
    tokens, seen = count_tokens(setup)
    examples = draw_examples(setup, count=_EXAMPLES)
    named = check_report.label_rows(setup.parts.samples)
    if not setup.parts.samples:
        named = {
            part: [record.name for mine, record in seen if mine == part]
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


def no_boxes(answer: str) -> list[tuple[float, float, float, float]]:
    """Answers about classes have no boxes: [].

    Args:
        answer: Any text.
    """
    del answer
    return []
