"""One name, one spelling: names that differ by what the eye passes over."""

import re
import unicodedata
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from medjax.data.lists.reading import Bad

_NUMBER = re.compile(r"0*(\d+?)(\.0+)?", re.ASCII)


class Named(NamedTuple):
    """A name as a line spells it."""

    origin: str  # "records.jsonl, line 3"
    column: str
    value: str


def spelling_key(value: str) -> str:
    """What is left of a name without case, blanks, width, and zeros before a number.

    "P 01", "p01" and a "P01" of full width are one, and so are "7", "007" and "7.0",
    which a spreadsheet makes of each other.

    Args:
        value: The name, in any form of Unicode.
    """
    folded = unicodedata.normalize("NFKC", value).casefold()
    kept = "".join(c for c in folded if unicodedata.category(c) not in ("Cf", "Zs"))
    number = _NUMBER.fullmatch(kept)
    return number[1] if number else "".join(kept.split())


def spelling_faults(names: Iterable[Named]) -> list[Bad]:
    """Lines with a name that an earlier line spells in another way.

    Args:
        names: Of all lines, in their order; those of one column are compared.
    """
    first: dict[Hashable, Named] = {}
    faults = []
    for named in names:
        other = first.setdefault((named.column, spelling_key(named.value)), named)
        if other.value != named.value:
            faults.append(
                Bad(
                    named.origin,
                    f"{named.origin}: {named.column} {named.value!r}, but "
                    f"{other.value!r} in {other.origin}; expected one spelling of one "
                    "name. Write them alike, or make them differ by more where they "
                    "are two",
                )
            )
    return faults
