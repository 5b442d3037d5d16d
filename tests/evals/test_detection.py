"""Average precision against pycocotools, FROC against loops, both resampled."""

import contextlib
import io

import numpy as np
import pytest

from medjax.evals.box_sets import SetAnswers
from medjax.evals.detection import (
    NAMES,
    RATES,
    THRESHOLDS,
    average_precision,
    bootstrap,
    detection_scores,
    detection_table,
    froc,
    rank_boxes,
)
from tests.evals.test_box_sets import A, B, C, make, random_answers
from tests.oracles.box_loops import iou


def by_coco(answers):
    """pycocotools on the same boxes: an image an answer, a category a structure."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(sets, confidence=None):
        found = []
        for n, boxes in enumerate(sets):
            for k, (x1, y1, x2, y2) in enumerate(np.asarray(boxes).tolist()):
                row = {"image_id": n + 1, "category_id": ids[answers.structure[n]]}
                row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "id": len(found) + 1}
                row |= {"area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                if confidence is not None:
                    row["score"] = float(confidence[n][k])
                found.append(row)
        return found

    names = sorted(set(answers.structure.tolist()))
    ids = {name: n + 1 for n, name in enumerate(names)}
    images = [
        {"id": n + 1, "height": 99, "width": 99} for n in range(len(answers.read))
    ]
    truth = COCO()
    truth.dataset = {
        "images": images,
        "categories": [{"id": i, "name": n} for n, i in ids.items()],
        "annotations": rows(answers.targets),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(rows(answers.boxes, answers.confidence))
        judge = COCOeval(truth, found, "bbox")
        judge.evaluate()
        judge.accumulate()
    # [threshold, recall, category, area, most boxes]; -1 where a category has no target
    precision = judge.eval["precision"][:, :, :, 0, -1]
    return np.array([row[row > -1].mean() for row in precision])


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_cocos(seed):
    answers = random_answers(seed)
    found = average_precision(rank_boxes(answers))
    # pycocotools adds the same spacing to a denominator; only the order of sums differs
    np.testing.assert_allclose(found, by_coco(answers), atol=1e-12)
    assert found.shape == (len(THRESHOLDS),) and 0.05 < found[0] < 0.95


def test_average_precision_with_equal_boxes_and_equal_confidences():
    boxes = [[A, A, C], [A, B], [A]]
    targets = [[A, A], [B], []]
    sure = ([0.5, 0.5, 0.5], [0.5, 0.5], [0.5])
    answers = make(boxes, targets, confidence=tuple(map(np.array, sure)))
    np.testing.assert_allclose(
        average_precision(rank_boxes(answers)), by_coco(answers), atol=1e-12
    )


def froc_by_loops(answers, rate):
    """Every threshold on the confidence, and every box under it by hand."""
    best = 0.0
    total = sum(map(len, answers.targets))
    for threshold in {float(x) for sure in answers.confidence for x in sure}:
        hits = false = 0
        for boxes, targets, sure in zip(
            answers.boxes, answers.targets, answers.confidence, strict=True
        ):
            free = list(range(len(targets)))
            for k in np.argsort(-sure, kind="stable"):
                if sure[k] < threshold:
                    continue
                overlaps = {t: iou(boxes[k], targets[t]) for t in free}
                first = max(free, key=lambda t: overlaps[t], default=None)  # noqa: B023
                if first is not None and overlaps[first] >= 0.5:
                    free.remove(first)
                    hits += 1
                else:
                    false += 1
        if false / len(answers.boxes) <= rate:
            best = max(best, hits / total)
    return best


@pytest.mark.parametrize("seed", range(4))
def test_froc_against_every_threshold(seed):
    answers = random_answers(seed)
    found = froc(rank_boxes(answers))
    np.testing.assert_allclose(
        found, [froc_by_loops(answers, rate) for rate in RATES], atol=1e-12
    )
    assert np.all(np.diff(found) >= 0) and found[0] < found[-1]


def test_froc_by_hand():
    """Two pictures, two targets: a hit at 0.9, a duplicate at 0.8, a miss, a hit."""
    answers = make(
        [[A, A, B], [C]],
        [[A], [A]],
        confidence=(np.array([0.9, 0.8, 0.7]), np.array([0.6])),
    )
    # False positives an image: 0 at 0.9, 0.5 at 0.8, 1 at 0.7 and at 0.6.
    np.testing.assert_allclose(
        froc(rank_boxes(answers)), [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    )


def test_a_weight_counts_an_answer_so_often():
    answers = random_answers(7)
    weights = np.random.default_rng(0).integers(0, 3, len(answers.read))
    rows = np.repeat(np.arange(len(weights)), weights)
    literal = SetAnswers(
        *(
            tuple(x[i] for i in rows) if isinstance(x, tuple) else x[rows]
            for x in answers
        )
    )
    np.testing.assert_allclose(
        detection_scores(rank_boxes(answers), weights),
        detection_scores(rank_boxes(literal)),
        atol=1e-12,
    )


def test_intervals_hold_the_value_and_width_needs_slices():
    answers = random_answers(8)
    found = bootstrap(answers, num_samples=50, level=0.9, seed=0)
    assert tuple(found) == NAMES
    for name, interval in found.items():
        assert interval.low <= interval.high, name
    assert found["AP"].low < found["AP"].value < found["AP"].high
    same = answers._replace(slice_id=np.array(["one"] * 60))
    for interval in bootstrap(same, num_samples=5, level=0.9, seed=0).values():
        assert interval.low == pytest.approx(interval.high)


def test_without_targets_boxes_or_confidence():
    nothing = make([[A], []], [[], []], confidence=(np.ones(1), np.ones(0)))
    assert np.isnan(detection_scores(rank_boxes(nothing))).all()
    silent = make([[], []], [[A], []], confidence=(np.ones(0),) * 2)
    np.testing.assert_array_equal(detection_scores(rank_boxes(silent)), 0)
    with pytest.raises(ValueError, match="without confidence"):
        rank_boxes(make([[A]], [[A]]))


def test_table_leaves_out_who_has_no_confidence():
    answers = random_answers(9)
    rows = {"policy": answers, "no image": answers._replace(confidence=None)}
    table = detection_table(rows, num_samples=10, level=0.9, seed=0)
    assert [row[0] for row in table.rows] == ["policy"]
    assert table.header[2:] == NAMES and "duplicates" in table.title
