"""The figure of a replay holds both paths, and no panel without anything in it."""

import numpy as np
import pytest

from medjax.report.replay import Path, replay_paths

STEPS = np.arange(1, 81)


def path(tau, rate):
    ones = np.ones(len(STEPS))
    return Path(STEPS, np.where(STEPS <= 40, tau, tau + 0.15), rate * ones, 0.5 * ones)


def titles(figure):
    return [axis.get_title(loc="left") for axis in figure.axes]


def test_both_paths_are_drawn_with_their_names():
    paths = {"as it ran": path(0.3, 0.6), "replayed": path(0.2, 0.9)}
    figure = replay_paths(paths, threshold="threshold tau")
    assert titles(figure) == ["threshold tau", "hit rate", "groups with a signal"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines.keys() == paths.keys()
    for name, line in lines.items():
        np.testing.assert_array_equal(line.get_ydata(), paths[name].threshold)
        np.testing.assert_array_equal(line.get_xdata(), STEPS)
    means = [line for line in figure.axes[1].lines if line.get_label() == "replayed"]
    np.testing.assert_allclose(means[0].get_ydata(), 0.9)
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(paths)


@pytest.mark.parametrize("count", [1, 80])
def test_without_a_threshold_there_is_no_panel_of_one(count):
    nothing = np.full(count, np.nan)
    rates = np.full(count, 0.4)
    paths = {"as it ran": Path(STEPS[:count], nothing, rates, rates)}
    figure = replay_paths(paths, threshold="threshold tau")
    assert titles(figure) == ["hit rate", "groups with a signal"]
