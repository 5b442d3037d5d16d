"""Figures of a data set before training: what the policy sees, where boxes lie."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from medjax.report.glyphs import drawable, font_families, use_families, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 5
_BOX = {"edgecolor": "#56B4E9", "linewidth": 1.8}


class Shown(NamedTuple):
    """One example of the sheet."""

    title: str  # the part and the line it is from
    image: UInt8[np.ndarray, "h w 3"]  # as the policy sees it
    boxes: Sequence[Sequence[float]]  # as its answer is read back, in pixels of it
    question: str
    answer: str


def example_sheet(examples: Sequence[Shown], *, cell: int) -> "Figure":
    """Pictures with their boxes, question and answer below, five in a row.

    Args:
        examples: At least one; their pictures may differ in size.
        cell: Pixels a side of what is one token to the policy; marks at the edges of
            the pictures show them.

    Raises:
        ValueError: No examples.
    """
    if not examples:
        raise ValueError("no examples to draw")
    from matplotlib.figure import Figure

    families = font_families(
        text for x in examples for text in (x.title, x.question, x.answer)
    )
    examples = [
        example._replace(
            title=drawable(example.title, families),
            question=drawable(example.question, families),
            answer=drawable(example.answer, families),
        )
        for example in examples
    ]
    columns = min(_COLUMNS, len(examples))
    rows = -(-len(examples) // columns)
    lines = max(len(_below(example)) for example in examples)
    # a picture's width, its title and margins, and so much for each line below it
    size = (3.0 * columns, (3.9 + 0.125 * lines) * rows)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, example in zip(axes, examples, strict=False):
        _draw(axis, example, cell)
    for axis in axes[len(examples) :]:
        axis.set_axis_off()
    use_families(figure, families)
    return figure


def box_figure(
    cover: Float[np.ndarray, "n n"],
    areas: Float[np.ndarray, "b"],
    sides: Float[np.ndarray, "b"],
    counts: Int[np.ndarray, "q"],
) -> "Figure":
    """Where boxes lie in their pictures, how large and how many they are.

    Args:
        cover: The share of the boxes that cover each cell of a picture, rows first.
        areas: Shares of the picture, 0 to 1.
        sides: Shorter sides in pixels of the picture as shown.
        counts: Boxes of each question.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.2), dpi=110, layout="constrained")
    left, *others = figure.subplots(1, 4)
    image = left.imshow(cover, cmap="viridis", extent=(0, 1, 1, 0), vmin=0)
    left.set_title("where boxes lie", fontsize=10)
    left.set_xlabel("of the width", fontsize=9)
    left.set_ylabel("of the height", fontsize=9)
    figure.colorbar(image, ax=left, label="share of boxes")
    names = (
        "share of the picture",
        "shorter side, pixels as shown",
        "boxes a question",
    )
    for axis, values, name in zip(others, (areas, sides, counts), names, strict=True):
        whole = np.issubdtype(np.asarray(values).dtype, np.integer)
        edges = np.arange(values.min(), values.max() + 2) - 0.5 if whole else 30
        axis.hist(values, bins=edges, color="#56B4E9", edgecolor="white", linewidth=0.4)
        axis.set_xlabel(name, fontsize=9)
        axis.set_ylabel("number", fontsize=9)
        if whole:
            axis.set_xticks(range(int(values.min()), int(values.max()) + 1))
    return figure


def _draw(axis: "Axes", example: Shown, cell: int) -> None:
    from matplotlib.patches import Rectangle

    height, width = example.image.shape[:2]
    # Pixel i covers i to i + 1, as boxes count.
    axis.imshow(example.image, extent=(0, width, height, 0), interpolation="nearest")
    axis.set_xticks(range(0, width + 1, cell), [])
    axis.set_yticks(range(0, height + 1, cell), [])
    axis.tick_params(length=3.5, width=0.7)
    for x1, y1, x2, y2 in example.boxes:
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **_BOX))
    axis.set_title(f"{example.title}\n{width} wide, {height} high", fontsize=8, pad=3)
    axis.set_xlabel("\n".join(_below(example)), fontsize=6.5, labelpad=4, loc="left")


def _below(example: Shown) -> list[str]:
    """The lines of question and answer."""
    return [*_wrapped(example.question, 260), "", *_wrapped(example.answer, 300)]


def _wrapped(text: str, most: int) -> list[str]:
    short = textwrap.shorten(" ".join(text.split()), most, placeholder=" ...")
    # a dollar sign would begin mathematics
    return wrap(short.replace("$", r"\$"), 46)
