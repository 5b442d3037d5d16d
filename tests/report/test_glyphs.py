"""Texts that the plain font cannot draw: another font, an escape, a number."""

import numpy as np
import pytest
from matplotlib import font_manager

from medjax.report import glyphs
from medjax.report.boxes import Overlay, contact_sheet
from medjax.report.check import Shown, example_sheet
from medjax.report.classes import Answer, answer_sheet, confusion_figure
from medjax.report.page import png_bytes

NODULE, EFFUSION = "\u80ba\u7ed3\u8282", "\u80f8\u8154\u79ef\u6db2"
GREY = np.full((40, 40, 3), 90, np.uint8)


@pytest.fixture
def plain(monkeypatch):
    """As on a computer whose fonts are those that come with matplotlib."""
    ours = font_manager.fontManager.ttflist
    mine = [font for font in ours if "matplotlib" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", mine)


def figures(families_of=(NODULE, EFFUSION)):
    one, other = families_of
    box = np.array([3.0, 3, 20, 20])
    shown = Shown(f"train: {one}", GREY, [box], f"Find the {one}.", f"<b>{other}</b>")
    answers = [Answer(GREY, one, said, f"It is {said}.") for said in families_of]
    return {
        "confusion": confusion_figure(
            np.array([0, 1]), np.array([1, -1]), [one, other]
        ),
        "answers": answer_sheet(answers, count=2),
        "examples": example_sheet([shown], cell=8),
        "boxes": contact_sheet([Overlay(GREY, f"Find {one}.", box, box, 1.0)], count=1),
    }


def texts(figure):
    from matplotlib.text import Text

    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_what_no_font_has_is_escaped_or_numbered(plain):
    """Matplotlib warns of each empty box; in the suite that is an error."""
    found = figures()
    for figure in found.values():
        assert len(png_bytes(figure)) > 1000
    assert "#0" in texts(found["confusion"]) and "#n: class n" in texts(
        found["confusion"]
    )
    for name in ("answers", "examples", "boxes"):
        assert r"\u80ba" in texts(found[name]).replace("\n", "")


def test_an_installed_font_that_has_it_is_taken(plain):
    """STIX stands for a Chinese font: DejaVu Sans has no circled letters."""
    lacking = "\u24b6"
    families = glyphs.font_families([lacking, "lung"])
    assert families[-1] == "STIXGeneral" and len(families) == 2
    assert glyphs.drawable(f"{lacking} lung", families) == f"{lacking} lung"
    for figure in figures((f"a{lacking}", "b")).values():
        assert len(png_bytes(figure)) > 1000
        assert lacking in texts(figure) and "#" not in texts(figure)


def test_plain_texts_stay_as_they_are():
    assert glyphs.font_families(["lung", "Gr\u00f6\u00dfe", "\u03b1\n"]) == []
    assert glyphs.drawable("lung", []) == "lung"


def test_wide_letters_are_wrapped_at_half():
    assert glyphs.wrap("a" * 20, 10) == ["a" * 10] * 2
    assert glyphs.wrap(NODULE[0] * 20, 10) == [NODULE[0] * 5] * 4
