"""Predicted and true boxes drawn on their images: best, median and worst answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from medjax.report.glyphs import font_families, use_families, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Both stand out on grey and are told apart with any colour vision; the thin dashes of
# the prediction leave a truth under them visible.
LOOK = {
    "truth": {"edgecolor": "#56B4E9", "linewidth": 3.0},
    "predicted": {"edgecolor": "#E69F00", "linewidth": 1.5, "linestyle": (0, (3, 1.5))},
}
_LINE = 0.135  # inches of a line below a picture


class Overlay(NamedTuple):
    """One answer; boxes are (x1, y1, x2, y2) in pixels of `image`."""

    image: UInt8[np.ndarray, "h w 3"]
    query: str  # shown under the image, shortened to 84 characters
    truth: Float[np.ndarray, "*k 4"]  # one box, or a set of any number
    box: Float[np.ndarray, "*p 4"] | None  # likewise; None: none could be read
    iou: float  # 0 to 1; of sets their quality Q
    score: str = "IoU"  # what that is called
    text: str | None = None  # what the policy wrote, shortened to 150 characters


def pick(iou: Float[np.ndarray, "N"], *, count: int) -> dict[str, list[int]]:
    """Indices of the "best", the "median" and the "worst" answers, best first.

    Args:
        iou: Of N answers; equal ones keep their order, and none gives empty rows.
        count: How many answers a row has, 1 or more. Each answer is in one row at
            most, so with fewer than 3 * count of them the rows get shorter.
    """
    order = np.argsort(-np.asarray(iou), kind="stable").tolist()
    count = min(count, -(-len(order) // 3))
    best, rest = order[:count], order[count:]
    worst = rest[max(0, len(rest) - count) :]
    rest = rest[: len(rest) - len(worst)]
    start = max(0, (len(rest) - count) // 2)
    return {"best": best, "median": rest[start : start + count], "worst": worst}


def contact_sheet(answers: Sequence[Overlay], *, count: int) -> "Figure":
    """Rows of the best, median and worst answers: query, IoU, and what was written.

    Args:
        answers: At least one; their images may differ in size.
        count: How many answers a row has, see `pick`.

    Raises:
        ValueError: No answers, or a box that is not four finite numbers.
    """
    if not answers:
        raise ValueError("no answers to draw")
    rows = pick(np.array([a.iou for a in answers]), count=count)
    rows = {name: chosen for name, chosen in rows.items() if chosen}
    shown = [answers[n] for chosen in rows.values() for n in chosen]
    families = font_families(x for a in shown for x in (a.query, a.text or ""))
    columns = max(map(len, rows.values()))
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    lines = max(_below(answer, families).count("\n") for answer in shown) + 1
    size = (2.0 * columns + 0.3, (2.2 + _LINE * lines) * len(rows) + 0.4)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, chosen) in zip(axes, rows.items(), strict=True):
        for axis, index in zip(line, chosen, strict=False):
            _draw(axis, answers[index], families)
        for axis in line[len(chosen) :]:
            axis.set_axis_off()
        line[0].set_ylabel(name, fontsize=10, fontweight="bold")
    handles = [
        Patch(facecolor="none", label=name, **look) for name, look in LOOK.items()
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9
    )
    use_families(figure, families)
    return figure


def _draw(axis: "Axes", answer: Overlay, families: list[str]) -> None:
    height, width = answer.image.shape[:2]
    # Pixel i covers i to i + 1, as boxes count.
    axis.imshow(answer.image, extent=(0, width, height, 0), interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    for box in _boxes(answer.truth):
        _rectangle(axis, box, name="truth")
    for box in _boxes(answer.box):
        _rectangle(axis, box, name="predicted")
    said = _in_words(answer)
    if said:
        style = {"ha": "center", "va": "top", "color": "white", "fontsize": 8}
        back = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
        axis.text(width / 2, height * 0.03, said, bbox=back, **style)
    below = _below(answer, families)
    axis.set_title(f"{answer.score} {answer.iou:.2f}", fontsize=8, pad=3)
    axis.set_xlabel(below, fontsize=7, labelpad=3, parse_math=False)


def _below(answer: Overlay, families: list[str]) -> str:
    """What stands below a picture: what was asked, and what was written."""
    query = written(answer.query, families, letters=84, width=28)
    text = written(answer.text, families, letters=150, width=28)
    return f"{query}\n{text}".rstrip()


def _boxes(boxes: Float[np.ndarray, "*k 4"] | None) -> Float[np.ndarray, "k 4"]:
    if boxes is None:
        return np.zeros((0, 4))
    if np.shape(boxes)[-1:] != (4,):
        raise ValueError(f"box {boxes}: expected four finite numbers (x1, y1, x2, y2)")
    return np.reshape(boxes, (-1, 4))


def _in_words(answer: Overlay) -> str:
    """What no rectangle shows; "" where each side has one."""
    several = np.ndim(answer.truth) == 2
    if answer.box is None:
        return "no set read" if several else "no box read"
    empty = [
        n for n, x in (("truth", answer.truth), ("answer", answer.box)) if not len(x)
    ]
    return f"{' and '.join(empty)}: none" if empty else ""


def _rectangle(axis: "Axes", box: Float[np.ndarray, "4"], *, name: str) -> None:
    from matplotlib.patches import Rectangle

    if np.shape(box) != (4,) or not np.all(np.isfinite(box)):
        raise ValueError(f"box {box}: expected four finite numbers (x1, y1, x2, y2)")
    x1, y1, x2, y2 = map(float, box)
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **LOOK[name]))
