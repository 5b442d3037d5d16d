"""The figure of a replay: what two sets of rewards make of the same completions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from medjax.report.series import running_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#7F7F7F", "#0072B2", "#D55E00", "#009E73")  # the first is what was


class Path(NamedTuple):
    """What a figure shows of a run or of its replay, an entry a step."""

    step: Int[np.ndarray, "M"]
    threshold: Float[np.ndarray, "M"]  # NaN throughout where there is none
    hit_rate: Float[np.ndarray, "M"]  # 0 to 1
    signal: Float[np.ndarray, "M"]  # share of groups, 0 to 1


def replay_paths(paths: Mapping[str, Path], *, threshold: str) -> "Figure":
    """Threshold, hit rate and share of groups with a signal, one below the other.

    The threshold is drawn as steps; of the rates each step is faint, and their mean
    over a fortieth of the run strong.

    Args:
        paths: By the names of the legend, at least one with a step; up to four.
        threshold: What stands over the first panel, which is left out where no path has
            a threshold.
    """
    from matplotlib.figure import Figure

    panels = [("hit rate", 2), ("groups with a signal", 3)]
    if any(not np.isnan(path.threshold).all() for path in paths.values()):
        panels.insert(0, (threshold, 1))
    size = (7.0, 1.9 * len(panels))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (title, place) in zip(axes, panels, strict=True):
        for n, (name, path) in enumerate(paths.items()):
            # the first below the others, and wider: equal paths are seen as two
            style = {"color": _COLOURS[n], "label": name, "zorder": 2 + n}
            width = 3.2 if n == 0 else 1.5
            values = path[place]
            if place == 1:
                axis.step(path.step, values, where="post", linewidth=width, **style)
                continue
            axis.plot(path.step, values, color=_COLOURS[n], linewidth=0.6, alpha=0.25)
            mean = running_mean(values, width=max(1, len(values) // 40))
            axis.plot(path.step, mean, linewidth=width, **style)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_ylim(0, 1.02)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
    place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "frameon": False}
    axes[0].legend(fontsize=8, **place)
    axes[-1].set_xlabel("step", fontsize=8)
    return figure
