"""Score an evaluation of boxes: tables, answers to keep, and the report's page."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from medjax.evals.tables import render_text
from medjax.recipes.grounding_data import make_answers
from medjax.runtime.writer import write_atomic

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
    before: Path | None,
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
        before: evaluation folders of the stage before, for a row of its own.
    """

    def score(results: Iterable[Any], folder: Path) -> Mapping[str, Any]:
        kept, records, boxes, texts = [], [], [], []
        for predictions, metrics, rows in results:
            valid = np.asarray(metrics["valid"])  # the other rows have no record
            kept.append({k: np.asarray(v)[valid] for k, v in metrics.items()})
            records += rows
            boxes += list(np.asarray(predictions.boxes)[valid])
            texts += [
                tokenizer.decode(tokens[mask], skip_special_tokens=True)
                for tokens, mask, ok in zip(
                    predictions.tokens, predictions.mask, valid, strict=True
                )
                if ok
            ]
        values = {
            name: np.concatenate([part[name] for part in kept]) for name in kept[0]
        }
        ours = make_answers(values["iou"], values["parsed"], records)
        if jax.process_index() == 0:
            contenders = {stage: ours} | _earlier(before, records) | baselines(records)
            tables = [
                summary_table(
                    contenders, num_samples=num_samples, level=level, seed=seed
                ),
                *breakdown_tables(contenders),
            ]
            folder.mkdir(parents=True, exist_ok=True)
            _write_answers(folder / "answers.jsonl", records, values, boxes, texts)
            text = "\n\n".join(render_text(table) for table in tables) + "\n"
            write_atomic(folder / "tables.txt", text)
            print(f"\n{render_text(tables[0])}\n", flush=True)  # noqa: T201
            _write_page(folder, stage, tables, records, values, boxes)
        return scores(ours) | {
            "format": float(np.mean(values["well_formed"])),
            "length": float(np.mean(values["length"])),
            "n": len(records),
        }

    return score


def _write_answers(
    path: Path,
    records: Sequence[Record],
    values: Mapping[str, np.ndarray],
    boxes: Sequence[np.ndarray],
    texts: Sequence[str],
) -> None:
    """A line a question; boxes in pixels of the picture as it was shown."""
    lines = []
    for n, record in enumerate(records):
        parsed = bool(values["parsed"][n])
        row = {
            "sample_id": record.sample_id,
            "slice": record.slice_id,
            "query": record.query,
            "structure": record.structure,
            "target": [round(float(x), 2) for x in record.box],
            "box": [round(float(x), 2) for x in boxes[n]] if parsed else None,
            "iou": round(float(values["iou"][n]), 6),
            "text": texts[n],
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    write_atomic(path, "\n".join(lines) + "\n")


def _earlier(before: Path | None, records: Sequence[Record]) -> dict[str, Answers]:
    """The answers of the stage before, if it was asked the same questions."""
    found = (
        sorted(before.glob("*/answers.jsonl"), key=lambda p: int(p.parent.name))
        if (before is not None)
        else []
    )
    if not found:
        return {}
    rows = [json.loads(x) for x in found[-1].read_text(encoding="utf-8").splitlines()]
    asked = [(record.sample_id, record.structure) for record in records]
    if [(row["sample_id"], row["structure"]) for row in rows] != asked:
        return {}
    iou = np.array([row["iou"] for row in rows])
    parsed = np.array([row["box"] is not None for row in rows])
    return {found[-1].parts[-4]: make_answers(iou, parsed, records)}


def _write_page(
    folder: Path,
    stage: str,
    tables: Sequence[Any],
    records: Sequence[Record],
    values: Mapping[str, np.ndarray],
    boxes: Sequence[np.ndarray],
) -> None:
    from medjax.report.overlays import Overlay
    from medjax.report.page import write_report

    overlays = [
        Overlay(
            image=record.image,
            query=record.query,
            truth=record.box,
            box=boxes[n] if values["parsed"][n] else None,
            iou=float(values["iou"][n]),
        )
        for n, record in enumerate(records)
    ]
    write_report(
        folder.parents[1],
        title=f"{stage}, step {folder.name}",
        tables=tables,
        answers=overlays,
        note="Research software, not a medical device.",
    )
