"""Figures of a run from its metrics: curves, the threshold's path, lost groups."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medjax.report.series import Metrics, Raise, Series, running_mean, value_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#7F7F7F"
PANELS = (
    ("reward", "reward"),
    ("iou", "mean IoU of the samples"),
    ("quality", "mean Q of the samples"),
    ("hit_rate", "hit rate"),
    ("parse_rate", "share of answers read"),
    ("overlap", "recitation overlap"),
    ("recitation_ramp", "share of the recitation's weight"),
    ("settled", "share of pictures settled"),
    ("passed_over", "share of pictures passed over"),
    ("repeated", "share of n-grams repeated"),
    ("reward_std", "reward std in a group"),
    ("entropy", "entropy [nat / token]"),
    ("kl", "KL to the reference [nat / token]"),
    ("length", "answer length [tokens]"),
    ("nrmse", "NRMSE of the images"),
    ("rmse_guided_ms", "RMS error of the guided fit [ms]"),
    ("rmse_plain_ms", "RMS error without guidance [ms]"),
    ("loss", "loss"),
    ("grad_norm", "gradient norm"),
    ("reward_accuracy_tied", "groups without accuracy signal"),
    ("reward_grade_tied", "groups without grade signal"),
    ("reward_format_tied", "groups without format signal"),
    ("reward_recitation_tied", "groups without recitation signal"),
)
SIGNAL = (
    ("groups_effective", "rewards differ", GREEN),
    ("groups_tied", "tied", GREY),
    ("groups_all_right", "all right", SKY),
    ("groups_all_wrong", "all wrong", ORANGE),
    ("groups_unparsable", "unparsable", RED),
)


def training_curves(
    metrics: Metrics, *, evals: Metrics | None = None, raises: Sequence[Raise] = ()
) -> "Figure | None":
    """A panel per metric of `PANELS` that the run has, then one per evaluation score.

    Faint: each step; strong: mean over a fortieth of the run, never across a raise of
    the threshold (dotted), where rewards jump. None when the run has none of them.

    Args:
        metrics: Of the training steps by name, see `read_metrics`; others than those
            in `PANELS` are not shown.
        evals: Scores of the evaluations by name, likewise; all but `n` get a panel.
        raises: Of the threshold, in order, see `find_raises`.
    """
    panels = [
        (label, metrics[name], False) for name, label in PANELS if name in metrics
    ]
    panels += [
        (f"{n}, held out", s, True) for n, s in (evals or {}).items() if n != "n"
    ]
    if not panels:
        return None
    columns = min(3, len(panels))
    figure, axes = _grid(-(-len(panels) // columns), columns, size=(3.2, 2.0))
    for axis, (label, series, points) in zip(axes, panels, strict=False):
        if points:
            axis.plot(*series, color=GREEN, marker="o", markersize=3.5, linewidth=1)
        else:
            _curve(axis, series, raises, color=BLUE)
        _finish(axis, label, raises)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("step", fontsize=8)
    return figure


def threshold_path(metrics: Metrics, raises: Sequence[Raise]) -> "Figure | None":
    """tau with each raise numbered, what a raise needs, and the causes as a table.

    Args:
        metrics: Of the training steps by name; without `tau` the result is None, and
            without `window_hit_rate` the panel of what a raise needs is left out.
        raises: In order, see `find_raises`; there may be none.
    """
    if "tau" not in metrics:
        return None
    rows = [
        (str(i), str(r.step), f"{r.tau_before:.3g} → {r.tau_after:.3g}")
        + tuple(f"{v:.3f}" for v in (r.hit_rate, r.deviation, r.margin))
        for i, r in enumerate(raises, 1)
    ]
    end = int(metrics["tau"].step[-1])
    names = ("window_hit_rate", "window_deviation", "window_margin")
    last = tuple(
        f"{value_at(metrics, n, step=end):.3f}" if n in metrics else "-" for n in names
    )
    rows.append(("end", str(end), f"{metrics['tau'].value[-1]:.3g}", *last))
    heights = [2.6, 1.7, 0.22 * (len(rows) + 1)]
    if "window_hit_rate" not in metrics:
        del heights[1]
    figure, (top, *needs, below) = _grid(
        len(heights), 1, size=(7.5, 0), heights=heights
    )
    top.step(*metrics["tau"], where="post", color=RED, linewidth=2, label="tau")
    for name, label in (("iou", "IoU"), ("quality", "Q")):
        if name in metrics:
            _curve(top, metrics[name], raises, color=BLUE, label=f"mean {label}")
    for i, one in enumerate(raises, 1):
        at = (one.step, one.tau_after)
        top.plot(*at, "o", color=RED, markersize=10, zorder=3)
        style = {"ha": "center", "va": "center_baseline", "fontsize": 7, "zorder": 4}
        top.annotate(str(i), at, color="white", fontweight="bold", **style)
    top.set_ylim(0, 1)
    _finish(
        top, "threshold tau and " + ("Q" if "quality" in metrics else "IoU"), raises
    )
    for axis in needs:
        series = metrics["window_hit_rate"]
        axis.plot(*series, color=GREEN, linewidth=1.6, label="hit rate")
        if "window_hit_rate_needed" in metrics:
            style = {"color": "black", "linestyle": "--", "linewidth": 1}
            series = metrics["window_hit_rate_needed"]
            axis.step(*series, where="post", label="needed for a raise", **style)
        axis.set_ylim(0, 1.02)
        _finish(axis, "hit rate over the window", raises)
    for axis in (top, *needs):
        axis.set_xlim(*_limits(metrics["tau"]))
        _legend(axis)
    (*needs, top)[0].set_xlabel("step", fontsize=8)
    _table(below, ("raise", "step", "tau", "hit rate", "deviation", "margin"), rows)
    return figure


def signal_stack(metrics: Metrics) -> "Figure | None":
    """Shares of the groups that taught something, and of those that could not.

    The parts are those of `rl.signal`; running means over a fortieth of the run.

    Args:
        metrics: Of the training steps by name; those in `SIGNAL` are counts of groups.
            Without any of them the result is None.
    """
    parts = [(label, c, metrics[name]) for name, label, c in SIGNAL if name in metrics]
    if not parts:
        return None
    labels, colours, counted = zip(*parts, strict=True)
    steps = counted[0].step
    counts = np.stack([np.interp(steps, s.step, s.value) for s in counted])
    total = counts.sum(axis=0)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    width = _smoothing(len(steps))
    smooth = [running_mean(share, width=width) for share in shares]
    figure, (axis,) = _grid(1, 1, size=(7.5, 2.4))
    axis.stackplot(steps, smooth, labels=labels, colors=colours, linewidth=0)
    axis.set_xlim(*_limits(counted[0]))
    axis.set_ylim(0, 1)
    axis.set_xlabel("step", fontsize=8)
    _finish(axis, "share of the groups", ())
    _legend(axis, upwards=True)
    return figure


def _grid(
    rows: int, columns: int, *, size: tuple[float, float], heights: Sequence[float] = ()
) -> tuple["Figure", list["Axes"]]:
    """A figure of its own (no pyplot state) and its axes, row by row."""
    from matplotlib.figure import Figure

    width, height = size[0] * columns, sum(heights) or size[1] * rows
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    ratios = heights or None
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios)
    return figure, list(axes.ravel())


def _finish(axis: "Axes", title: str, raises: Sequence[Raise]) -> None:
    for one in raises:
        axis.axvline(one.step, color=RED, linestyle=":", linewidth=0.9, zorder=0)
    axis.set_title(title, loc="left", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)


def _legend(axis: "Axes", *, upwards: bool = False) -> None:
    """To the right of the axis, where it covers nothing."""
    handles, labels = axis.get_legend_handles_labels()
    order = slice(None, None, -1 if upwards else 1)
    place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "frameon": False}
    axis.legend(handles[order], labels[order], fontsize=8, **place)


def _curve(
    axis: "Axes",
    series: Series,
    raises: Sequence[Raise],
    *,
    color: str,
    label: str = "",
) -> None:
    axis.plot(*series, color=color, linewidth=0.7, alpha=0.3)
    width = _smoothing(len(series.value))
    cuts = np.searchsorted(series.step, [one.step for one in raises], side="right")
    for part, (step, value) in enumerate(
        zip(np.split(series.step, cuts), np.split(series.value, cuts), strict=True)
    ):
        smooth = running_mean(value, width=width) if len(value) else value
        name = "_" if part else label  # one entry in the legend
        axis.plot(step, smooth, color=color, linewidth=1.6, label=name)


def _smoothing(length: int) -> int:
    return max(1, length // 40)


def _limits(series: Series) -> tuple[float, float]:
    first, last = float(series.step[0]), float(series.step[-1])
    return (first, last) if last > first else (first - 1, last + 1)


def _table(axis: "Axes", header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    axis.set_axis_off()
    table = axis.table([header, *rows], loc="upper left", cellLoc="right", edges="B")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (row, _), cell in table.get_celld().items():
        cell.set_edgecolor("0.2" if row == 0 else "0.88")
        cell.set_height(1 / (len(rows) + 1))
        if row == 0:
            cell.get_text().set_fontweight("bold")
