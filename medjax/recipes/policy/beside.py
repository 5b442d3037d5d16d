"""Answers of other runs as rows of an evaluation's tables: SFT beside GRPO, say.

They are compared on the same questions or refused, unlike earlier stages of the run,
which are left out where they were asked others.
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from medjax.recipes.policy.scoring import earlier_rows
from medjax.recipes.policy.task import Evaluation, ScoredStage

RUN = "run: "  # before the names of rows of other runs


def rows_beside(evaluation: Evaluation) -> dict[str, Path]:
    """A row's name -> the folder of its answers, see `earlier_rows`.

    Args:
        evaluation: Its `beside` names runs and their folders; None or {} gives none.

    Raises:
        FileNotFoundError: There are no answers in a folder.
    """
    found = {}
    for name, place in (evaluation.beside or {}).items():
        if not earlier_rows(Path(place)):
            raise FileNotFoundError(
                f"evaluation.beside.{name}: no answers.jsonl in {place} or in a folder "
                "of it that is named by a step; expected RUN/STAGE/eval of a run that "
                "has ended"
            )
        found[f"{RUN}{name}"] = Path(place)
    return found


def check_questions(
    evaluation: Evaluation, batches: Callable[[], Iterable[tuple[Any, Any]]]
) -> None:
    """Refuse runs beside this one that were asked about other pictures.

    Args:
        evaluation: Without a `beside` nothing is drawn.
        batches: The evaluation's; with `no_image` the second half is left out.

    Raises:
        ValueError: The number of a question, or its picture, is another one.
    """
    beside = rows_beside(evaluation)
    if not beside:
        return
    records = [record for _, some in batches() for record in some]
    if evaluation.no_image:
        records = records[: len(records) // 2]
    asked = [(record.sample_id, record.slice_id) for record in records]
    for name, place in beside.items():
        rows = [
            (row["sample_id"], row.get("slice", row.get("picture")))
            for row in earlier_rows(place)
        ]
        if rows != asked:
            raise ValueError(_other(name, place))


def require_beside(stage: ScoredStage, contenders: Collection[str]) -> None:
    """Refuse an evaluation in whose tables a run that was named is missing.

    Args:
        stage: Its evaluation names the runs.
        contenders: The names of the rows there are.

    Raises:
        ValueError: A run answered other questions, or their right answers differ.
    """
    for name, place in rows_beside(stage.evaluation).items():
        if name not in contenders:
            raise ValueError(_other(name, place))


def _other(name: str, place: Path) -> str:
    return (
        f"evaluation.beside.{name.removeprefix(RUN)}: the answers in {place} are not "
        "about the questions of this evaluation; expected the same data, split, "
        "data.test, evaluation.seed and evaluation.limit in both configs"
    )
