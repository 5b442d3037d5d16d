"""Cells: nothing is coerced, one form of Unicode, what is missing is refused."""

import pytest

from medjax.data.lists.cells import group_name, missing, name, number, text


@pytest.mark.parametrize("value", [None, float("nan"), "", "  ", "NaN", "null", "N/A"])
def test_what_is_missing_is_refused_as_anything(value):
    assert missing(value)
    for read in (text, name, group_name, number):
        with pytest.raises(ValueError, match=r"a\.csv, line 3: query is .*; expected"):
            read(value, "a.csv, line 3", "query")


@pytest.mark.parametrize("value", ["none", "None", "unknown", "NA", "-", "?"])
def test_nobodys_name_is_no_group_but_may_be_a_class(value):
    assert name(value, "x", "label") == value
    with pytest.raises(ValueError, match="all lines with the same one would count"):
        group_name(value, "x", "patient")


@pytest.mark.parametrize("value", [7, 7.0, True, ["a"], {"a": 1}])
def test_what_is_no_text_is_refused(value):
    for read in (text, name, group_name):
        with pytest.raises(ValueError, match="expected text: write it in quotes"):
            read(value, "x", "patient")


def test_one_form_of_unicode():
    assert name(" Mu\u0308ller ", "x", "label") == "M\u00fcller"
    assert text("two\nlines", "x", "query") == "two\nlines"
    with pytest.raises(ValueError, match="has several lines"):
        name("two\nlines", "x", "label")
    for character in ("\x00", "\x1b", "\ud800"):
        with pytest.raises(ValueError, match=r"holds the character U\+"):
            text(f"a{character}", "x", "query")


@pytest.mark.parametrize(
    ("value", "found"),
    [(3, 3.0), (2.5, 2.5), ("3", 3.0), (" -2.5e1 ", -25.0), ("+.5", 0.5), ("4.", 4.0)],
)
def test_numbers(value, found):
    assert number(value, "x", "x_min") == found


@pytest.mark.parametrize(
    "value", ["inf", "1_0", "0x1", "1e999", "\u0663", "1 2", True, 10**400, [1], "x"]
)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="x_min is .*expected a finite number"):
        number(value, "x", "x_min")
    with pytest.raises(ValueError, match="with a point before the decimals"):
        number("1,5", "x", "x_min")
