"""Box scores against plain loops, exact cases and the bootstrap drawn by hand."""

import numpy as np
import pytest

from medjax.evals import boxes


def make(num=200, slices=20, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    parsed = rng.random(num) < 0.9
    iou = np.where(parsed, rng.random(num), 0).astype(dtype)
    return boxes.Answers(
        iou,
        parsed,
        rng.choice(["caudate", "putamen", "thalamus"], num),
        rng.integers(0, slices, num),
        rng.random(num) * 0.1,
    )


def loop_scores(answers):
    """Each number counted answer by answer."""
    n = len(answers.iou)
    at = {}
    for k in range(50, 100, 5):
        at[k] = sum(1 for v in answers.iou if float(v) >= k / 100) / n
    return {
        "A@0.5": at[50],
        "A@0.8": at[80],
        "mAP": sum(at.values()) / 10,
        "mIoU": sum(float(v) for v in answers.iou) / n,
        "parsed": sum(bool(p) for p in answers.parsed) / n,
    }


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_the_loop(seed):
    answers = make(seed=seed)
    # Sums of 200 numbers in float64: rounding only.
    assert boxes.scores(answers) == pytest.approx(loop_scores(answers), abs=1e-12)


def test_perfect_and_missed():
    ones = make()._replace(iou=np.ones(200), parsed=np.ones(200, bool))
    assert set(boxes.scores(ones).values()) == {1.0}
    none = make()._replace(iou=np.zeros(200), parsed=np.zeros(200, bool))
    assert set(boxes.scores(none).values()) == {0.0}


def test_threshold_is_reached_by_equality_in_either_precision():
    for dtype in (np.float32, np.float64):
        exact = np.array(boxes.THRESHOLDS, dtype)
        for t in boxes.THRESHOLDS:
            expected = np.mean([u >= t for u in boxes.THRESHOLDS])
            assert boxes.accuracy(exact, threshold=t) == expected


def test_pseudo_map_is_a_staircase():
    assert boxes.pseudo_map(np.array([0.76])) == pytest.approx(0.6)
    assert boxes.pseudo_map(np.array([0.49])) == 0.0


def test_an_iou_that_is_nan_is_no_miss():
    iou = np.array([0.9, np.nan, 0.1])
    assert np.isnan(boxes.accuracy(iou, threshold=0.5))
    assert np.isnan(boxes.pseudo_map(iou))


def test_no_answers_is_nan_not_zero():
    empty = boxes.Answers(*(column[:0] for column in make()))
    assert all(np.isnan(v) for v in boxes.scores(empty).values())
    found = boxes.bootstrap(empty, num_samples=10, level=0.95, seed=0)
    assert all(np.isnan(end) for interval in found.values() for end in interval)


def test_bootstrap_equals_resampling_the_rows_themselves():
    answers = make(num=60, slices=6, seed=3)
    found = boxes.bootstrap(answers, num_samples=200, level=0.9, seed=7)
    ids = np.unique(answers.slice_id)
    drawn = np.random.default_rng(7).multinomial(
        len(ids), np.full(len(ids), 1 / len(ids)), size=200
    )
    samples = []
    for counts in drawn:
        rows = [
            i
            for slice_id, times in zip(ids, counts, strict=True)
            for _ in range(times)
            for i in np.flatnonzero(answers.slice_id == slice_id)
        ]
        picked = boxes.Answers(*(column[rows] for column in answers))
        samples.append(loop_scores(picked))
    for name, interval in found.items():
        ends = np.percentile([s[name] for s in samples], [5, 95])
        np.testing.assert_allclose((interval.low, interval.high), ends, atol=1e-12)
        assert interval.value == pytest.approx(loop_scores(answers)[name], abs=1e-12)


def test_bootstrap_is_deterministic_and_follows_the_seed():
    first, again, other = (
        boxes.bootstrap(make(), num_samples=50, level=0.95, seed=s) for s in (1, 1, 2)
    )
    assert first == again != other


def test_dependent_answers_widen_the_interval():
    """Ten copies of each slice's answer carry no more than one copy."""
    rng = np.random.default_rng(0)
    iou = np.repeat(rng.random(30), 10)
    answers = make(num=300)._replace(iou=iou, parsed=np.ones(300, bool))
    together = answers._replace(slice_id=np.repeat(np.arange(30), 10))
    alone = answers._replace(slice_id=np.arange(300))

    def width(a):
        found = boxes.bootstrap(a, num_samples=500, level=0.95, seed=0)["mIoU"]
        return found.high - found.low

    # sqrt(10) in expectation; 500 samples put each width within some 5 %.
    assert width(together) / width(alone) == pytest.approx(10**0.5, rel=0.15)


def test_coverage_of_the_interval():
    """The 90 % interval holds the true mean in about 90 % of repeated studies."""
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        level = np.repeat(rng.uniform(0.2, 0.6, 40), 5)
        iou = level + rng.uniform(-0.1, 0.1, 200)
        answers = make(num=200)._replace(
            iou=iou, parsed=np.ones(200, bool), slice_id=np.repeat(np.arange(40), 5)
        )
        found = boxes.bootstrap(answers, num_samples=200, level=0.9, seed=seed)
        hits += found["mIoU"].low <= 0.4 <= found["mIoU"].high
    assert 80 <= hits <= 98  # binomial(100, 0.9): three standard deviations are 9


def test_splits_are_complete_and_disjoint():
    answers = make()
    for split in (boxes.by_structure(answers), boxes.by_size(answers)):
        assert sum(len(part.iou) for part in split.values()) == 200
    assert list(boxes.by_structure(answers)) == ["caudate", "putamen", "thalamus"]


def test_size_bounds():
    area = np.array([0.0099, 0.01, 0.03, 0.05, 0.0501])
    answers = boxes.Answers(
        np.zeros(5), np.ones(5, bool), np.array(["x"] * 5), np.arange(5), area
    )
    split = boxes.by_size(answers)
    assert [len(part.iou) for part in split.values()] == [1, 3, 1]


def test_tables_hold_the_numbers():
    policy = make()
    prior = policy._replace(iou=np.full(200, 0.1), parsed=np.ones(200, bool))
    results = {"policy": policy, "mean box": prior}
    summary = boxes.summary_table(results, num_samples=50, level=0.95, seed=0)
    assert [row[0] for row in summary.rows] == ["policy", "mean box"]
    assert summary.rows[0][2].startswith(f"{boxes.scores(policy)['A@0.5']:.3f} [")
    structures, sizes = boxes.breakdown_tables(results)
    assert structures.header[-1] == "mIoU mean box"
    assert {row[-1] for row in structures.rows} == {"0.100"}
    part = boxes.by_structure(policy)["putamen"]
    row = next(row for row in structures.rows if row[0] == "putamen")
    assert row[1:3] == (str(len(part.iou)), f"{boxes.scores(part)['A@0.5']:.3f}")
    assert sum(int(row[1]) for row in sizes.rows) == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iou": np.full(200, 1.5)}, "answer 0: IoU 1.5, expected 0 to 1"),
        ({"iou": np.full(200, np.nan)}, "answer 0: IoU nan"),
        ({"iou": np.ones(200), "parsed": np.zeros(200, bool)}, "without a box"),
        ({"area": np.zeros(3)}, "different lengths"),
    ],
)
def test_bad_columns_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        boxes.scores(make()._replace(**change))


def test_other_questions_are_refused():
    other = make()._replace(slice_id=np.arange(200))
    with pytest.raises(ValueError, match="their slice_id columns differ"):
        boxes.breakdown_tables({"policy": make(), "prior": other})
