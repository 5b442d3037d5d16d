"""Figures of relaxation-time maps: values and sigma in ms, comparisons, calibration.

Maps come in seconds and are shown in milliseconds on fixed scales, so that figures of
different runs compare. What is not finite, or outside a region, is black.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.report.page import png_bytes, write_file
from medjax.report.panels import (
    STATES,
    draw_panel,
    line_styles,
    new_figure,
    show_region,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Scale(NamedTuple):
    """How a contrast is shown, ms; the colour maps are perceptually uniform."""

    label: str
    largest: float  # value at the end of the colour bar, which begins at 0
    sigma: float  # the same for a sigma
    error: float  # the same for an error, whose bar begins at minus it
    colours: str  # matplotlib's name of the colour map of values


SCALES = {
    "t2": Scale("T2", 200.0, 20.0, 25.0, "viridis"),
    "t1": Scale("T1", 3000.0, 300.0, 300.0, "inferno"),
    "vfa": Scale("T1", 3000.0, 300.0, 300.0, "inferno"),
}
_SIGMA, _ERROR = "magma", "RdBu_r"
COLUMNS = 5  # of a comparison sheet; more methods go below


def import_figures() -> None:
    """Import what draws a figure: a third of a second that a thread can spend early."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def map_figure(
    value: Float[np.ndarray, "H W"],
    sigma: Float[np.ndarray, "H W"] | None,
    status: Int[np.ndarray, "H W"] | None,
    *,
    contrast: str,
    levels: Mapping[int, str],
    roi: Bool[np.ndarray, "H W"] | None = None,
    title: str = "",
    turns: int = 0,
    affine: Float[np.ndarray, "4 4"] | None = None,
    posterior: bool = False,
) -> "Figure":
    """A map beside its sigma and the fit's status.

    Args:
        value: T1 or T2 in s. What is not finite is black, what is larger than the
            contrast's scale is shown as its end.
        sigma: Its standard deviation in s; None leaves this panel out.
        status: A code from 0 on for each voxel; None leaves this panel out.
        contrast: Which of `SCALES` the colours follow: "t2", "t1" or "vfa".
        levels: The name of each code. The legend names the codes that occur, with
            their share of the image, and one without a name by its number.
        roi: Map and sigma are black where it is False; None shows all.
        title: Stands over the figure; the empty text leaves it out.
        turns: How many quarter turns to the left the images are shown with, any whole
            number; 1 suits a NIfTI's axial slice.
        affine: From (row, column, slice) to RAS mm: the map's edges get the letters of
            the patient's sides, see `edge_letters`; None leaves them out.
        posterior: Whether `sigma` is the half-width of an interval, on twice the scale,
            and `status` a reason not to trust a voxel; their titles then say so.
    """
    scale = SCALES[contrast]
    count = 1 + (sigma is not None) + (status is not None)
    figure, axes = new_figure(1, count, title)
    look = {"roi": np.ones(value.shape, bool) if roi is None else roi, "turns": turns}
    limits = (0, scale.largest)
    draw_panel(axes[0][0], value, scale.label, limits, scale.colours, **look)
    if affine is not None:
        places = {"va": "center", "ha": "center", "color": "white", "fontsize": 8}
        where = ((0.5, 0.95), (0.95, 0.5), (0.5, 0.05), (0.05, 0.5))
        for letter, (x, y) in zip(edge_letters(affine, turns), where, strict=True):
            axes[0][0].text(x, y, letter, transform=axes[0][0].transAxes, **places)
    if sigma is not None:
        label = f"sigma of {scale.label}"
        ends = (0, scale.sigma)
        if posterior:
            label, ends = (
                f"half-width of {scale.label}'s interval",
                (0, 2 * scale.sigma),
            )
        draw_panel(axes[0][1], sigma, label, ends, _SIGMA, **look)
    if status is not None:
        title = "not to be trusted" if posterior else "status of the fit"
        _states(axes[0][-1], np.rot90(status, turns), levels, title)
    return figure


def edge_letters(
    affine: Float[np.ndarray, "4 4"], turns: int = 0
) -> tuple[str, str, str, str]:
    """The patient's side at an image's top, right, bottom and left edge.

    Each is the one that its axis points to most: R, L, A, P, S or I. Row 0 is at the
    top, column 0 on the left.

    Args:
        affine: From (row, column, slice) to RAS mm.
        turns: How many quarter turns to the left the image is shown with.
    """

    def side(direction: Float[np.ndarray, "3"]) -> str:
        axis = int(np.abs(direction).argmax())
        return ("LR", "PA", "IS")[axis][int(direction[axis] > 0)]

    rows, columns = affine[:3, 0], affine[:3, 1]
    edges = [side(-rows), side(columns), side(rows), side(-columns)]
    first = turns % 4  # what was on the right comes to the top
    top, right, bottom, left = edges[first:] + edges[:first]
    return top, right, bottom, left


def comparison_sheet(
    reference: Float[np.ndarray, "H W"],
    estimates: Mapping[str, Float[np.ndarray, "H W"]],
    *,
    contrast: str,
    roi: Bool[np.ndarray, "H W"],
    notes: Mapping[str, str] | None = None,
    title: str = "",
    turns: int = 0,
) -> "Figure":
    """Each method's map over its signed error, the reference in front.

    Args:
        reference: T1 or T2 in s.
        estimates: The map in s of each method by its name, at least one. Five columns
            fit beside each other, the reference among them; more go below.
        contrast: Which of `SCALES` the colours follow: "t2", "t1" or "vfa".
        roi: True where maps are compared; the rest is black, and what is further than
            three pixels from it is left out.
        notes: A line under a method's name, such as its scores, by the method; a
            method may have none.
        title: Stands over the figure; the empty text leaves it out.
        turns: How many quarter turns to the left the images are shown with, any whole
            number; 1 suits a NIfTI's axial slice.

    Raises:
        ValueError: No methods, or maps of another size than the reference.
    """
    wrong = [n for n, m in estimates.items() if m.shape != reference.shape]
    if wrong or not estimates:
        raise ValueError(
            f"maps of {wrong or 'no methods'}; expected some of {reference.shape}"
        )
    scale = SCALES[contrast]
    shown = [("reference", reference), *estimates.items()]
    columns = min(len(shown), COLUMNS)
    bands = -(-len(shown) // columns)
    figure, axes = new_figure(2 * bands, columns, title)
    look = {"roi": roi, "turns": turns}
    above, below = (0, scale.largest), (-scale.error, scale.error)
    for n in range(bands * columns):
        band, column = divmod(n, columns)
        value, error = axes[2 * band][column], axes[2 * band + 1][column]
        if n >= len(shown):
            value.set_axis_off()
        if n >= len(shown) or not n:
            error.set_axis_off()
        if n >= len(shown):
            continue
        name, image = shown[n]
        # A bar further to the left, of a short last band, would part the columns.
        bars = (scale.label, "error") if column == columns - 1 else (None, None)
        label = f"{name}\n{notes.get(name, '')}" if notes else name
        draw_panel(value, image, label, above, scale.colours, **look, bar=bars[0])
        show_region(value, **look)
        if n:
            draw_panel(error, image - reference, "", below, _ERROR, **look, bar=bars[1])
            show_region(error, **look)
    return figure


def calibration_figure(
    curves: Mapping[str, Sequence[Float[np.ndarray, "K"]]], *, title: str = ""
) -> "Figure":
    """RMS error against sigma, and observed against nominal coverage, by method.

    Args:
        curves: What `evals.calibration.calibration` returns for each method by its
            name: sigma and error of the bins in s, then nominal and observed coverage
            from 0 to 1. Values that are not above 0 do not fit on the logarithmic axes.
        title: Stands over the figure; the empty text leaves it out.

    Raises:
        ValueError: No curves.
    """
    if not curves:
        raise ValueError("no curves to draw")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.0), dpi=130, layout="constrained")
    errors, coverage = figure.subplots(1, 2)
    values = []
    for (name, (sigma, error, nominal, observed)), style in zip(
        curves.items(), line_styles(len(curves)), strict=True
    ):
        style = {"marker": "o", "markersize": 3.5, "label": name} | style
        errors.plot(1e3 * np.asarray(sigma), 1e3 * np.asarray(error), **style)
        coverage.plot(nominal, observed, **style)
        values += [1e3 * np.asarray(sigma), 1e3 * np.asarray(error)]
    positive = np.concatenate(values)
    positive = positive[np.isfinite(positive) & (positive > 0)]
    ends = (
        (0.8 * positive.min(), 1.25 * positive.max()) if len(positive) else (1.0, 10.0)
    )
    line = {"color": "#888888", "linewidth": 1, "linestyle": "--", "zorder": 0}
    errors.plot(ends, ends, **line)
    errors.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    errors.set(xlabel="RMS sigma of the bin, ms", ylabel="RMS error of the bin, ms")
    for side in (errors.xaxis, errors.yaxis):
        side.set_major_formatter("{x:g}")
    errors.annotate("errors larger than sigma", (0.04, 0.95), xycoords="axes fraction",
                    va="top", color="#666666", fontsize=8)  # fmt: skip
    coverage.plot([0, 1], [0, 1], **line)
    coverage.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    coverage.set(xlabel="nominal coverage", ylabel="observed coverage")
    # Beside the lines: there may be a dozen of them.
    coverage.legend(
        frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    for axis in (errors, coverage):
        axis.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def write_png(path: str | os.PathLike[str], figure: "Figure") -> Path:
    """Store a figure as a PNG file under a temporary name, then rename it.

    Args:
        path: Folders that are missing are made, and a file that is there is replaced.
        figure: Of matplotlib.

    Returns:
        The path.
    """
    return write_file(Path(path), png_bytes(figure))


def _states(
    axis: "Axes",
    status: Int[np.ndarray, "H W"],
    levels: Mapping[int, str],
    title: str,
) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    codes, counts = np.unique(status, return_counts=True)
    table = np.array([to_rgb(c) for c in STATES])
    axis.imshow(table[status.astype(int) % len(table)], interpolation="nearest")
    axis.xaxis.set_visible(False)
    axis.yaxis.set_visible(False)
    axis.set_title(title, fontsize=8)
    handles = [
        Patch(
            color=STATES[code % len(STATES)],
            label=f"{levels.get(code, code)} {100 * count / status.size:.1f} %",
        )
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
    ]
    axis.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize=7,
        handlelength=1,
    )
