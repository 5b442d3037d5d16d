"""The confusion matrix and the sheet of answers show what they are given."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from medjax.report.classes import Answer, answer_sheet, confusion_figure
from medjax.report.page import png_bytes

CLASSES = ("base", "low", "middle", "high", "a name that is longer than there is room")


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_confusion_counts_true_class_by_answer():
    label = np.array([0, 0, 2, 2, 2])
    predicted = np.array([0, 2, 2, -1, 4])
    figure = confusion_figure(label, predicted, CLASSES)
    (axis,) = figure.axes
    # rows base, middle; columns base, middle, the long name, unread: no "low"
    assert texts(axis) == ["1", "1", "0", "0", "0", "1", "1", "1"]
    names = [tick.get_text() for tick in axis.get_xticklabels()]
    assert names[:2] == ["base", "middle"] and names[3] == "unread"
    assert len(names[2]) < 30
    assert png_bytes(figure)[:4] == b"\x89PNG"


def answer(truth, said, text="<think>a</think><answer>1</answer>"):
    return Answer(np.zeros((20, 20, 3), np.uint8), truth, said, text)


def test_answers_of_all_classes_take_turns():
    some = [answer("base", "base")] * 5 + [answer("low", "low"), answer("low", None)]
    figure = answer_sheet(some, count=3)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["base", "low", "base", "no class read\nnot low"]
    assert [a.get_ylabel() for a in figure.axes if a.get_ylabel()] == ["right", "wrong"]


def test_whatever_a_policy_wrote_is_drawn():
    odd = "$x^ \\frac \ufffd\x06\n" * 40
    assert png_bytes(answer_sheet([answer("base", "low", odd)], count=6))
    with pytest.raises(ValueError, match="no answers"):
        answer_sheet([], count=6)


def test_long_sets_of_classes_do_not_overlap():
    image = np.zeros((8, 8, 3), np.uint8)
    truth = "mass, pneumonia, pneumothorax, fibrosis, consolidation, emphysema, hernia"
    answers = [
        Answer(image, truth, said, "<think>x</think>")
        for said in ("cardiomegaly, effusion, infiltration", truth, None) * 2
    ]
    figure = answer_sheet(answers, count=3)
    FigureCanvasAgg(figure).draw()
    for axis in figure.axes:
        title, panel = axis.title.get_window_extent(), axis.get_window_extent()
        assert title.width < 1.05 * panel.width
    texts = [axis.get_title() for axis in figure.axes]
    assert texts[0] == "mass, pneumonia,\npneumothorax, fibrosis,\nconsolidation, ..."
    assert any(
        text.startswith("cardiomegaly, effusion,\ninfiltration\nnot") for text in texts
    )
