"""Figures of trust: the numbers they hold, their scales, and what is refused."""

import numpy as np
import pytest

from medjax.report import trust


def case():
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.05, 0.15, (12, 10))
    roi = np.zeros((12, 10), bool)
    roi[2:-2, 2:-2] = True
    return reference, reference * rng.uniform(0.8, 1.2, reference.shape), roi


def test_half_width_and_error_stand_beside_each_other_on_one_scale():
    reference, value, roi = case()
    maps, widths = {"a": value, "b": reference}, {"a": 0.1 * value, "b": 0.2 * value}
    figure = trust.trust_sheet(reference, maps, widths, contrast="t2", roi=roi)
    shown = [axis.images[0] for axis in figure.axes if axis.images]
    assert len(shown) == 8
    _, first, width, error = shown[:4]
    assert first.get_array()[5, 5] == pytest.approx(1e3 * value[5, 5])
    assert width.get_array()[5, 5] == pytest.approx(1e3 * 0.1 * value[5, 5])
    wrong = 1e3 * abs(value - reference)[5, 5]
    assert error.get_array()[5, 5] == pytest.approx(wrong)
    assert width.get_clim() == error.get_clim() == (0, 50)
    with pytest.raises(ValueError, match="expected both of the same methods"):
        trust.trust_sheet(reference, maps, {"a": value}, contrast="t2", roi=roi)


def test_curves_hold_their_numbers_and_z_scores_their_share():
    rng = np.random.default_rng(0)
    levels = (0.5, 0.8, 0.95)
    coverage = {"tissue": (levels, (0.4, 0.7, 0.9)), "fluid": (levels, levels)}
    shares = np.arange(4) / 4
    removed = {"a": (shares, 1 - shares / 2, 1 - shares)}
    z = {"a": np.append(rng.standard_normal(2000), [np.nan, 50]), "none": np.ones(0)}
    figure = trust.interval_figure(coverage, removed, z, title="all")
    curves, left, histogram = figure.axes
    np.testing.assert_allclose(curves.lines[0].get_ydata(), (0.4, 0.7, 0.9))
    assert [t.get_text() for t in curves.get_legend().get_texts()] == [
        "tissue",
        "fluid",
    ]
    np.testing.assert_allclose(left.lines[0].get_ydata(), 1 - shares / 2)
    drawn, normal = histogram.lines
    # 49 edges over 12 deviations: densities times the bin's width sum to one
    assert np.sum(drawn.get_ydata()) * 0.25 == pytest.approx(1)
    assert drawn.get_ydata()[-1] > 0  # what is beyond counts at the end
    assert normal.get_ydata().max() == pytest.approx(1 / np.sqrt(2 * np.pi))
    assert drawn.get_label().startswith("a, half within 0.6")
    with pytest.raises(ValueError, match="no coverage to draw"):
        trust.interval_figure({}, removed, z)
