"""Figures of classes: the confusion matrix, and pictures with what was answered."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from medjax.report.glyphs import drawable, font_families, use_families, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RIGHT, _WRONG = "#0072B2", "#D55E00"  # told apart with any colour vision
_UNREAD = "unread"


class Answer(NamedTuple):
    """One answer about one picture."""

    image: UInt8[np.ndarray, "h w 3"]
    truth: str  # name of the true class, or names with commas
    said: str | None  # of the class or classes answered; None: none could be read
    text: str  # what the policy wrote; its first 110 characters are shown


def confusion_figure(
    label: Int[np.ndarray, "N"],
    predicted: Int[np.ndarray, "N"],
    classes: Sequence[str],
) -> "Figure":
    """Counts of true class (rows) and answer (columns); shade: share of the row.

    Classes that neither occur nor were answered are left out. One whose name no font at
    hand can draw is called by its number.

    Args:
        label: The true class of each of N answers, from 0 to C - 1; at least one.
        predicted: The class answered, or -1 where none could be read: such answers
            get a column of their own, where there are any.
        classes: The name of each of the C classes, in the order of their numbers.
    """
    from matplotlib.figure import Figure

    rows = np.unique(label)
    columns = np.unique(np.concatenate([rows, predicted]))
    columns = np.append(columns[columns >= 0], columns[columns < 0])
    counts = np.array(
        [[np.sum((label == i) & (predicted == j)) for j in columns] for i in rows]
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    families = font_families(classes)
    known = [
        _short(name) if drawable(name, families) == name else f"#{n}"
        for n, name in enumerate(classes)
    ]
    names = [known[j] if j >= 0 else _UNREAD for j in columns]
    cell = 0.55
    size = (2.2 + cell * len(columns), 1.5 + cell * len(rows))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        colour = "white" if shares[i, j] > 0.55 else "black"
        right = rows[i] == columns[j]
        weight = "bold" if right else "normal"
        style = {"ha": "center", "va": "center", "fontsize": 8, "fontweight": weight}
        axis.text(j, i, str(count), color=colour, **style)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axis.set_yticks(range(len(rows)), [known[i] for i in rows], fontsize=8)
    note = "\n#n: class n from 0, whose name no font here has"
    lacking = any(name.startswith("#") for name in names)
    axis.set_xlabel("answer" + (note if lacking else ""), fontsize=9)
    axis.set_ylabel("true class", fontsize=9)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    use_families(figure, families)
    return figure


def answer_sheet(answers: Sequence[Answer], *, count: int) -> "Figure":
    """A row of right and a row of wrong answers, with what was thought and said.

    Args:
        answers: All of an evaluation, at least one: each row takes one of each true
            class in turn, not the first ones.
        count: How many answers a row shows at most, 1 or more. A row without any
            answer is left out.

    Raises:
        ValueError: No answers.
    """
    if not answers:
        raise ValueError("no answers to draw")
    from matplotlib.figure import Figure

    parts = {
        "right": _in_turn([a for a in answers if a.said == a.truth])[:count],
        "wrong": _in_turn([a for a in answers if a.said != a.truth])[:count],
    }
    parts = {name: part for name, part in parts.items() if part}
    families = font_families(
        text for a in answers for text in (a.truth, a.said or "", a.text)
    )
    columns = max(map(len, parts.values()))
    size = (2.0 * columns + 0.3, 2.9 * len(parts))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axes = figure.subplots(len(parts), columns, squeeze=False)
    for line, (name, part) in zip(axes, parts.items(), strict=True):
        for axis, answer in zip(line, part, strict=False):
            _draw(axis, answer, families)
        for axis in line[len(part) :]:
            axis.set_axis_off()
        line[0].set_ylabel(name, fontsize=10, fontweight="bold")
    use_families(figure, families)
    return figure


def _in_turn(answers: Sequence[Answer]) -> list[Answer]:
    """One of each true class, then the second of each, and so on."""
    counts: dict[str, int] = {}
    turns = []
    for answer in answers:
        turns.append(counts.get(answer.truth, 0))
        counts = counts | {answer.truth: turns[-1] + 1}
    order = np.argsort(turns, kind="stable")
    return [answers[n] for n in order]


def _draw(axis: "Axes", answer: Answer, families: list[str]) -> None:
    axis.imshow(answer.image, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    right = answer.said == answer.truth
    said = answer.said if answer.said is not None else "no class read"
    truth, said = (drawable(name, families) for name in (answer.truth, said))
    title = _folded(truth if right else said)
    title += "" if right else "\n" + _folded(f"not {truth}")
    # what a policy wrote may hold a dollar sign, which is no mathematics
    plain = {"parse_math": False}
    axis.set_title(title, fontsize=8, pad=3, color=_RIGHT if right else _WRONG, **plain)
    lines = written(answer.text, families, letters=110, width=27)
    axis.set_xlabel(lines, fontsize=6.5, labelpad=3, **plain)


def _folded(name: str) -> str:
    """At most three lines as wide as a picture: a set of classes can be long."""
    return "\n".join(textwrap.wrap(name, 26, max_lines=3, placeholder=" ..."))


def _short(name: str) -> str:
    return textwrap.shorten(name, 26, placeholder=" ...")
