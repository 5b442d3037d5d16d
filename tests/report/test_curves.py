"""Figures say what the metrics hold; nothing overlaps; missing series are left out."""

import numpy as np
import pytest

from medjax.recipes.boxes import stage as boxes
from medjax.recipes.classes import stage as classes
from medjax.report import curves
from medjax.report.series import Raise, Series

STEPS = np.arange(1, 201)
RAISES = [
    Raise(50, 0.3, 0.45, 0.83, 0.04, 0.12),
    Raise(120, 0.45, 0.6, 0.81, 0.05, 0.11),
]


def metrics(*names):
    rng = np.random.default_rng(0)
    return {name: Series(STEPS, rng.random(200)) for name in names}


def titles(figure):
    return [a.get_title(loc="left") for a in figure.axes if a.get_title(loc="left")]


def texts(axis):
    return {cell.get_text().get_text() for cell in axis.tables[0].get_celld().values()}


def test_one_panel_a_metric_and_a_score():
    scores = {"mIoU": Series(np.array([0, 200]), np.array([0.3, 0.5]))}
    figure = curves.training_curves(metrics("loss", "iou"), evals=scores, raises=RAISES)
    assert titles(figure) == ["mean IoU of the samples", "loss", "mIoU, held out"]


@pytest.mark.parametrize("recipe", [boxes, classes])
def test_what_the_progress_line_shows_has_a_panel(recipe):
    elsewhere = {"tau"}  # in `threshold_path`
    assert set(recipe.SHOW) <= {name for name, _ in curves.PANELS} | elsewhere


def test_curves_break_at_a_raise():
    """A reward that jumps from 1 to 0 at a raise is not smoothed across it."""
    value = np.where(STEPS <= 50, 1.0, 0.0)
    figure = curves.training_curves({"reward": Series(STEPS, value)}, raises=RAISES[:1])
    drawn = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    assert set(drawn) == {0.0, 1.0}


@pytest.mark.parametrize(
    "draw",
    [
        curves.training_curves,
        lambda m: curves.threshold_path(m, []),
        curves.signal_stack,
    ],
)
def test_nothing_to_draw_is_none(draw):
    assert draw({}) is None


def test_threshold_table_holds_each_cause():
    tau = np.select([STEPS <= 50, STEPS <= 120], [0.3, 0.45], 0.6)
    found = {"tau": Series(STEPS, tau)} | metrics(
        "window_hit_rate", "window_deviation", "window_margin"
    )
    figure = curves.threshold_path(found, RAISES)
    table = texts(figure.axes[-1])
    assert {"50", "0.3 → 0.45", "0.830", "0.040", "0.120"} <= table
    assert {"120", "0.45 → 0.6", "end", "200"} <= table
    assert [t.get_text() for t in figure.axes[0].texts] == ["1", "2"]


def test_threshold_without_the_other_series():
    figure = curves.threshold_path({"tau": Series(STEPS, np.full(200, 0.3))}, [])
    assert titles(figure) == ["threshold tau and IoU"]
    assert "end" in texts(figure.axes[-1])


def test_signal_shares_sum_to_one():
    counts = {"effective": 3.0, "all_wrong": 1.0, "unparsable": 4.0}
    found = {f"groups_{k}": Series(STEPS, np.full(200, v)) for k, v in counts.items()}
    axis = curves.signal_stack(found).axes[0]
    tops = [c.get_paths()[0].vertices[:, 1].max() for c in axis.collections]
    np.testing.assert_allclose(tops, [3 / 8, 4 / 8, 1.0], atol=1e-9)
    # The legend reads from top to bottom as the stack does.
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["unparsable", "all wrong", "rewards differ"]


def test_a_run_of_one_step_and_nan_are_drawn():
    found = {
        name: Series(np.array([1]), np.array([np.nan]))
        for name in ("tau", "iou", "window_hit_rate", "loss", "groups_tied")
    }
    for figure in (
        curves.training_curves(found),
        curves.threshold_path(found, []),
        curves.signal_stack(found),
    ):
        figure.draw_without_rendering()


def test_labels_do_not_overlap():
    """Titles, tick labels and legends of every axis keep clear of each other."""
    found = metrics(*(name for name, _ in curves.PANELS), "tau", "window_hit_rate")
    many = [Raise(10 * i, 0.3, 0.3 + i / 50, 0.8, 0.1, 0.1) for i in range(1, 15)]
    for figure in (
        curves.training_curves(found, raises=many),
        curves.threshold_path(found, many),
    ):
        figure.draw_without_rendering()
        boxes = [axis.get_tightbbox() for axis in figure.axes if axis.axison]
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                assert not one.overlaps(other)
        whole = figure.bbox
        for box in boxes:
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1 + 1
