"""The sheet of a check: long questions and answers stay in their own row."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from medjax.report.check import Shown, example_sheet


def test_texts_do_not_reach_into_the_next_row():
    image = np.zeros((56, 56, 3), np.uint8)
    words = "hazy patchy grey in the lung without sharp borders, " * 9
    examples = [
        Shown(f"test: a.csv, line {n}", image, [], words, words) for n in range(7)
    ]
    figure = example_sheet(examples, cell=14)
    FigureCanvasAgg(figure).draw()
    upper, lower = figure.axes[0], figure.axes[5]
    below = upper.xaxis.label.get_window_extent().y0
    assert below > lower.title.get_window_extent().y1
    assert upper.title.get_window_extent().y1 <= figure.bbox.height
    assert lower.xaxis.label.get_window_extent().y0 >= 0
    with pytest.raises(ValueError, match="no examples"):
        example_sheet([], cell=14)
