"""The figure of agreement holds the numbers."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from medjax.report.agreement import Points, agreement_figure
from medjax.report.page import png_bytes

NAN = float("nan")


def test_the_figure_holds_points_bars_and_limits():
    reference, sd = np.array([20.0, 100, 400]), np.array([0.5, 0, 4])
    points = Points(np.array([1.0, -2, 3]), np.array([[0, 2], [-3, -1], [2, 5.0]]))
    lines = ((-5.0, -9.0, -1.0), (0.7, -1.0, 2.0), (6.0, 2.0, 10.0))
    names = ["a", "b $1$", "c"]
    figure = agreement_figure(
        reference, sd, {"ms": (points, lines)}, names=names, kind="T2star", title="t"
    )
    (axis,) = figure.axes
    (drawn,) = [line for line in axis.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(drawn.get_xdata(), reference)
    np.testing.assert_array_equal(drawn.get_ydata(), points.difference)
    levels = {
        np.asarray(line.get_ydata())[0] for line in axis.lines if line is not drawn
    }
    assert levels == {0, -5.0, 0.7, 6.0}
    vertical, horizontal = axis.collections
    assert isinstance(vertical, LineCollection)
    assert isinstance(horizontal, LineCollection)
    np.testing.assert_allclose(
        [[x, *np.sort(s[:, 1])] for x, s in zip(reference, vertical.get_segments(),
                                                strict=True)],
        np.column_stack([reference, points.quartiles]),
    )  # fmt: skip
    (first, last) = horizontal.get_segments()
    np.testing.assert_allclose(first[:, 0], [20 - 0.98, 20 + 0.98])
    np.testing.assert_allclose(last[:, 0], [400 - 7.84, 400 + 7.84])
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "reference T2*, ms"
    assert axis.get_title() == "bias +0.7 ms, limits of agreement -5 to +6 ms"
    assert [text.get_text() for text in axis.texts] == ["a", r"b \$1\$", "c"]
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_one_vial_has_no_limits():
    points = Points(np.array([1.0]), np.array([[0.5, 1.5]]))
    unknown = (NAN, NAN, NAN)
    lines = (unknown, (1.0, NAN, NAN), unknown)
    figure = agreement_figure(
        np.array([80.0]), np.zeros(1), {"%": (points, lines)}, names=["a"], kind="T2"
    )
    assert figure.axes[0].get_title() == "bias +1 %"
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_other_numbers_of_vials_are_refused():
    points = Points(np.zeros(2), np.zeros((2, 2)))
    lines = ((0.0, 0.0, 0.0),) * 3
    with pytest.raises(ValueError, match="as many of each"):
        agreement_figure(
            np.ones(2), np.ones(2), {"ms": (points, lines)}, names=["a"], kind="T2"
        )
