"""Score an evaluation of boxes: tables, answers to keep, and the report's page."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from medjax.data.pipeline import Record
from medjax.evals.grounding import (
    Answers,
    breakdown_tables,
    scores,
    summary_table,
)
from medjax.recipes.grounding_data import make_answers
from medjax.recipes.scoring import (
    NOTE,
    Answered,
    collect,
    earlier_rows,
    write_evaluation,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def make_score(
    stage: str,
    tokenizer: "PreTrainedTokenizerBase",
    baselines: Callable[[Sequence[Record]], dict[str, Answers]],
    *,
    num_samples: int,
    level: float,
    seed: int,
    before: Mapping[str, Path],
) -> Callable[[Iterable[Any], Path], Mapping[str, Any]]:
    """A function that scores a stage's results and writes them into a folder.

    The folder gets answers.jsonl (a line a question) and the tables as text; the
    stage's folder above it gets `report.html` and its figures. Process 0 writes.

    Args:
        stage: its name in the tables.
        tokenizer: to write answers down.
        baselines: what contenders without an image score on the same records.
        num_samples: of the bootstrap.
        level: of its intervals.
        seed: of it.
        before: earlier evaluations, for rows of their own; see `earlier_rows`.
    """

    def score(results: Iterable[Any], folder: Path) -> Mapping[str, Any]:
        answered = collect(results, tokenizer)
        values, records = answered.values, answered.records
        ours = make_answers(values["iou"], values["parsed"], records)
        if jax.process_index() == 0:
            contenders = {stage: ours}
            contenders |= _earlier(before, records) | baselines(records)
            tables = [
                summary_table(
                    contenders, num_samples=num_samples, level=level, seed=seed
                ),
                *breakdown_tables(contenders),
            ]
            write_evaluation(folder, _rows(answered), tables)
            _write_page(folder, stage, tables, answered)
        return scores(ours) | {
            "format": float(np.mean(values["well_formed"])),
            "length": float(np.mean(values["length"])),
            "n": len(records),
        }

    return score


def _rows(answered: Answered) -> Iterator[dict[str, Any]]:
    """A line a question; boxes in pixels of the picture as it was shown."""
    boxes, values = answered.predictions["boxes"], answered.values
    for n, record in enumerate(answered.records):
        parsed = bool(values["parsed"][n])
        yield {
            "sample_id": record.sample_id,
            "slice": record.slice_id,
            "query": record.query,
            "structure": record.structure,
            "target": [round(float(x), 2) for x in record.box],
            "box": [round(float(x), 2) for x in boxes[n]] if parsed else None,
            "iou": round(float(values["iou"][n]), 6),
            "text": answered.texts[n],
        }


def _earlier(
    before: Mapping[str, Path], records: Sequence[Record]
) -> dict[str, Answers]:
    """The answers of earlier stages that were asked the same questions."""
    asked = [(record.sample_id, record.structure) for record in records]
    found = {}
    for name, folder in before.items():
        rows = earlier_rows(folder)
        if [(row["sample_id"], row["structure"]) for row in rows] == asked:
            iou = np.array([row["iou"] for row in rows])
            parsed = np.array([row["box"] is not None for row in rows])
            found[name] = make_answers(iou, parsed, records)
    return found


def _write_page(
    folder: Path, stage: str, tables: Sequence[Any], answered: Answered
) -> None:
    from medjax.report.overlays import Overlay
    from medjax.report.page import write_report

    boxes, values = answered.predictions["boxes"], answered.values
    overlays = [
        Overlay(
            image=record.image,
            query=record.query,
            truth=record.box,
            box=boxes[n] if values["parsed"][n] else None,
            iou=float(values["iou"][n]),
        )
        for n, record in enumerate(answered.records)
    ]
    write_report(
        folder.parents[1],
        title=f"{stage}, step {folder.name}",
        tables=tables,
        answers=overlays,
        note=NOTE,
    )
