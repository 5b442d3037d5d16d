"""Scores of predicted boxes, by structure and box size, with intervals, as tables.

N answers, each with its IoU against the one true box, about S image slices. Plain
NumPy on the host. Answers about one slice are not independent, so intervals resample
slices, not answers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from medjax.evals.tables import (
    Interval,
    Table,
    check_same_questions,
    group_intervals,
    scores_table,
)

THRESHOLDS = tuple(t / 100 for t in range(50, 100, 5))
METRICS = ("A@0.5", "A@0.8", "mAP", "mIoU", "parsed")
SIZES = ("< 1 %", "1-5 %", "> 5 %")


class Answers(NamedTuple):
    """What is scored, one row an answer."""

    iou: Float[np.ndarray, "N"]  # 0 where no box could be read
    parsed: Bool[np.ndarray, "N"]  # a box could be read
    structure: Shaped[np.ndarray, "N"]  # name of what a box was to be put round
    # what intervals resample together: the image, or the block of slices it is of
    slice_id: Shaped[np.ndarray, "N"]
    area: Float[np.ndarray, "N"]  # true box / image, 0-1


def accuracy(iou: Float[np.ndarray, "N"], *, threshold: float) -> float:
    """A@t = mean(1[IoU >= t]) (MedLoc-R1), from 0 to 1; NaN without answers.

    Args:
        iou: From 0 to 1 for each of N answers; a NaN gives NaN.
        threshold: t, from 0 to 1, compared in the IoU's own precision: an IoU of 0.7
            in float32 reaches 0.7.
    """
    if not len(iou) or np.isnan(iou).any():
        return float("nan")
    return float(np.mean(iou >= threshold))


def pseudo_map(iou: Float[np.ndarray, "N"]) -> float:
    """Mean of A@t over t = 0.50, 0.55 ... 0.95 (MedLoc-R1); NaN without answers.

    One box an answer and no confidences: this is not COCO's average precision.

    Args:
        iou: From 0 to 1 for each of N answers, 0 where no box could be read; NaN
            gives NaN.
    """
    return float(np.mean([accuracy(iou, threshold=t) for t in THRESHOLDS]))


def scores(answers: Answers) -> dict[str, float]:
    """All scores by name, each from 0 to 1; NaN without answers.

    They are "A@0.5", "A@0.8", "mAP" (`pseudo_map`), "mIoU" and "parsed", a share.

    Args:
        answers: One row an answer, any number of them.

    Raises:
        ValueError: Columns of different lengths, an IoU outside 0-1 or NaN, or one
            above 0 where no box was read.
    """
    _check(answers)
    if not len(answers.iou):
        return dict.fromkeys(METRICS, float("nan"))
    return {
        "A@0.5": accuracy(answers.iou, threshold=0.5),
        "A@0.8": accuracy(answers.iou, threshold=0.8),
        "mAP": pseudo_map(answers.iou),
        "mIoU": float(np.mean(answers.iou, dtype=np.float64)),
        "parsed": float(np.mean(answers.parsed)),
    }


def bootstrap(
    answers: Answers, *, num_samples: int, level: float, seed: int
) -> dict[str, Interval]:
    """Percentile intervals of `scores` under resampled slices (cluster bootstrap).

    Args:
        answers: About any number of slices; with one slice intervals have width 0,
            which says nothing, and without answers all is NaN.
        num_samples: How many times as many slices as there are are drawn with
            replacement, 1 or more; 1000 is usual.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: An integer of at least 0; the same seed gives the same intervals.

    Returns:
        The value over all answers and the ends of its interval, by the names in
        `METRICS`.

    Raises:
        ValueError: Columns of different lengths, an IoU outside 0-1 or NaN, or one
            above 0 where no box was read; a level or a number of samples out of its
            range.
    """
    _check(answers)
    iou = answers.iou
    each = {
        "A@0.5": iou >= 0.5,
        "A@0.8": iou >= 0.8,
        "mAP": np.mean([iou >= t for t in THRESHOLDS], axis=0),
        "mIoU": iou,
        "parsed": answers.parsed,
    }
    return group_intervals(
        each, answers.slice_id, num_samples=num_samples, level=level, seed=seed
    )


def by_structure(answers: Answers) -> dict[str, Answers]:
    """The answers of each structure by its name, in alphabetical order.

    Args:
        answers: One row an answer; a structure without one is not there.
    """
    return {
        str(name): _rows(answers, answers.structure == name)
        for name in np.unique(answers.structure)
    }


def by_size(answers: Answers) -> dict[str, Answers]:
    """The answers by the true box's share of the image: "< 1 %", "1-5 %", "> 5 %".

    1 % and 5 % themselves are in "1-5 %"; a size that no box has is there, empty.

    Args:
        answers: One row an answer; `area` decides.
    """
    small, large = answers.area < 0.01, answers.area > 0.05
    masks = (small, ~small & ~large, large)
    return {n: _rows(answers, m) for n, m in zip(SIZES, masks, strict=True)}


def summary_table(
    results: Mapping[str, Answers],
    *,
    num_samples: int,
    level: float,
    seed: int,
    over: str = "slices",
) -> Table:
    """One row a contender: the scores named in `METRICS`, with their intervals.

    Args:
        results: The answers of each contender (the policy, its warm start, the
            no-image baselines) by name, in the order of the rows.
        num_samples: How many bootstrap samples are drawn, see `bootstrap`.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Of the draws; the same for every contender.
        over: What the title calls that which is drawn together.
    """
    drawn = {"num_samples": num_samples, "level": level, "seed": seed}
    return scores_table(
        f"all answers, {100 * level:g} % intervals over {over}",
        ("n", *METRICS),
        {name: (len(x.iou), bootstrap(x, **drawn)) for name, x in results.items()},
    )


def breakdown_tables(results: Mapping[str, Answers]) -> tuple[Table, Table]:
    """By structure and by box size: the first contender's scores, the others' mIoU.

    Args:
        results: The answers of each contender by name, at least one; all must have
            the same rows in the same order. Groups without an answer get no row.

    Raises:
        ValueError: The contenders did not answer the same questions.
    """
    first, *others = results
    asked = ("structure", "slice_id", "area")
    check_same_questions(
        {n: {c: x._asdict()[c] for c in asked} for n, x in results.items()}
    )

    def table(title: str, split: Mapping[str, Mapping[str, Answers]]) -> Table:
        rows = []
        for group, answers in split[first].items():
            if not len(answers.iou):
                continue
            cells = [*scores(answers).values()]
            cells += [scores(split[name][group])["mIoU"] for name in others]
            rows.append((group, str(len(answers.iou)), *(f"{c:.3f}" for c in cells)))
        header = ("", "n", *METRICS, *(f"mIoU {name}" for name in others))
        return Table(title, header, tuple(rows))

    structures = {name: by_structure(answers) for name, answers in results.items()}
    sizes = {name: by_size(answers) for name, answers in results.items()}
    return (
        table(f"{first} by structure", structures),
        table(f"{first} by box size, share of the image", sizes),
    )


def _check(answers: Answers) -> None:
    lengths = {name: len(column) for name, column in answers._asdict().items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of different lengths: {lengths}")
    outside = np.flatnonzero(~((answers.iou >= 0) & (answers.iou <= 1 + 1e-6)))
    if len(outside):
        row = outside[0]
        raise ValueError(f"answer {row}: IoU {answers.iou[row]}, expected 0 to 1")
    unread = np.flatnonzero((answers.iou > 0) & ~answers.parsed)
    if len(unread):
        row = unread[0]
        raise ValueError(
            f"answer {row}: IoU {answers.iou[row]} without a box; expected 0"
        )


def _rows(answers: Answers, mask: Bool[np.ndarray, "N"]) -> Answers:
    return Answers(*(column[mask] for column in answers))
