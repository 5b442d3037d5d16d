"""Score an evaluation of sets of boxes: tables, answers to keep, the report's page."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from medjax.data.batches import Parts
from medjax.data.boxes.set_baselines import most_common_set, view_sets, whole_image
from medjax.data.boxes.set_records import SetRecord
from medjax.data.prompting.layout import Geometry
from medjax.evals.box_sets import (
    SetAnswers,
    breakdown_tables,
    scores,
    set_scores,
    summary_table,
)
from medjax.evals.detection import (
    NAMES,
    detection_scores,
    detection_table,
    rank_boxes,
)
from medjax.evals.tables import Table
from medjax.recipes.boxes.score import memory_draws
from medjax.recipes.policy.beside import require_beside
from medjax.recipes.policy.score_story import Rated, score_story
from medjax.recipes.policy.scoring import (
    NO_IMAGE,
    Answered,
    remembered,
    rows_of_before,
    write_evaluation,
)
from medjax.recipes.policy.subgroups import subgroup_tables
from medjax.recipes.policy.task import Scored, ScoredStage

SetBaselines = Callable[[Sequence[SetRecord]], dict[str, SetAnswers]]


def score_sets(
    baselines: SetBaselines,
    stage: ScoredStage,
    answered: Answered,
    blank: Answered | None,
    folder: Path,
) -> Scored:
    """Scores of an evaluation, see `ScoreFn`.

    Beside the scores of `evals.box_sets` and `evals.detection` there are `too many`
    (the share of answers with more than 8 boxes, which are not read), `format`,
    `length` (the mean in tokens) and `n`. A score that has nothing to score, such as
    the specificity where every question has a target, is left out.

    Args:
        baselines: Contenders that see no image, from `make_set_baselines`.
        stage: Its name, and how it is evaluated.
        answered: The answers, one a question.
        blank: Those to the same questions about blank pictures; None: nobody asked.
        folder: STAGE/eval/STEP: it gets tables and answers, STAGE above it the report.
    """
    values, records = answered.values, answered.records
    most = answered.predictions["box_valid"].shape[1]
    ours = _set_answers(answered)
    found = scores(ours)
    if ours.confidence is not None:
        ranked = detection_scores(rank_boxes(ours)).tolist()
        found |= dict(zip(NAMES, ranked, strict=True))
    found = {name: value for name, value in found.items() if not np.isnan(value)} | {
        "too many": float(np.mean(values["num_boxes"] > most)),
        "format": float(np.mean(values["well_formed"])),
        "length": float(np.mean(values["length"])),
        "n": len(records),
    }
    if jax.process_index() == 0:
        contenders = {stage.name: ours}
        contenders |= _earlier(stage.before, records)
        require_beside(stage, contenders)
        unseen: Iterable[dict[str, Any]] = ()
        if blank is not None:
            theirs = _set_answers(blank)
            contenders[f"{NO_IMAGE}{stage.name}"] = theirs
            unseen = _rows(blank, theirs)
        contenders |= baselines(records)
        drawn = stage.evaluation.resampling
        tables = [
            summary_table(contenders, **drawn),
            detection_table(contenders, **drawn),
            *breakdown_tables(contenders),
        ]
        lines = _rows(answered, ours)
        write_evaluation(folder, lines, tables, printed=2, blank=unseen)
        rated = Rated(
            "Q",
            {name: set_scores(x).quality for name, x in contenders.items()},
            ours.slice_id,
            "slices",
        )
        _write_page(folder, stage, tables, rated, answered, ours, found)
    return found


def make_set_baselines(parts: Parts, geometry: Geometry, *, seed: int) -> SetBaselines:
    """The baselines without an image as a function of records.

    "whole image" answers by one box round everything, "most common set" by the most
    common number of boxes, at their mean places; see `data.boxes.set_baselines`. They
    are computed at the first call and remembered.

    Args:
        parts: Boxes are remembered of the training part.
        geometry: How images are shown.
        seed: Decides how moved training pictures are moved when they are remembered.
    """

    def answers(records: Sequence[SetRecord]) -> dict[str, SetAnswers]:
        draws = memory_draws(parts.train)
        memory = view_sets(parts.train, geometry, seed=seed, draws=draws)
        guesses = {
            "no image: whole image": whole_image(records),
            "no image: most common set": most_common_set(memory, records),
        }
        read = np.ones(len(records), bool)
        return {n: make_set_answers(x, read, records) for n, x in guesses.items()}

    return remembered(answers)


def make_set_answers(
    boxes: Sequence[Float[np.ndarray, "p 4"]],
    read: np.ndarray,
    records: Sequence[SetRecord],
    confidence: Sequence[Float[np.ndarray, "p"]] | None = None,
) -> SetAnswers:
    """Answered sets beside the true ones and what they are grouped by.

    Args:
        boxes: Of each answer, in pixels of the shown picture; none where no set was
            read.
        read: Whether a set was read.
        records: The questions, in the same order.
        confidence: Of each box; None where the contender has none.
    """
    return SetAnswers(
        boxes=tuple(np.asarray(x, np.float64).reshape(-1, 4) for x in boxes),
        targets=tuple(np.asarray(r.boxes, np.float64) for r in records),
        read=np.asarray(read, bool),
        structure=np.array([r.structure for r in records]),
        slice_id=np.array([r.slice_id for r in records]),
        confidence=None
        if confidence is None
        else tuple(np.asarray(x, np.float64).reshape(-1) for x in confidence),
    )


def _set_answers(answered: Answered) -> SetAnswers:
    kept = answered.predictions["box_valid"]
    each = {
        name: [row[ok] for row, ok in zip(values, kept, strict=True)]
        for name, values in answered.predictions.items()
        if name in ("boxes", "confidence")  # other people's may have none
    }
    return make_set_answers(
        each["boxes"],
        answered.values["parsed"],
        answered.records,
        each.get("confidence"),
    )


def _rows(answered: Answered, ours: SetAnswers) -> Iterator[dict[str, Any]]:
    """A line a question; boxes in pixels of the picture as it was shown."""
    sure = ours.confidence or ((),) * len(answered.records)
    for n, record in enumerate(answered.records):
        yield {
            "sample_id": record.sample_id,
            "slice": record.slice_id,
            "query": record.query,
            "structure": record.structure,
            "targets": _rounded(record.boxes),
            "boxes": _rounded(ours.boxes[n]) if ours.read[n] else None,
            "confidence": [round(float(x), 6) for x in sure[n]],
            "quality": round(float(answered.values["quality"][n]), 6),
            "text": answered.texts[n],
        }


def _rounded(boxes: Iterable[Any]) -> list[list[float]]:
    return [[round(float(x), 2) for x in box] for box in boxes]


def _earlier(
    before: Mapping[str, Path], records: Sequence[SetRecord]
) -> dict[str, SetAnswers]:
    """The answers of earlier stages that were asked the same questions."""
    asked = [(record.sample_id, record.structure) for record in records]
    found = {}
    for name, rows in rows_of_before(before, asked, "structure"):
        boxes = [np.array(row["boxes"] or []) for row in rows]
        sure = [np.array(row["confidence"]) for row in rows]
        found[name] = make_set_answers(
            boxes,
            np.array([row["boxes"] is not None for row in rows]),
            records,
            sure if [*map(len, sure)] == [*map(len, boxes)] else None,
        )
    return found


def _write_page(
    folder: Path,
    stage: ScoredStage,
    tables: Sequence[Table],
    rated: Rated,
    answered: Answered,
    ours: SetAnswers,
    found: Scored,
) -> None:
    from medjax.report.boxes import Overlay
    from medjax.report.page import write_report

    quality = rated.contenders[stage.name]
    overlays = [
        Overlay(
            image=record.image,
            query=record.query,
            truth=record.boxes,
            box=ours.boxes[n] if ours.read[n] else None,
            iou=float(quality[n]),
            score="Q",
            text=answered.texts[n],
        )
        for n, record in enumerate(answered.records)
    ]
    parted = subgroup_tables(rated, answered.records, stage.evaluation)
    words = score_story(rated, stage.earlier, stage.evaluation)
    story = stage.story(folder, words)
    write_report(
        folder.parents[1],
        title=f"{stage.name}, step {folder.name}",
        tables=[*tables, *parted, *stage.told(folder)],
        answers=overlays,
        story=story.lines,
        doubts=story.doubts,
        evaluated=(int(folder.name), found),
    )
