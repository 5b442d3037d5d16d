"""Texts in figures, in characters that some font at hand can draw."""

import textwrap
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LAST = "Last Resort"  # a font of boxes that name the script, and not the character
_SPACES = "\n\t\r "


def font_families(texts: Iterable[str]) -> list[str]:
    """The families to draw the texts in, the plain one first; [] where it has all.

    Beside it stands the installed font that has most of the other characters, Chinese
    ones for example, if any has one.

    Args:
        texts: Everything that users wrote and a figure is to show.
    """
    from matplotlib import font_manager, rcParams

    lacking = {c for text in texts for c in text if c not in _SPACES}
    lacking -= _characters(font_manager.findfont(font_manager.FontProperties()))
    if not lacking:
        return []
    installed = dict.fromkeys(font.name for font in font_manager.fontManager.ttflist)
    names = {
        name: len(lacking & _characters(_file(name)))
        for name in installed
        if not name.startswith(_LAST)
    }
    best = max(names, key=lambda name: names[name], default="")
    return [*rcParams["font.family"], *([best] if best and names[best] else [])]


def drawable(text: str, families: list[str]) -> str:
    r"""The text with an escape, such as \u80ba, for what none of the families has.

    A figure would show an empty box, the same for every such character. Of marks that
    join others to one character nothing is escaped.

    Args:
        text: As a user wrote it.
        families: From `font_families`, of this text and others.
    """
    if not families:
        return text
    known = set(_SPACES).union(*(_characters(_file(name)) for name in families))
    return "".join(c if c in known else _escape(c) for c in text)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` letters; those of Chinese and the like take two each.

    Args:
        text: One paragraph.
        width: In letters of the plain font, 2 or more.
    """
    wide = any(unicodedata.east_asian_width(c) in "WF" for c in text)
    return textwrap.wrap(text, width // 2 if wide else width)


def written(text: str | None, families: list[str], *, letters: int, width: int) -> str:
    """What a policy wrote, in lines that a figure can show below a picture.

    White space is one blank, what cannot be printed the sign of a lost character. Such
    a text may hold a dollar sign: draw it with `parse_math=False`.

    Args:
        text: None, where nothing is known of it, gives "".
        families: From `font_families`, of this text and others.
        letters: What is longer is cut at a word, and ends with " ...".
        width: Of a line, in letters of the plain font, 2 or more.
    """
    words = " ".join((text or "").split())
    words = "".join(c if c.isprintable() else "\ufffd" for c in words)
    short = textwrap.shorten(drawable(words, families), letters, placeholder=" ...")
    return "\n".join(wrap(short, width))


def use_families(figure: "Figure", families: list[str]) -> None:
    """Draw all texts of a figure in the families; [] leaves them as they are.

    Args:
        figure: It is changed.
        families: From `font_families`.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text) if families else ():
        if isinstance(text, Text):
            text.set_fontfamily(families)


def _file(family: str) -> str:
    """The font that a family's plain texts are drawn in."""
    from matplotlib import font_manager

    return str(font_manager.findfont(font_manager.FontProperties(family=[family])))


def _characters(path: str) -> set[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return set(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return set()  # a font file that is damaged


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()
