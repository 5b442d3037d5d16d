"""Several readers: chosen by name or rule, and their agreement against references."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from medjax.data.lists.readers import (
    box_agreement,
    box_overlaps,
    check_named,
    choose_readers,
    label_agreement,
    merge_boxes,
    merge_labels,
)
from medjax.data.lists.reading import PLAIN
from tests.oracles.box_loops import iou

# Fleiss 1971, as tabled in its common example: 10 subjects, 14 raters, 5 categories.
FLEISS = """0 0 0 0 14 | 0 2 6 4 2 | 0 0 3 5 6 | 0 3 9 2 0 | 2 2 8 1 1
 | 7 7 0 0 0 | 3 2 6 3 0 | 2 5 3 2 2 | 6 5 2 1 0 | 0 2 2 3 7"""


def test_a_choice_is_needed_where_there_are_several():
    majority = PLAIN._replace(readers="majority")
    assert choose_readers(["R2", "R1", "R2"], majority) == ("R1", "R2")
    assert choose_readers([None, None], PLAIN) == choose_readers(["R1"], PLAIN) == ()
    with pytest.raises(
        ValueError, match=r"2 readers \(R1, R2\); expected data.readers"
    ):
        choose_readers(["R1", "R2"], PLAIN)
    with pytest.raises(ValueError, match="no line names its reader; leave"):
        choose_readers([None], majority)
    with pytest.raises(ValueError, match="data.readers='R3': expected majority, union"):
        choose_readers(["R1", "R2"], PLAIN._replace(readers="R3"))
    assert choose_readers(["R1", None], majority) == ("R1",)  # None: agreed on
    check_named([("line 2", None), ("line 3", None)])
    with pytest.raises(ValueError, match=r"line 3: no reader, but line 2, of the same"):
        check_named([("line 2", "R1"), ("line 3", None)])


A, NEAR_A, B = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 12.0), (50.0, 0.0, 60.0, 9.0)


def test_boxes_of_several_readers():
    boxes = {"R1": (A, B), "R2": (NEAR_A,), "R3": ()}
    assert merge_boxes(boxes, "majority") == ((0, 0, 10, 11),)
    assert merge_boxes(boxes, "union") == ((0, 0, 10, 11), B)
    assert merge_boxes({"R1": (A,), "R2": ()}, "majority") == ()  # half is not more
    assert merge_boxes({"R1": (), "R2": ()}, "union") == ()


def test_labels_of_several_readers():
    assert merge_labels({"R1": "x", "R2": "x", "R3": "y"}, "majority") == "x"
    assert merge_labels({"R1": "x", "R2": "y"}, "majority") is None
    assert merge_labels({"R1": "x", "R2": "y"}, "union") is None
    assert merge_labels({"R1": "x", "R2": "x"}, "union") == "x"


def test_agreement_of_boxes():
    found = box_agreement(
        [
            {"R1": (A, B), "R2": (NEAR_A,), "R3": ()},  # 2/3, 0, 0
            {"R1": (A,), "R2": (A,)},  # 1
            {"R1": (), "R2": ()},  # 1
            {"R1": (A,)},  # read by one
        ]
    )
    assert found.count == 3 and found.readers == ("R1", "R2", "R3")
    assert found.measures["F1 at IoU 0.5"] == pytest.approx((2 / 3 + 2) / 5)
    assert found.measures["IoU of matched boxes"] == pytest.approx((10 / 12 + 1) / 2)
    assert str(found).startswith("3 readers, 3 read by several: F1 at IoU 0.5 0.533")


def test_overlaps_against_a_loop():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 10, (2, 20, 2))
    boxes = np.concatenate([corners[0], corners[0] + corners[1] + 0.1], axis=1)
    expected = [[iou(a, b) for b in boxes[:7]] for a in boxes]
    np.testing.assert_allclose(box_overlaps(boxes, boxes[:7]), expected, atol=1e-12)


def test_kappa_of_many_readers():
    readings = []
    for row in FLEISS.split("|"):
        said = np.repeat(list("abcde"), list(map(int, row.split())))
        readings.append({f"R{n:02}": label for n, label in enumerate(said.tolist())})
    found = label_agreement(readings)
    assert found.measures["share of agreeing pairs"] == pytest.approx(0.378, abs=5e-4)
    assert found.measures["Fleiss' kappa"] == pytest.approx(0.210, abs=5e-4)
    assert "Cohen's kappa" not in found.measures


def test_kappa_of_two_readers():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 50)
    second = np.where(rng.random(50) < 0.3, rng.integers(0, 3, 50), first)
    readings = [
        {"R1": str(a), "R2": str(b)} for a, b in zip(first, second, strict=True)
    ]
    found = label_agreement(readings)
    assert found.measures["share of agreeing pairs"] == np.mean(first == second)
    expected = cohen_kappa_score(first, second)
    assert found.measures["Cohen's kappa"] == pytest.approx(expected)
    one = label_agreement([{"R1": "x", "R2": "x"}])
    assert np.isnan(one.measures["Fleiss' kappa"])
