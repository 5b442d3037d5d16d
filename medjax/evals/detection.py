"""Scores of ranked boxes: COCO's average precision, and FROC.

Both need a confidence for each box, and both stand on one run of the policy: boxes
that it did not write have no confidence, so a curve ends where the run ends. Plain
NumPy on the host.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.evals.box_sets import SetAnswers, pair_overlaps
from medjax.evals.tables import (
    Interval,
    Table,
    check_level,
    draw_groups,
    percentile_interval,
    scores_table,
)

THRESHOLDS = tuple(t / 100 for t in range(50, 100, 5))  # COCO's
RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # false positives an image, of FROC
RECALLS = np.linspace(0.0, 1.0, 101)  # where COCO reads the precision off
NAMES = ("AP", "AP@0.5", "FROC", *(f"s@{rate:g}" for rate in RATES))


class Ranked(NamedTuple):
    """All predicted boxes, the surest first, and how many targets each answer has.

    Equal confidences keep the order of the answers and of the boxes in them.
    """

    hits: Bool[np.ndarray, "T D"]  # by threshold: the box takes a target
    answer: Int[np.ndarray, "D"]  # which answer it is of
    confidence: Float[np.ndarray, "D"]
    structure: Int[np.ndarray, "N"]  # of each answer, numbered
    targets: Int[np.ndarray, "N"]


def rank_boxes(answers: SetAnswers) -> Ranked:
    """Take the targets as COCO does: the surest box first, each its best free target.

    A box whose best free target is below the threshold is a false positive; so is a
    duplicate, since its target is taken.

    Args:
        answers: With a confidence for each box; an answer is an image of COCO, and its
            structure a category.

    Raises:
        ValueError: There are no confidences.
    """
    if answers.confidence is None:
        raise ValueError("boxes without confidence cannot be ranked")
    parts = []
    for n, (boxes, sure) in enumerate(
        zip(answers.boxes, answers.confidence, strict=True)
    ):
        order = np.argsort(-np.asarray(sure, np.float64), kind="stable")
        iou = pair_overlaps(np.asarray(boxes)[order], answers.targets[n])
        taken = np.stack([_take_targets(iou, t) for t in THRESHOLDS])
        parts.append((taken, np.full(len(order), n), np.asarray(sure)[order]))
    hits, answer, confidence = (
        np.concatenate(part, axis=-1) if part else np.zeros((0,))
        for part in (zip(*parts, strict=True) if parts else ((), (), ()))
    )
    order = np.argsort(-confidence, kind="stable")
    return Ranked(
        hits=hits.reshape(len(THRESHOLDS), -1)[:, order].astype(bool),
        answer=answer[order].astype(np.int64),
        confidence=confidence[order],
        structure=np.unique(answers.structure, return_inverse=True)[1].reshape(-1),
        targets=np.array([len(x) for x in answers.targets], np.int64),
    )


def average_precision(
    ranked: Ranked, weights: Int[np.ndarray, "N"] | None = None
) -> Float[np.ndarray, "T"]:
    """COCO's average precision at each IoU of `THRESHOLDS`, the mean over structures.

    Of each structure that has a target the precision at 101 recalls, made falling from
    the right, is averaged; a recall that is not reached has 0. All sizes of boxes
    count. `pycocotools` is the definition.

    Args:
        ranked: From `rank_boxes`.
        weights: How often each answer counts, as in a bootstrap sample; None: once.

    Returns:
        Ten numbers from 0 to 1; NaN where no structure has a target.
    """
    weights = np.ones(len(ranked.targets), int) if weights is None else weights
    found = []
    for structure in np.unique(ranked.structure):
        mine = ranked.structure == structure
        positives = int((weights * ranked.targets)[mine].sum())
        if positives:
            rows = mine[ranked.answer]
            weight = weights[ranked.answer[rows]]
            found.append(_precision(ranked.hits[:, rows], weight, positives))
    if not found:
        return np.full(len(THRESHOLDS), np.nan)
    return np.mean(found, axis=0)


def froc(
    ranked: Ranked, weights: Int[np.ndarray, "N"] | None = None
) -> Float[np.ndarray, "R"]:
    """The share of all targets that are hit at 1/8, 1/4 ... 8 false positives an image.

    A hit has an IoU of 0.5 or more; an image is an answer, one without a target too. A
    rate's number is the best that some threshold on the confidence reaches with no more
    false positives than the rate: nothing is interpolated, and beyond the last box that
    the run wrote the curve stays where it is.

    Args:
        ranked: From `rank_boxes`.
        weights: How often each answer counts, as in a bootstrap sample; None: once.

    Returns:
        A number from 0 to 1 for each of `RATES`; NaN without a target.
    """
    weights = np.ones(len(ranked.targets), int) if weights is None else weights
    positives, images = (weights * ranked.targets).sum(), weights.sum()
    if not positives:
        return np.full(len(RATES), np.nan)
    weight, hits = weights[ranked.answer], ranked.hits[0]
    # A threshold takes all boxes of one confidence, or none of them.
    ends = np.append(ranked.confidence[1:] != ranked.confidence[:-1], True)
    ends = ends[: len(hits)]
    sensitivity = np.append(0, np.cumsum(weight * hits)[ends] / positives)
    false = np.append(0, np.cumsum(weight * ~hits)[ends] / images)
    return np.array([sensitivity[false <= rate].max() for rate in RATES])


def detection_scores(
    ranked: Ranked, weights: Int[np.ndarray, "N"] | None = None
) -> Float[np.ndarray, "S"]:
    """The numbers named in `NAMES`: "AP" over all thresholds, "FROC" over all rates.

    Args:
        ranked: From `rank_boxes`.
        weights: How often each answer counts, as in a bootstrap sample; None: once.
    """
    precision, curve = average_precision(ranked, weights), froc(ranked, weights)
    return np.array([precision.mean(), precision[0], curve.mean(), *curve])


def bootstrap(
    answers: SetAnswers, *, num_samples: int, level: float, seed: int
) -> dict[str, Interval]:
    """Percentile intervals of `detection_scores` under resampled slices.

    A slice that is drawn twice counts twice, with its boxes and its targets.

    Args:
        answers: With confidences, about any number of slices.
        num_samples: How many samples of the slices are drawn, 1 or more.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: An integer of at least 0; the same seed gives the same intervals.

    Raises:
        ValueError: No confidences; a level or a number of samples out of its range.
    """
    check_level(level)
    ranked = rank_boxes(answers)
    values = detection_scores(ranked)
    if not len(answers.read):
        return dict.fromkeys(NAMES, Interval(*[float("nan")] * 3))
    members, drawn = draw_groups(answers.slice_id, num_samples=num_samples, seed=seed)
    samples = np.stack([detection_scores(ranked, row[members]) for row in drawn])
    return {
        name: percentile_interval(value, column, level=level)
        for name, value, column in zip(NAMES, values.tolist(), samples.T, strict=True)
    }


def detection_table(
    results: Mapping[str, SetAnswers], *, num_samples: int, level: float, seed: int
) -> Table:
    """One row a contender that has confidences: average precision and FROC.

    Args:
        results: The answers of each contender by name, in the order of the rows.
        num_samples: How many bootstrap samples are drawn, see `bootstrap`.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Of the draws; the same for every contender.
    """
    drawn = {"num_samples": num_samples, "level": level, "seed": seed}
    return scores_table(
        "ranked boxes: COCO's AP over IoU 0.5 to 0.95, and sensitivity (IoU 0.5) at "
        "false positives an image, duplicates among them; one run, ranked by the mean "
        f"probability of a box's tokens, {100 * level:g} % intervals over slices",
        ("boxes", *NAMES),
        {
            name: (sum(map(len, answers.boxes)), bootstrap(answers, **drawn))
            for name, answers in results.items()
            if answers.confidence is not None
        },
    )


def _take_targets(
    iou: Float[np.ndarray, "p k"], threshold: float
) -> Bool[np.ndarray, "p"]:
    """Which boxes take a target; rows in falling confidence."""
    taken = np.zeros(len(iou), bool)
    free = np.ones(iou.shape[1], bool)
    for row, overlaps in enumerate(iou):
        best = np.where(free, overlaps, -1)
        # Of equal targets COCO takes the last.
        column = len(best) - 1 - int(np.argmax(best[::-1])) if len(best) else 0
        if len(best) and best[column] >= min(threshold, 1 - 1e-10):
            taken[row], free[column] = True, False
    return taken


def _precision(
    hits: Bool[np.ndarray, "T D"], weight: Int[np.ndarray, "D"], positives: int
) -> Float[np.ndarray, "T"]:
    """Average precision of one structure at each threshold."""
    true = np.cumsum(weight * hits, axis=1)
    false = np.cumsum(weight * ~hits, axis=1)
    precision = true / (true + false + np.spacing(1))
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([falling, np.zeros((len(hits), 1))], axis=1)
    found = []
    for recall, row in zip(true / positives, padded, strict=True):
        found.append(row[np.searchsorted(recall, RECALLS, side="left")].mean())
    return np.array(found)
