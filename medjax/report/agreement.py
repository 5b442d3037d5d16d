"""Differences of measured times from their references, with bias and limits."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREY = "#0072B2", "#D55E00", "#888888"
WIDE = 8.0  # largest / smallest reference from which on the axis is logarithmic


class Points(NamedTuple):
    """Measured minus reference of each vial, in the unit of its panel."""

    difference: Float[np.ndarray, "N"]
    quartiles: Float[np.ndarray, "N 2"]  # of the voxels, minus the reference too


# Value of the lower limit, the bias and the upper limit, each with both ends of its
# interval; NaN for what is not known.
Lines = tuple[tuple[float, float, float], ...]


def agreement_figure(
    reference: Float[np.ndarray, "N"],
    sd: Float[np.ndarray, "N"],
    panels: Mapping[str, tuple[Points, Lines]],
    *,
    names: Sequence[str],
    kind: str,
    title: str = "",
) -> "Figure":
    """A panel a unit: differences over the reference, their bias, limits of agreement.

    A vertical line through a point reaches from the lower to the upper quartile of the
    vial's voxels; a horizontal one is 1.96 sd of the reference on both sides. Shades
    are the intervals of bias and limits.

    Args:
        reference: In ms, above 0, at least one.
        sd: Its standard deviation in ms; 0 where it is not known, and not drawn.
        panels: What is drawn, by the unit of the differences.
        names: Of the vials, beside their points.
        kind: What the map is of, for the axes: "T1", "T2", "T2star".
        title: Stands over the figure; the empty text leaves it out.

    Raises:
        ValueError: No vials, or another number of differences or names.
    """
    sizes = {len(reference), len(sd), len(names)}
    sizes |= {len(points.difference) for points, _ in panels.values()}
    if sizes != {len(reference)} or not len(reference) or not panels:
        raise ValueError(
            f"{sorted(sizes)} references, sd, names and differences: expected as many "
            "of each, at least one"
        )
    from matplotlib.figure import Figure

    size = (5.4 * len(panels), 4.0)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    label = kind.replace("star", "*")
    for axis, (unit, (points, lines)) in zip(axes, panels.items(), strict=True):
        _panel(axis, reference, sd, points, lines, names)
        axis.set_title(_numbers(lines, unit), fontsize=9)
        axis.set_xlabel(f"reference {label}, ms", fontsize=9)
        axis.set_ylabel(f"median {label} - reference, {unit}", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _numbers(lines: Lines, unit: str) -> str:
    """`bias +0.13 ms, limits -1 to +1.26 ms`."""
    lower, bias, upper = (line[0] for line in lines)
    text = f"bias {bias:+.3g} {unit}"
    if not np.isfinite(lower):
        return text
    return f"{text}, limits of agreement {lower:+.3g} to {upper:+.3g} {unit}"


def _panel(
    axis: "Axes",
    reference: Float[np.ndarray, "N"],
    sd: Float[np.ndarray, "N"],
    points: Points,
    lines: Lines,
    names: Sequence[str],
) -> None:
    wide = reference.max() > WIDE * reference.min()
    axis.set_xscale("log" if wide else "linear")
    if wide:
        axis.xaxis.set_major_formatter("{x:g}")
    axis.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    looks = ((RED, "--"), (BLUE, "-"), (RED, "--"))
    for (value, low, high), (colour, dashes) in zip(lines, looks, strict=True):
        if not np.isfinite(value):
            continue
        style = {"color": colour}
        axis.axhline(value, linestyle=dashes, linewidth=1.3, zorder=1, **style)
        if np.isfinite(low) and np.isfinite(high):
            axis.axhspan(low, high, alpha=0.12, linewidth=0, zorder=0, **style)
    bar = {"color": "#444444", "linewidth": 1, "zorder": 2}
    axis.vlines(reference, *points.quartiles.T, **bar)
    shown = sd > 0
    far = 1.96 * sd[shown]
    ends = reference[shown] - far, reference[shown] + far
    axis.hlines(points.difference[shown], *ends, **bar)
    axis.plot(reference, points.difference, "o", color="black", markersize=4, zorder=3)
    for name, x, y in zip(names, reference, points.quartiles[:, 1], strict=True):
        axis.annotate(name.replace("$", r"\$"), (x, y), xytext=(0, 3), fontsize=6.5,
                      textcoords="offset points", color="#444444", rotation=90,
                      ha="center", va="bottom")  # fmt: skip
    axis.margins(x=0.08, y=0.16)  # names stand above their lines
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
