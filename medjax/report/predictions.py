"""A picture with the boxes that were answered drawn in, or with the classes beside."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from medjax.report.boxes import LOOK
from medjax.report.glyphs import drawable, font_families, use_families, wrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = 5.0  # of the longer side
_LINE = 60  # letters of a line above


def draw_prediction(
    image: UInt8[np.ndarray, "h w 3"],
    *,
    query: str,
    boxes: Float[np.ndarray, "k 4"] | None,
    notes: Sequence[str],
    said: str,
) -> "Figure":
    """A figure of one picture, the question above it and the answer below.

    Args:
        image: RGB, 0 to 255.
        query: Is shortened to 160 characters.
        boxes: (x1, y1, x2, y2) in pixels of `image`; None where it was not asked for
            boxes. What lies outside of the picture is not seen.
        notes: A word at each box, such as its confidence.
        said: What stands below; of boxes it is shown where there is none.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    scale = _INCHES / max(height, width)
    size = (max(2.5, width * scale), max(1.5, height * scale) + 0.9)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axis = figure.subplots()
    # Pixel i covers i to i + 1, as boxes count.
    axis.imshow(image, extent=(0, width, height, 0), interpolation="nearest")
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    axis.set_xticks([])
    axis.set_yticks([])
    found = np.zeros((0, 4)) if boxes is None else np.asarray(boxes, np.float64)
    for (x1, y1, x2, y2), note in zip(found.tolist(), notes, strict=False):
        look = LOOK["predicted"] | {"linestyle": "-"}
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))
        back = {"facecolor": "black", "edgecolor": "none", "pad": 1.0, "alpha": 0.7}
        at = (min(max(x1, 0), width), min(max(y1, 0), height))
        axis.text(*at, note, color="white", fontsize=7, va="bottom", bbox=back)
    said = said if not len(found) else ""
    families = font_families([query, said])
    text = textwrap.shorten(" ".join(query.split()), 160, placeholder=" ...")
    axis.set_title("\n".join(wrap(drawable(text, families), _LINE)), fontsize=8)
    axis.set_xlabel("\n".join(wrap(drawable(said, families), _LINE)), fontsize=8)
    use_families(figure, families)
    return figure
