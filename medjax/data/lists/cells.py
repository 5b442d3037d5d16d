"""Cells of a user's list: names, text and numbers, checked and never guessed.

Nothing is coerced. A value that is not there (null, NaN, blanks, "nan") is refused,
and so is a number where a name is expected: 7, "7" and "07" would be three patients.
Text comes out in Unicode's form NFC and stripped, so that a name has one spelling.
"""

import math
import re
import unicodedata
from typing import Any

_MISSING = ("", "nan", "nat", "null", "<na>", "n/a", "#n/a")
_NOBODY = (*_MISSING, "none", "na", "unknown", "undefined", "-", "--", "?", ".")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

_TOKEN = re.compile(r"<\|[a-z_]+\|>")


def missing(value: Any) -> bool:  # noqa: ANN401
    """Whether a cell says nothing: null, NaN, blanks, or a word that stands for them.

    Args:
        value: Of a JSON object, or the text of a CSV cell. "nan", "null", "N/A" and
            the like are missing in upper and lower case; "none" may be a class.
    """
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def text(value: Any, origin: str, column: str) -> str:  # noqa: ANN401
    """A cell of free text, which may have several lines, in form NFC and stripped.

    Args:
        value: Of a JSON object, or the text of a CSV cell.
        origin: What an error calls the line.
        column: What an error calls the cell.

    Raises:
        ValueError: It is missing, no text, or holds characters that cannot be shown or
            a token of prompts, such as <|image_pad|>.
    """
    if missing(value):
        raise ValueError(f"{origin}: {column} is {_shown(value)}; expected text")
    if not isinstance(value, str):
        raise ValueError(
            f"{origin}: {column} is {value!r}; expected text: write it in quotes"
        )
    for character in value:
        kind = unicodedata.category(character)
        if kind == "Cs" or kind == "Cc" and character not in "\t\n\r":
            raise ValueError(
                f"{origin}: {column} {value!r} holds the character U+"
                f"{ord(character):04X}, which cannot be shown; take it out"
            )
    if token := _TOKEN.search(value):
        raise ValueError(
            f"{origin}: {column} {value!r} holds {token.group()}, which is a token of "
            "prompts and no text; take it out"
        )
    return unicodedata.normalize("NFC", value).strip()


def name(value: Any, origin: str, column: str) -> str:  # noqa: ANN401
    """A cell that names something, such as a class: text of one line.

    Args:
        value: Of a JSON object, or the text of a CSV cell.
        origin: What an error calls the line.
        column: What an error calls the cell.

    Raises:
        ValueError: It is missing, no text, or has several lines.
    """
    found = text(value, origin, column)
    if "\n" in found or "\r" in found:
        raise ValueError(
            f"{origin}: {column} {found!r} has several lines; expected a name"
        )
    return found


def group_name(value: Any, origin: str, column: str) -> str:  # noqa: ANN401
    """A cell that says whose picture it is: a name that is nobody's is refused.

    Args:
        value: Of a JSON object, or the text of a CSV cell. "unknown", "None", "-" and
            the like would make one patient of many.
        origin: What an error calls the line.
        column: What an error calls the cell.

    Raises:
        ValueError: It is missing, no text, nobody's, or has several lines.
    """
    if isinstance(value, str) and value.strip().casefold() in _NOBODY or missing(value):
        raise ValueError(
            f"{origin}: {column} is {_shown(value)}; expected a name, or all lines "
            "with the same one would count as one. Fill it in (a line's own name where "
            "nothing is known), or take the column out of all lines"
        )
    return name(value, origin, column)


def number(value: Any, origin: str, column: str) -> float:  # noqa: ANN401
    """A finite number, of JSON or as the text of a CSV cell with a decimal point.

    Args:
        value: No switch, no text but ASCII digits with sign, point and exponent.
        origin: What an error calls the line.
        column: What an error calls the cell.

    Raises:
        ValueError: It is missing, infinite, or no number.
    """
    if missing(value):
        raise ValueError(f"{origin}: {column} is {_shown(value)}; expected a number")
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        found = float(value)
    elif type(value) in (int, float) and abs(value) < 1e300:
        found = float(value)
    else:
        found = math.inf
    if not math.isfinite(found):
        hint = ", with a point before the decimals" if "," in str(value) else ""
        raise ValueError(
            f"{origin}: {column} is {value!r}; expected a finite number{hint}"
        )
    return found


def _shown(value: Any) -> str:  # noqa: ANN401
    blank = isinstance(value, str) and not value.strip()
    return "null" if value is None else "empty" if blank else repr(value)
