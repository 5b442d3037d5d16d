"""Score an evaluation of boxes: tables, answers to keep, and the report's page."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from medjax.data.batches import Parts
from medjax.data.boxes.baselines import (
    Targets,
    mean_box,
    nearest_box,
    record_targets,
    view_targets,
)
from medjax.data.boxes.batches import Record
from medjax.data.boxes.probe import probe_boxes
from medjax.data.boxes.views import Views
from medjax.data.prompting.layout import Geometry
from medjax.data.volumes.atlas import PLANES
from medjax.data.volumes.splits import BLOCK
from medjax.evals.boxes import (
    Answers,
    breakdown_tables,
    scores,
    summary_table,
)
from medjax.evals.tables import Table
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
from medjax.rl.boxes import box_iou

Baselines = Callable[[Sequence[Record]], dict[str, Answers]]

# What the no-image baselines remember: so many moved pictures of a slice, and fewer
# where that makes more than so many pictures in all.
_MEMORY_DRAWS, _MEMORY = 8, 4000
# The linear probe has to read pictures: it is content with fewer. Its penalty was
# chosen on the validation part of the demo (mIoU 0.578, 0.595, 0.600, 0.597, 0.580,
# 0.530 with 0.03, 0.1, 0.3, 1, 3, 10).
_PROBED, _SIDE, _PENALTY = 1000, 14, 0.3


def score(
    baselines: Baselines,
    stage: ScoredStage,
    answered: Answered,
    blank: Answered | None,
    folder: Path,
) -> Scored:
    """Scores of an evaluation, see `ScoreFn`.

    Beside the scores of `evals.boxes` there are `format` (the share of well-formed
    answers), `length` (their mean in tokens) and `n` (how many there are).

    Args:
        baselines: Contenders without a policy, from `make_baselines`.
        stage: Its name, and how it is evaluated.
        answered: The answers, one a question.
        blank: Those to the same questions about blank pictures; None: nobody asked.
        folder: STAGE/eval/STEP: it gets tables and answers, STAGE above it the report.
    """
    values, records = answered.values, answered.records
    ours = _box_answers(answered)
    found = scores(ours) | {
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
            contenders[f"{NO_IMAGE}{stage.name}"] = _box_answers(blank)
            unseen = _rows(blank)
        contenders |= baselines(records)
        over = "blocks of slices" if any(map(is_slice, records)) else "slices"
        tables = [
            summary_table(contenders, over=over, **stage.evaluation.resampling),
            *breakdown_tables(contenders),
        ]
        write_evaluation(folder, _rows(answered), tables, blank=unseen)
        rated = Rated(
            "A@0.5",
            {n: np.asarray(x.iou >= 0.5, np.float64) for n, x in contenders.items()},
            ours.slice_id,
            over,
        )
        _write_page(folder, stage, tables, rated, answered, found)
    return found


def make_baselines(parts: Parts, geometry: Geometry, *, seed: int) -> Baselines:
    """The baselines as a function of records: `no_image_answers`, then a linear probe.

    They are computed at its first call. Later calls give the same answers, whatever
    records they name: every evaluation of a run asks the same questions.

    Args:
        parts: Boxes are remembered of the training part.
        geometry: How images are shown, which boxes are measured in.
        seed: Decides how moved training pictures are moved when they are remembered.
    """
    return remembered(partial(_baseline_answers, parts, geometry, seed=seed))


def _baseline_answers(
    parts: Parts, geometry: Geometry, records: Sequence[Record], *, seed: int
) -> dict[str, Answers]:
    guesses = no_image_answers(parts, geometry, records, seed=seed)
    boxes = probe_boxes(
        parts.train,
        records,
        side=_SIDE,
        draws=min(_MEMORY_DRAWS, max(1, _PROBED // parts.train.count)),
        most=_PROBED,
        penalty=_PENALTY,
        seed=seed,
    )
    iou = _iou(boxes, record_targets(records))
    return guesses | {
        "linear probe": make_answers(iou, np.ones(len(boxes), bool), records)
    }


def no_image_answers(
    parts: Parts, geometry: Geometry, records: Sequence[Record], *, seed: int
) -> dict[str, Answers]:
    """What the two baselines that see no image score on the records.

    "mean box" answers by the structure's mean box in that plane, "nearest slice" by its
    mean box in the nearest training slice: it knows where the slice lies.

    Args:
        parts: Boxes are remembered of the training part.
        geometry: How images are shown, which boxes are measured in.
        records: What is asked, at least one question.
        seed: Decides how moved training pictures are moved when they are remembered.
    """
    draws = memory_draws(parts.train)
    memory = view_targets(parts.train, geometry, seed=seed, draws=draws)
    asked = record_targets(records)
    guesses = {
        f"{NO_IMAGE}mean box": mean_box(memory, asked),
        f"{NO_IMAGE}nearest slice": nearest_box(memory, asked),
    }
    return {
        name: make_answers(_iou(boxes, asked), np.ones(len(boxes), bool), records)
        for name, boxes in guesses.items()
    }


def memory_draws(train: Views) -> int:
    """How often baselines without an image look at each view, 1 or more.

    Args:
        train: Of many views each is looked at less often.
    """
    return min(_MEMORY_DRAWS, max(1, _MEMORY // train.count))


def make_answers(
    iou: np.ndarray, parsed: np.ndarray, records: Sequence[Record]
) -> Answers:
    """Scores beside what they are grouped by.

    Args:
        iou: The overlap of each answer with its box, 0 to 1; 0 where no box was read.
        parsed: Whether a box was read.
        records: The questions, in the same order.
    """
    return Answers(
        iou=np.asarray(iou, np.float64),
        parsed=np.asarray(parsed, bool),
        structure=np.array([r.structure for r in records]),
        slice_id=np.array([block_of(r) for r in records]),
        area=np.array([r.area_fraction for r in records]),
    )


def block_of(record: Record) -> str:
    """What intervals resample together: a block of slices, or a picture that is none.

    Neighbouring slices are near copies.

    Args:
        record: Its plane ends with the plane of the volume that it is a slice of.
    """
    if not is_slice(record):
        return record.slice_id
    return f"{record.plane} block {record.position // BLOCK}"


def is_slice(record: Record) -> bool:
    """Whether the picture is a slice of a volume, whose plane its record names.

    Args:
        record: Of a question.
    """
    return record.plane.split()[-1:] in [[plane] for plane in PLANES]


def _box_answers(answered: Answered) -> Answers:
    values = answered.values
    return make_answers(values["iou"], values["parsed"], answered.records)


def _iou(boxes: np.ndarray, asked: Targets) -> np.ndarray:
    return np.asarray(box_iou(boxes.astype(np.float32), asked.boxes))


def _rows(answered: Answered) -> Iterator[dict[str, Any]]:
    """A line a question; boxes in pixels of the picture as it was shown."""
    boxes, values = answered.predictions["boxes"], answered.values
    for n, record in enumerate(answered.records):
        parsed = bool(values["parsed"][n])
        yield {
            "sample_id": record.sample_id,
            "slice": record.slice_id,
            **({"group": block_of(record)} if is_slice(record) else {}),
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
    for name, rows in rows_of_before(before, asked, "structure"):
        iou = np.array([row["iou"] for row in rows])
        parsed = np.array([row["box"] is not None for row in rows])
        found[name] = make_answers(iou, parsed, records)
    return found


def _write_page(
    folder: Path,
    stage: ScoredStage,
    tables: Sequence[Table],
    rated: Rated,
    answered: Answered,
    found: Scored,
) -> None:
    from medjax.report.boxes import Overlay
    from medjax.report.page import write_report

    boxes, values = answered.predictions["boxes"], answered.values
    overlays = [
        Overlay(
            image=record.image,
            query=record.query,
            truth=record.box,
            box=boxes[n] if values["parsed"][n] else None,
            iou=float(values["iou"][n]),
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
