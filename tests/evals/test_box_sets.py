"""Scores of sets of boxes against loops over all pairings, and by hand."""

import itertools

import numpy as np
import pytest

from medjax.evals.box_sets import (
    METRICS,
    SetAnswers,
    bootstrap,
    breakdown_tables,
    by_count,
    by_structure,
    pair_overlaps,
    scores,
    set_scores,
    summary_table,
    take,
)
from medjax.rl.box_sets import box_set_quality
from tests.oracles.box_loops import iou

A, B, C = [0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 10, 6]


def sets(*rows):
    return tuple(np.array(row, float).reshape(-1, 4) for row in rows)


def make(boxes, targets, read=None, slices=None, structures=None, confidence=None):
    n = len(boxes)
    return SetAnswers(
        boxes=sets(*boxes),
        targets=sets(*targets),
        read=np.ones(n, bool) if read is None else np.array(read, bool),
        structure=np.array(structures or ["nodule"] * n),
        slice_id=np.array(slices or [f"slice {i}" for i in range(n)]),
        confidence=confidence,
    )


def random_answers(seed, n=60):
    rng = np.random.default_rng(seed)

    def draw():
        corner = rng.integers(0, 12, (rng.integers(0, 5), 2))
        return np.concatenate([corner, corner + rng.integers(1, 9, corner.shape)], 1)

    boxes, targets = [draw() for _ in range(n)], [draw() for _ in range(n)]
    for i in range(0, n, 3):  # some are nearly right
        boxes[i] = targets[i] + (rng.random(targets[i].shape) < 0.1)
    read = rng.random(n) < 0.9
    boxes = [box if ok else [] for box, ok in zip(boxes, read, strict=True)]
    return make(
        boxes,
        targets,
        read,
        slices=[f"s{i // 3}" for i in range(n)],
        structures=[("nodule", "mass")[i % 2] for i in range(n)],
        confidence=tuple(rng.integers(1, 9, len(x)) / 10 for x in boxes),
    )


def pairings(p, k):
    """Every way to give each of k targets a box of its own, or none."""
    return itertools.permutations([*range(p), *[None] * k], k)


def by_loops(answers):
    """(Q, boxes, targets, hits at 0.5, at 0.8) of each answer."""
    rows = []
    for boxes, targets, read in zip(
        answers.boxes, answers.targets, answers.read, strict=True
    ):
        best, hits = 0.0, [0, 0]
        for chosen in set(pairings(len(boxes), len(targets))):
            found = [
                iou(boxes[b], targets[t]) for t, b in enumerate(chosen) if b is not None
            ]
            best = max(best, sum(found))
            for n, at in enumerate((0.5, 0.8)):
                hits[n] = max(hits[n], sum(x >= at for x in found))
        larger = max(len(boxes), len(targets))
        quality = (best / larger if larger else 1.0) if read else 0.0
        rows.append((quality, len(boxes), len(targets), *hits))
    return np.array(rows, float).T


def test_every_answer_against_all_pairings():
    answers = random_answers(0)
    found = set_scores(answers)
    quality, boxes, targets, half, most = by_loops(answers)
    np.testing.assert_allclose(found.quality, quality, atol=1e-12)
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_array_equal(found.targets, targets)
    np.testing.assert_array_equal(found.hits[0.5], half)
    np.testing.assert_array_equal(found.hits[0.8], most)
    assert half.sum() > most.sum() > 0 and 0.05 < quality.mean() < 0.9
    values = scores(answers)
    assert tuple(values) == METRICS
    total = boxes.sum() + targets.sum()
    assert values["Q"] == pytest.approx(quality.mean())
    assert values["F1@0.5"] == pytest.approx(2 * half.sum() / total)
    assert values["F1@0.8"] == pytest.approx(2 * most.sum() / total)
    none = targets == 0
    assert values["specificity"] == pytest.approx(
        np.mean((boxes == 0)[none] & answers.read[none])
    )
    assert values["count"] == pytest.approx(np.mean((boxes == targets) & answers.read))
    assert values["read"] == pytest.approx(answers.read.mean())


def test_quality_is_that_of_the_reward():
    answers = random_answers(1)
    padded = [
        np.stack([np.pad(x, ((0, 8 - len(x)), (0, 0))) for x in side])
        for side in (answers.boxes, answers.targets)
    ]
    flags = [
        np.arange(8) < np.array([[len(x)] for x in side])
        for side in (answers.boxes, answers.targets)
    ]
    reward = box_set_quality(padded[0], flags[0], padded[1], flags[1])
    np.testing.assert_allclose(
        np.where(answers.read, reward, 0), set_scores(answers).quality, atol=1e-6
    )


def test_hits_are_counted_by_a_matching_of_their_own():
    """The largest sum pairs 1 and 0.34, with one hit at 0.5; two pairs reach 0.51."""
    boxes = [[0, 0, 100, 100], [0, 0, 100, 51]]
    targets = [[0, 0, 100, 100], [0, 0, 51, 100]]
    found = set_scores(make([boxes], [targets]), thresholds=(0.5, 0.6))
    assert found.hits[0.5] == 2 and found.hits[0.6] == 1
    assert found.overlap == pytest.approx(1 + 51 * 51 / (2 * 5100 - 51 * 51))


@pytest.mark.parametrize(
    ("boxes", "targets", "read", "expected"),
    [
        ([[]], [[]], [1], {"Q": 1, "specificity": 1, "count": 1, "read": 1}),
        ([[]], [[]], [0], {"Q": 0, "specificity": 0, "count": 0, "read": 0}),
        ([[A]], [[]], [1], {"Q": 0, "specificity": 0, "F1@0.5": 0, "count": 0}),
        ([[]], [[A]], [1], {"Q": 0, "F1@0.5": 0, "count": 0, "read": 1}),
        ([[A, B]], [[A, B]], [1], {"Q": 1, "F1@0.8": 1, "matched IoU": 1}),
        ([[B, A]], [[A, B]], [1], {"Q": 1, "F1@0.8": 1, "matched IoU": 1}),
        ([[A, A]], [[A]], [1], {"Q": 0.5, "F1@0.5": 2 / 3, "matched IoU": 1}),
        ([[C]], [[A]], [1], {"Q": 0.6, "F1@0.5": 1, "F1@0.8": 0, "count": 1}),
        ([[C, B]], [[A]], [1], {"Q": 0.3, "matched IoU": 0.6, "count": 0}),
    ],
)
def test_by_hand(boxes, targets, read, expected):
    values = scores(make(boxes, targets, read))
    for name, value in expected.items():
        assert values[name] == pytest.approx(value), name
    if any(map(len, targets)):
        assert np.isnan(values["specificity"])  # there is no question without a target


def test_no_answers_are_nan():
    empty = take(random_answers(2), np.zeros(60, bool))
    assert len(empty.boxes) == 0
    assert all(np.isnan(x) for x in scores(empty).values())


def test_overlaps_of_empty_and_swapped_boxes_are_zero():
    table = pair_overlaps([A, [10, 10, 0, 0], [3, 3, 3, 9]], [A, [10, 0, 0, 10]])
    np.testing.assert_array_equal(table, [[1, 0], [0, 0], [0, 0]])
    assert pair_overlaps(np.zeros((0, 4)), [A]).shape == (0, 1)


def test_intervals_by_literal_resampling_of_slices():
    answers = random_answers(3)
    found = bootstrap(answers, num_samples=60, level=0.9, seed=7)
    names = np.unique(answers.slice_id)
    drawn = np.random.default_rng(7).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=60
    )
    means = {name: [] for name in METRICS}
    for row in drawn:
        rows = [
            i
            for name, times in zip(names, row, strict=True)
            for i in np.flatnonzero(answers.slice_id == name).tolist() * times
        ]
        sample = SetAnswers(
            *(
                tuple(x[i] for i in rows) if isinstance(x, tuple) else x[rows]
                for x in answers
            )
        )
        for name, value in scores(sample).items():
            means[name].append(value)
    for name, interval in found.items():
        assert interval.value == pytest.approx(scores(answers)[name])
        low, high = np.percentile(means[name], [5, 95])
        assert (interval.low, interval.high) == pytest.approx((low, high))
        assert interval.low < interval.value < interval.high


def test_groups_cover_all_answers():
    answers = random_answers(4)
    assert list(by_structure(answers)) == ["mass", "nodule"]
    counts = by_count(answers)
    assert list(counts) == ["none", "1", "2-3", "4-8"]
    assert sum(len(x.read) for x in counts.values()) == 60
    assert all(len(t) == 1 for t in counts["1"].targets)
    assert not any(len(t) for t in counts["none"].targets)
    assert all(t.shape[1] == 4 for t in counts["4-8"].targets)
    assert len(counts["1"].confidence) == len(counts["1"].boxes)


def test_tables():
    answers = random_answers(5)
    rows = {"policy": answers, "no image": answers._replace(confidence=None)}
    table = summary_table(rows, num_samples=20, level=0.9, seed=0)
    assert table.header == ("", "n", *METRICS) and len(table.rows) == 2
    assert table.rows[0][1] == "60" and "[" in table.rows[0][2]
    structures, counts = breakdown_tables(rows)
    assert [row[0] for row in structures.rows] == ["mass", "nodule"]
    assert [row[0] for row in counts.rows] == ["none", "1", "2-3", "4-8"]
    assert counts.header[-1] == "Q no image"
    other = answers._replace(structure=answers.structure[::-1])
    with pytest.raises(ValueError, match="different questions: their structure"):
        breakdown_tables({"policy": answers, "other": other})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read": np.ones(59, bool)}, "different lengths"),
        ({"read": np.zeros(60, bool)}, "could not be read"),
        ({"boxes": (np.full((1, 4), np.nan),) * 60}, "four finite"),
        ({"targets": (np.zeros((1, 3)),) * 60}, "four finite"),
        ({"confidence": (np.zeros(9),) * 60}, "one number for each"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        scores(random_answers(6)._replace(**change))
