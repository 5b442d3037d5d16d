"""Figures that show whether a map's intervals can be trusted.

Maps come in seconds and are shown in milliseconds on the scales of `report.qmri`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from medjax.report.panels import draw_panel, line_styles, new_figure, show_region
from medjax.report.qmri import SCALES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Z_RANGE = 6.0  # of the histogram of z-scores; what is beyond counts at its ends


def trust_sheet(
    reference: Float[np.ndarray, "H W"],
    maps: Mapping[str, Float[np.ndarray, "H W"]],
    half_widths: Mapping[str, Float[np.ndarray, "H W"]],
    *,
    contrast: str,
    roi: Bool[np.ndarray, "H W"],
    title: str = "",
    turns: int = 0,
) -> "Figure":
    """One row a method: its map, the half-width of its interval, and its true error.

    Half-width and error have one scale, so that an interval that is too narrow shows as
    an error that is brighter than the panel beside it.

    Args:
        reference: T1 or T2 in s.
        maps: The map in s of each method by its name, at least one.
        half_widths: (high - low) / 2 of the 95 % interval in s of the same methods.
        contrast: Which of `SCALES` the colours follow: "t2", "t1" or "vfa".
        roi: True where maps are compared; the rest is black, and what is further than
            three pixels from it is left out.
        title: Stands over the figure; the empty text leaves it out.
        turns: How many quarter turns to the left the images are shown with, any whole
            number; 1 suits a NIfTI's axial slice.

    Raises:
        ValueError: No methods, other methods of half-widths, or maps of another size.
    """
    shapes = {x.shape for x in (*maps.values(), *half_widths.values())}
    if not maps or maps.keys() != half_widths.keys() or shapes != {reference.shape}:
        raise ValueError(
            f"maps of {list(maps)}, half-widths of {list(half_widths)}, shapes "
            f"{sorted(shapes)}: expected both of the same methods, {reference.shape}"
        )
    scale = SCALES[contrast]
    figure, axes = new_figure(len(maps), 4, title)
    look = {"roi": roi, "turns": turns}
    values, errors = (0, scale.largest), (0, 2 * scale.error)
    for n, (name, value) in enumerate(maps.items()):
        panels = (
            ("reference", reference, values, scale.colours),
            (name, value, values, scale.colours),
            ("half-width of the 95 % interval", half_widths[name], errors, "magma"),
            ("true error, absolute", np.abs(value - reference), errors, "magma"),
        )
        for axis, (label, image, limits, colours) in zip(axes[n], panels, strict=True):
            draw_panel(axis, image, label, limits, colours, **look)
            show_region(axis, **look)
    return figure


def interval_figure(
    coverage: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    removed: Mapping[str, Sequence[Float[np.ndarray, "P"]]],
    z: Mapping[str, Float[np.ndarray, "N"]],
    *,
    title: str = "",
) -> "Figure":
    """Coverage by level, what is left of the error, and z-scores against the bound.

    Args:
        coverage: Nominal and observed coverage, 0 to 1, by the part of the voxels:
            tissue, fluid, one R. At least one part.
        removed: By method what `evals.intervals.sparsification_curve` gives: shares
            taken out, the error that is left, and what the errors' own order leaves.
        z: By method error / Cramer-Rao sigma of each voxel; what is not finite is left
            out. A method without voxels is not drawn.
        title: Stands over the figure; the empty text leaves it out.

    Raises:
        ValueError: No coverage.
    """
    if not coverage:
        raise ValueError("no coverage to draw")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.4, 4.0), dpi=130, layout="constrained")
    axes = figure.subplots(1, 3)
    line = {"color": "#888888", "linewidth": 1, "linestyle": "--", "zorder": 0}
    styles = line_styles(len(coverage))
    for (name, (nominal, observed)), style in zip(
        coverage.items(), styles, strict=True
    ):
        axes[0].plot(nominal, observed, marker="o", markersize=3.5, label=name, **style)
    axes[0].plot([0, 1], [0, 1], **line)
    axes[0].set(xlim=(0.4, 1), ylim=(0, 1.02))
    axes[0].set(xlabel="nominal coverage", ylabel="observed coverage")
    axes[0].legend(frameon=False, fontsize=7, loc="upper left")
    for (name, (shares, error, oracle)), style in zip(
        removed.items(), line_styles(len(removed)), strict=True
    ):
        axes[1].plot(shares, error, label=name, **style)
        axes[1].plot(shares, oracle, **(style | {"linestyle": ":", "linewidth": 1}))
    axes[1].axhline(1, **line)
    axes[1].set(xlim=(0, 1), ylim=(0, None))
    axes[1].set(xlabel="share of voxels taken out (dotted: by their errors)")
    axes[1].set(ylabel="mean error left / mean error of all")
    if removed:
        axes[1].legend(frameon=False, fontsize=7, loc="upper right", borderaxespad=2.5)
    _histogram(axes[2], z)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _histogram(axis: "Axes", z: Mapping[str, Float[np.ndarray, "N"]]) -> None:
    edges = np.linspace(-Z_RANGE, Z_RANGE, 49)
    finite = {name: x[np.isfinite(x)] for name, x in z.items()}
    finite = {name: x for name, x in finite.items() if len(x)}
    for (name, values), style in zip(
        finite.items(), line_styles(len(finite)), strict=True
    ):
        counts, _ = np.histogram(np.clip(values, -Z_RANGE, Z_RANGE), edges)
        density = counts / len(values) / np.diff(edges)
        middle = (edges[:-1] + edges[1:]) / 2
        label = f"{name}, half within {np.median(np.abs(values)):.2g}"
        axis.plot(middle, density, drawstyle="steps-mid", label=label, **style)
    grid = np.linspace(-Z_RANGE, Z_RANGE, 241)
    normal = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    line = {"color": "#888888", "linewidth": 1, "linestyle": "--", "zorder": 0}
    axis.plot(grid, normal, label="noise alone, half within 0.67", **line)
    top = axis.get_ylim()[1]
    axis.set(xlim=(-Z_RANGE, Z_RANGE), ylim=(0, 1.35 * top))  # the legend is above
    axis.set(xlabel="error / Cramer-Rao sigma, beyond 6 at the ends")
    axis.set(ylabel="density")
    axis.legend(frameon=False, fontsize=7, loc="upper left")
