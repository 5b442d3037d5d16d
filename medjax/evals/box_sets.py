"""Scores of predicted sets of boxes, with intervals, as tables.

N answers, each a set of boxes held against a true set, either of which may be empty.
Plain NumPy on the host, in float64. Answers about one slice are not independent, so
intervals resample slices. What needs a confidence is in `detection.py`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.optimize import linear_sum_assignment

from medjax.evals.tables import (
    Interval,
    Table,
    check_same_questions,
    ratio_intervals,
    scores_table,
)

METRICS = (
    "Q",
    "F1@0.5",
    "F1@0.8",
    "matched IoU",
    "specificity",
    "count",
    "read",
)
COUNTS = ("none", "1", "2-3", "4-8")


class SetAnswers(NamedTuple):
    """What is scored, one entry an answer; boxes are (x1, y1, x2, y2) in pixels."""

    boxes: tuple[Float[np.ndarray, "p 4"], ...]  # none where no set could be read
    targets: tuple[Float[np.ndarray, "k 4"], ...]
    read: Bool[np.ndarray, "N"]  # a set could be read, perhaps the empty one
    structure: Shaped[np.ndarray, "N"]  # name of what was to be found
    slice_id: Shaped[np.ndarray, "N"]  # image that the answer is about
    # of each box, to rank them by; None where the contender has none
    confidence: tuple[Float[np.ndarray, "p"], ...] | None = None


class SetScores(NamedTuple):
    """Numbers of each answer that scores are made of."""

    quality: Float[np.ndarray, "N"]  # Q, 0 where no set could be read
    boxes: Float[np.ndarray, "N"]  # how many were answered
    targets: Float[np.ndarray, "N"]
    hits: Mapping[float, Float[np.ndarray, "N"]]  # by IoU: most pairs that reach it
    matched: Float[np.ndarray, "N"]  # pairs of the matching that overlap
    overlap: Float[np.ndarray, "N"]  # the sum of their IoU


def pair_overlaps(
    boxes: Float[np.ndarray, "p 4"], targets: Float[np.ndarray, "k 4"]
) -> Float[np.ndarray, "p k"]:
    """IoU of every box with every target in float64; 0 where either is empty.

    Args:
        boxes: p corners, perhaps none; swapped ones are empty.
        targets: k corners, perhaps none.
    """
    a = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    b = np.asarray(targets, np.float64).reshape(1, -1, 4)
    sides = [np.maximum(x[..., 2:] - x[..., :2], 0) for x in (a, b)]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    common = common * (sides[0].prod(-1) > 0) * (sides[1].prod(-1) > 0)
    union = sides[0].prod(-1) + sides[1].prod(-1) - common
    return common / np.where(union > 0, union, 1)


def set_scores(
    answers: SetAnswers, thresholds: tuple[float, ...] = (0.5, 0.8)
) -> SetScores:
    """Exact matchings of every answer with its target.

    Args:
        answers: Any number of them.
        thresholds: The IoU that a pair must reach to be a hit; pairs are chosen so that
            as many as possible do.

    Raises:
        ValueError: Columns of different lengths, a box that is not four finite numbers,
            or boxes where no set could be read.
    """
    _check(answers)
    rows = []
    for boxes, targets, read in zip(
        answers.boxes, answers.targets, answers.read, strict=True
    ):
        iou = pair_overlaps(boxes, targets)
        pairs = iou[linear_sum_assignment(iou, maximize=True)]
        hits = [
            int((iou >= t)[linear_sum_assignment(iou >= t, maximize=True)].sum())
            for t in thresholds
        ]
        larger = max(iou.shape)
        quality = (pairs.sum() / larger if larger else 1.0) if read else 0.0
        rows.append((quality, *iou.shape, (pairs > 0).sum(), pairs.sum(), *hits))
    columns = np.array(rows, np.float64).reshape(-1, 5 + len(thresholds)).T
    quality, boxes, targets, matched, overlap, *hits = columns
    by_iou = dict(zip(thresholds, hits, strict=True))
    return SetScores(quality, boxes, targets, by_iou, matched, overlap)


def scores(answers: SetAnswers) -> dict[str, float]:
    """All scores by name, each from 0 to 1; NaN where there is nothing to score.

    "Q" is the mean quality of the sets (`medjax.rl.box_set_quality`); "F1@t" = 2 hits /
    (boxes + targets) over all answers, a hit being a pair of IoU t or more, as many as
    can be made; "matched IoU" the mean over the pairs of the best matching that
    overlap; "specificity" the share of questions without a target that were answered so
    (an answer that cannot be read is none of them); "count" the share of answers with
    the right number of boxes; "read" the share that could be read.

    Args:
        answers: One entry an answer, any number of them.

    Raises:
        ValueError: See `set_scores`.
    """
    with np.errstate(invalid="ignore"):  # of nothing: NaN
        return {
            name: float(np.divide(above.sum(), below.sum()))
            for name, (above, below) in _ratios(answers).items()
        }


def bootstrap(
    answers: SetAnswers, *, num_samples: int, level: float, seed: int
) -> dict[str, Interval]:
    """Percentile intervals of `scores` under resampled slices (cluster bootstrap).

    Args:
        answers: About any number of slices.
        num_samples: How many times as many slices as there are are drawn with
            replacement, 1 or more; 1000 is usual.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: An integer of at least 0; the same seed gives the same intervals.

    Raises:
        ValueError: See `set_scores`; a level or a number of samples out of its range.
    """
    return ratio_intervals(
        _ratios(answers),
        answers.slice_id,
        num_samples=num_samples,
        level=level,
        seed=seed,
    )


def by_structure(answers: SetAnswers) -> dict[str, SetAnswers]:
    """The answers about each structure by its name, in alphabetical order.

    Args:
        answers: One entry an answer; a structure without one is not there.
    """
    return {
        str(name): take(answers, answers.structure == name)
        for name in np.unique(answers.structure)
    }


def by_count(answers: SetAnswers) -> dict[str, SetAnswers]:
    """The answers by the true number of boxes: "none", "1", "2-3", "4-8".

    Args:
        answers: One entry an answer; a number that no target has is there, empty.
    """
    number = np.array([len(x) for x in answers.targets], np.int64)
    masks = (number == 0, number == 1, (number > 1) & (number < 4), number > 3)
    return {n: take(answers, m) for n, m in zip(COUNTS, masks, strict=True)}


def take(answers: SetAnswers, mask: Bool[np.ndarray, "N"]) -> SetAnswers:
    """The answers that are marked.

    Args:
        answers: N of them.
        mask: True where one is kept.
    """
    kept = np.flatnonzero(mask)
    columns = (
        None
        if x is None
        else tuple(x[i] for i in kept)
        if isinstance(x, tuple)
        else x[mask]
        for x in answers
    )
    return SetAnswers(*columns)


def summary_table(
    results: Mapping[str, SetAnswers], *, num_samples: int, level: float, seed: int
) -> Table:
    """One row a contender: the scores named in `METRICS`, with their intervals.

    Args:
        results: The answers of each contender by name, in the order of the rows.
        num_samples: How many bootstrap samples are drawn, see `bootstrap`.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Of the draws; the same for every contender.
    """
    drawn = {"num_samples": num_samples, "level": level, "seed": seed}
    return scores_table(
        f"all answers, sets of boxes, {100 * level:g} % intervals over slices",
        ("n", *METRICS),
        {name: (len(x.read), bootstrap(x, **drawn)) for name, x in results.items()},
    )


def breakdown_tables(results: Mapping[str, SetAnswers]) -> tuple[Table, Table]:
    """By structure and by true number of boxes: one contender's scores, the others' Q.

    Args:
        results: The answers of each contender by name, at least one, the first being
            shown whole; all must have the same questions in the same order.

    Raises:
        ValueError: The contenders did not answer the same questions.
    """
    first, *others = results
    asked = ("structure", "slice_id")
    check_same_questions(
        {n: {c: x._asdict()[c] for c in asked} for n, x in results.items()}
    )

    def table(title: str, split: Mapping[str, Mapping[str, SetAnswers]]) -> Table:
        rows = []
        for group, answers in split[first].items():
            if len(answers.read):
                cells = [*scores(answers).values()]
                cells += [scores(split[name][group])["Q"] for name in others]
                shown = ("-" if np.isnan(c) else f"{c:.3f}" for c in cells)
                rows.append((group, str(len(answers.read)), *shown))
        header = ("", "n", *METRICS, *(f"Q {name}" for name in others))
        return Table(title, header, tuple(rows))

    structures = {name: by_structure(answers) for name, answers in results.items()}
    counts = {name: by_count(answers) for name, answers in results.items()}
    return (
        table(f"{first} by structure", structures),
        table(f"{first} by true number of boxes", counts),
    )


def _ratios(
    answers: SetAnswers,
) -> dict[str, tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]]:
    """What is counted and what it is counted of, by score."""
    found = set_scores(answers)
    one = np.ones(len(answers.read))
    negative = (found.targets == 0).astype(float)
    said_none = answers.read & (found.boxes == 0)
    right_count = answers.read & (found.boxes == found.targets)
    return {
        "Q": (found.quality, one),
        "F1@0.5": (2 * found.hits[0.5], found.boxes + found.targets),
        "F1@0.8": (2 * found.hits[0.8], found.boxes + found.targets),
        "matched IoU": (found.overlap, found.matched),
        "specificity": (negative * said_none, negative),
        "count": (right_count.astype(float), one),
        "read": (np.asarray(answers.read, float), one),
    }


def _check(answers: SetAnswers) -> None:
    lengths = {n: len(x) for n, x in answers._asdict().items() if x is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of different lengths: {lengths}")
    for row, boxes in enumerate(answers.boxes):
        for name, found in (("boxes", boxes), ("targets", answers.targets[row])):
            if np.shape(found)[1:] != (4,) or not np.all(np.isfinite(found)):
                raise ValueError(
                    f"answer {row}: {name} {found}; expected rows of four finite "
                    "numbers (x1, y1, x2, y2)"
                )
        if len(boxes) and not answers.read[row]:
            raise ValueError(f"answer {row}: boxes, but it could not be read")
        if answers.confidence is not None:
            if np.shape(answers.confidence[row]) != (len(boxes),):
                raise ValueError(
                    f"answer {row}: confidence of shape "
                    f"{np.shape(answers.confidence[row])}; expected one number for "
                    f"each of {len(boxes)} boxes"
                )
