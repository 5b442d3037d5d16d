"""Panels and line styles that figures of maps share."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One hue for each state of a fit (Okabe and Ito), the first of them for success.
STATES = (
    "#009E73 #56B4E9 #F0E442 #E69F00 #D55E00 #CC79A7 #222222 #999999 #0072B2".split()
)


def new_figure(rows: int, columns: int, title: str) -> tuple["Figure", np.ndarray]:
    """A figure with room for so many square panels, and its axes [rows, columns].

    Args:
        rows: 1 or more.
        columns: 1 or more.
        title: Stands over the figure; the empty text leaves it out.
    """
    from matplotlib.figure import Figure

    size = (2.6 * columns + 0.6, 2.7 * rows + 0.4 * bool(title))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_panel(
    axis: "Axes",
    image: Float[np.ndarray, "H W"],
    label: str,
    limits: tuple[float, float],
    colours: str,
    *,
    roi: Bool[np.ndarray, "H W"],
    turns: int,
    bar: str | None = "",
) -> None:
    """Draw an image given in s in ms, with a colour bar beside it.

    Args:
        axis: Where it is drawn.
        image: In s; what is not finite is black.
        label: Stands over it.
        limits: Values in ms at the ends of the colour bar.
        colours: The name of a colour map of matplotlib.
        roi: The rest is black.
        turns: Quarter turns to the left.
        bar: Stands beside the colour bar, in front of its unit; None leaves it out.
    """
    import matplotlib

    chosen = matplotlib.colormaps[colours].with_extremes(bad="black")
    inside = np.where(roi, 1e3 * image, np.nan)
    shown = axis.imshow(
        np.ma.masked_invalid(np.rot90(inside, turns)),
        cmap=chosen,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    axis.xaxis.set_visible(False)  # even no ticks would be laid out anew
    axis.yaxis.set_visible(False)
    axis.set_title(label, fontsize=8)
    if bar is not None:
        extend = "both" if limits[0] < 0 else "max"
        beside = axis.inset_axes((1.03, 0, 0.05, 1))  # as high as the image
        colorbar = axis.figure.colorbar(shown, cax=beside, extend=extend)
        colorbar.ax.tick_params(labelsize=7)
        colorbar.set_label(f"{bar}, ms" if bar else "ms", fontsize=8)


def show_region(axis: "Axes", roi: Bool[np.ndarray, "H W"], turns: int) -> None:
    """Leave out what is round a region but for a square with three pixels of margin.

    Args:
        axis: With an image of `draw_panel`.
        roi: Empty: all is shown.
        turns: Of the image.
    """
    rows, columns = np.nonzero(np.rot90(roi, turns))
    if not len(rows):
        return
    ends = [(x.min() + x.max()) / 2 for x in (rows, columns)]
    half = max(np.ptp(rows), np.ptp(columns)) / 2 + 3.5
    axis.set_ylim(ends[0] + half, ends[0] - half)
    axis.set_xlim(ends[1] - half, ends[1] + half)
    axis.set_facecolor("black")  # beyond the image


def line_styles(count: int) -> list[dict[str, str]]:
    """Styles of so many lines, 0 or more: eight colours, then the same ones dashed.

    Args:
        count: How many.
    """
    order = [8, 4, 0, 3, 5, 1, 7, 6]
    size = len(order)
    return [
        {"color": STATES[order[n % size]], "linestyle": ("-", "--")[n // size % 2]}
        for n in range(count)
    ]
