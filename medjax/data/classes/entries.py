"""What one line of a user's list of labels says, in any format."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from medjax.data.images import ImageFile

NOTHING_FOUND = ("no finding", "no findings", "none")
"""What a list calls a picture that shows none of the classes, in lower case."""


class LabelEntry(NamedTuple):
    """A picture and what it is, as the file says it, not yet checked."""

    origin: str  # "labels.csv, line 3"
    image: ImageFile
    labels: tuple[str, ...]  # one; several or none only of a task with sets of labels
    groups: Mapping[str, str]  # whose it is: {"patient": "p017", "lesion": ...}
    split: str | None  # "train", "val" or "test" where the file says so
    reader: str | None  # who labelled it, where several did
    columns: Mapping[str, Any]  # for rewards in Python


def split_labels(cell: str, origin: str) -> tuple[str, ...]:
    """The classes of a cell such as "Effusion|Mass"; none of "No Finding" or "none".

    Args:
        cell: Names with "|" between, checked as `lists.cells.name` does; white space
            round them and the case of the two words for nothing do not count.
        origin: What an error calls the line.

    Raises:
        ValueError: A name is empty or there twice, or nothing is found beside a class.
    """
    names = tuple(name.strip() for name in cell.split("|"))
    twice = [name for n, name in enumerate(names) if name in names[:n]]
    empty = any(name.casefold() in NOTHING_FOUND for name in names)
    if "" in names or twice or (empty and len(names) > 1):
        what = (
            "an empty name"
            if "" in names
            else f"{twice[0]!r} twice"
            if twice
            else "that nothing is found beside a class"
        )
        raise ValueError(
            f"{origin}, column 'label': {cell!r} says {what}; expected different names "
            'with "|" between, or "No Finding" alone'
        )
    return () if empty else names
