"""The sheet of overlays: which answers, which boxes, where."""

import numpy as np
import pytest

from medjax.report import boxes


def answer(iou, box=(2.0, 3.0, 10.0, 12.0), query="Where is the left putamen?"):
    image = np.zeros((20, 30, 3), np.uint8)
    truth = np.array([1.0, 2.0, 11.0, 13.0])
    return boxes.Overlay(
        image, query, truth, None if box is None else np.array(box), iou
    )


def test_pick_best_median_worst():
    iou = np.array([0.1, 0.9, 0.5, 0.4, 0.6, 0.0, 1.0])
    assert boxes.pick(iou, count=1) == {"best": [6], "median": [2], "worst": [5]}
    rows = boxes.pick(iou, count=2)
    assert rows == {"best": [6, 1], "median": [4, 2], "worst": [0, 5]}


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("count", [1, 3, 6])
def test_pick_shows_nothing_twice(n, count):
    iou = np.random.default_rng(n).random(n)
    chosen = [i for row in boxes.pick(iou, count=count).values() for i in row]
    assert len(chosen) == len(set(chosen)) <= 3 * count
    assert int(np.argmax(iou)) in chosen
    if n > 1:
        assert int(np.argmin(iou)) in chosen
    order = iou[chosen]
    assert np.all(np.diff(order) <= 0)


def test_boxes_are_drawn_in_pixel_edges():
    figure = boxes.contact_sheet([answer(0.7)], count=1)
    axis = figure.axes[0]
    drawn = [(p.get_xy(), p.get_width(), p.get_height()) for p in axis.patches]
    assert drawn == [((1.0, 2.0), 10.0, 11.0), ((2.0, 3.0), 8.0, 9.0)]
    assert axis.images[0].get_extent() == [0, 30, 20, 0]
    assert axis.get_title() == "IoU 0.70"


def test_an_unread_answer_says_so():
    axis = boxes.contact_sheet([answer(0.0, box=None)], count=1).axes[0]
    assert len(axis.patches) == 1
    assert [text.get_text() for text in axis.texts] == ["no box read"]


def test_all_boxes_of_a_set_are_drawn():
    truth = np.array([[1.0, 2.0, 11.0, 13.0], [12.0, 2.0, 20.0, 9.0]])
    found = np.array([[2.0, 3.0, 10.0, 12.0]])
    several = answer(0.4)._replace(truth=truth, box=found, score="Q")
    axis = boxes.contact_sheet([several], count=1).axes[0]
    assert [p.get_xy() for p in axis.patches] == [(1, 2), (12, 2), (2, 3)]
    assert axis.get_title() == "Q 0.40" and not axis.texts


@pytest.mark.parametrize(
    ("truth", "box", "said"),
    [
        ([], [], "truth and answer: none"),
        ([], [[1, 2, 3, 4]], "truth: none"),
        ([[1, 2, 3, 4]], [], "answer: none"),
        ([[1, 2, 3, 4]], None, "no set read"),
        ([], None, "no set read"),
    ],
)
def test_an_empty_set_is_said_in_words(truth, box, said):
    truth = np.array(truth, float).reshape(-1, 4)
    found = None if box is None else np.array(box, float).reshape(-1, 4)
    one = answer(0.0)._replace(truth=truth, box=found)
    axis = boxes.contact_sheet([one], count=1).axes[0]
    assert [text.get_text() for text in axis.texts] == [said]
    assert len(axis.patches) == len(truth) + (0 if found is None else len(found))


def test_long_queries_stay_in_their_column():
    rows = [answer(i / 9, query="a very long question " * 20) for i in range(9)]
    figure = boxes.contact_sheet(rows, count=3)
    figure.draw_without_rendering()
    extents = [axis.get_tightbbox() for axis in figure.axes]
    for i, one in enumerate(extents):
        assert not any(one.overlaps(other) for other in extents[i + 1 :])


@pytest.mark.parametrize("box", [(1.0, 2.0, 3.0), (0.0, 0.0, np.nan, 4.0)])
def test_a_broken_box_is_refused(box):
    with pytest.raises(ValueError, match="expected four finite numbers"):
        boxes.contact_sheet([answer(0.5, box=box)], count=1)


def test_no_answers_is_refused():
    with pytest.raises(ValueError, match="no answers"):
        boxes.contact_sheet([], count=3)


def test_what_the_policy_wrote_stands_below_the_question():
    text = "<think>A dark\nfield,\x00 $5 and $6.</think><answer>[2,3,10,12]</answer>"
    figure = boxes.contact_sheet([answer(0.7)._replace(text=text)], count=1)
    below = figure.axes[0].get_xlabel().replace("\n", " ")
    assert below.startswith("Where is the left putamen? <think>A dark field,\ufffd $5")
    assert "[2,3,10,12]</answer>" in below.replace(" ", "")
    figure.draw_without_rendering()  # dollars are no mathematics


def test_long_completions_stay_in_their_column():
    rows = [
        answer(i / 9)._replace(text="a thought that goes on " * 30) for i in range(9)
    ]
    figure = boxes.contact_sheet(rows, count=3)
    assert all(len(axis.get_xlabel()) < 84 + 155 for axis in figure.axes)
    figure.draw_without_rendering()
    extents = [axis.get_tightbbox() for axis in figure.axes]
    assert min(box.y0 for box in extents) >= 0  # nothing is cut off below
    for i, one in enumerate(extents):
        assert not any(one.overlaps(other) for other in extents[i + 1 :])
