"""How a user's files are read: the options of it, and what a line was refused for."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

ON_BAD = ("stop", "drop")
NEAR = ("report", "group")
COORDS = ("", "xyxy", "xywh")
ANSWERS = ("one", "set")
PIXELS = ("", "stored", "square")
# What a column of readers may be called, in lower case.
_READERS = ("reader", "reader_id", "rad_id", "radiologist", "annotator", "annotator_id")


class Bad(NamedTuple):
    """A line that cannot be used, and why."""

    origin: str  # "records.jsonl, line 3"
    message: str  # begins with the origin
    # What cannot be used with it: other lines about the same, which say a part alone.
    # A picture's key, or the keys of a question's pictures and its text.
    spoils: Hashable = None


class SpoiltList(ValueError):
    """A list that cannot be used as a whole, and the lines of it that cannot either."""

    def __init__(self, message: str, dropped: Sequence[Bad]) -> None:
        super().__init__(message)
        self.dropped = tuple(dropped)


class Reading(NamedTuple):
    """The options of users' files; the names are those of a config's section `data`."""

    group: tuple[str, ...] = ()  # columns beside patient, study, lesion that group
    readers: str = ""  # "majority", "union" or a reader's name; "": there is one
    on_bad: str = "stop"  # what a line that cannot be used does: "stop" or "drop"
    near: str = "report"  # near-duplicates: "report", or "group" into one part
    coords: str = ""  # of box lists in CSV: "xyxy" or "xywh"; "": not declared
    answers: str = "one"  # answers a question may have: "one", or a "set"
    format: str = ""  # of a path, by name; "": recognised
    official: bool = True  # whether the parts that a list states are taken
    fold: int = 0  # of a published set that has several
    # Level and width for greys of more than 8 bits; (): the window of each file.
    window: tuple[float, ...] = ()
    pixels: str = ""  # "stored" or "square" pixels where they are not; "" refuses them


PLAIN = Reading()


def check_reading(reading: Reading) -> Reading:
    """The options as they are, each of them known.

    Args:
        reading: Of a config. Any word may be in `group` and `readers`: whether columns
            and readers of that name exist is seen when a file is read.

    Raises:
        ValueError: An option has another value than those that its field names.
    """
    known = {
        "on_bad": ON_BAD,
        "near": NEAR,
        "coords": COORDS,
        "answers": ANSWERS,
        "pixels": PIXELS,
    }
    for option, words in known.items():
        value = reading._asdict()[option]
        if value not in words:
            raise ValueError(f"data.{option}={value!r}: expected one of {words}")
    window = reading.window
    if window and (len(window) != 2 or not 0 < window[1] < math.inf):
        raise ValueError(
            f"data.window={window}: expected a level and a width above 0, such as "
            "40,400 of a CT's soft tissue"
        )
    return reading


def split_reading(section: Mapping[str, Any]) -> tuple[Reading, dict[str, Any]]:
    """A config's section as the options of users' files, and the others.

    Args:
        section: Options by name; those of `Reading` must all be there. A `group` of one
            column may be its name alone.

    Raises:
        ValueError: See `check_reading`.
    """
    mine = {name: section[name] for name in Reading._fields}
    if isinstance(mine["group"], str):
        mine["group"] = (mine["group"],)
    others = {name: section[name] for name in section if name not in mine}
    return check_reading(Reading(**mine)), others


def check_built_in(source: str, reading: Reading) -> None:
    """Raise ValueError where an option of users' lists is set for data without one.

    Args:
        source: What an error calls the data.
        reading: All but `answers` and `on_bad`, which changes nothing where no line
            is wrong, must be as they are when nothing is said.
    """
    for option, value in reading._asdict().items():
        if option not in ("answers", "on_bad") and value != PLAIN._asdict()[option]:
            raise ValueError(
                f"data.{option}={value!r} does not concern {source}, which is no list "
                "of a user's pictures; leave it out"
            )


def refuse(
    error: ValueError | OSError,
    origins: Sequence[str],
    reading: Reading,
    dropped: list[Bad],
) -> None:
    """Stop with the error, or drop its lines where the reading says so.

    Args:
        error: What is wrong.
        origins: The lines that cannot be used for it.
        reading: Its `on_bad` is "stop" or "drop".
        dropped: Gets the lines.

    Raises:
        ValueError: With `on_bad` "stop", as `error` is.
        OSError: Likewise.
    """
    if reading.on_bad == "stop":
        raise error
    dropped.extend(Bad(origin, str(error)) for origin in origins)


def spoilt_lines(
    lines: Iterable[tuple[str, Sequence[Hashable]]], bad: Iterable[Bad]
) -> list[Bad]:
    """The lines that are left out with another one, each once.

    Of three boxes or readers, one of whom cannot be used, the other two are no answer.

    Args:
        lines: Of each right line its origin, and what could spoil it.
        bad: The lines that cannot be used.
    """
    first: dict[Hashable, str] = {}
    for one in bad:
        if one.spoils is not None:
            first.setdefault(one.spoils, one.origin)
    found = []
    for origin, keys in lines:
        by = next((first[key] for key in keys if key in first), None)
        if by is not None:
            told = f"{origin}: left out with {by}, which is about the same and is wrong"
            found.append(Bad(origin, told))
    return found


def raise_first(faults: Sequence[Bad]) -> None:
    """Stop at the first of several faults, and say how many there are.

    Args:
        faults: None is well.

    Raises:
        ValueError: There is one.
    """
    if faults:
        more = f" ({len(faults)} such lines)" if len(faults) > 1 else ""
        raise ValueError(f"{faults[0].message}{more}")


def reader_column(columns: Sequence[str], file: str) -> str | None:
    """The column that says who drew or labelled a line, None where there is none.

    Args:
        columns: All that the file has; "reader", "rad_id" and the like, in any case,
            say so.
        file: What an error calls the file.

    Raises:
        ValueError: Several say so.
    """
    found = [column for column in columns if column.casefold() in _READERS]
    if len(found) > 1:
        raise ValueError(
            f"{file}: the columns {found} all say who the reader is; expected one of "
            "them"
        )
    return found[0] if found else None
