"""Lines of a user's labels, checked: one row a picture."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.classes.entries import LabelEntry
from medjax.data.images import ImageFile, image_size
from medjax.data.lists.groups import Grouped, picture_key
from medjax.data.lists.reading import Bad, Reading


class LabelRow(NamedTuple):
    """One picture, checked."""

    origin: str  # "labels.csv, line 3"
    image: ImageFile
    size: tuple[int, int]  # (height, width) as shown
    labels: tuple[str, ...]  # one; several or none only of a task with sets of labels
    groups: Mapping[str, str]  # whose it is, by column
    split: str | None  # "train", "val" or "test" where the file says so
    columns: Mapping[str, Any]  # for rewards in Python


class LabelRows(NamedTuple):
    """The rows of a source, and the lines that were left out."""

    rows: tuple[LabelRow, ...]
    dropped: tuple[Bad, ...]


def label_rows(entries: Iterable[LabelEntry | Bad], reading: Reading) -> LabelRows:
    """Check lines of labels: each picture is there, once, with its label.

    Args:
        entries: Of one source, in its order.
        reading: Its `on_bad` says what a wrong line does: "stop" raises, "drop" leaves
            it out. With `answers` "one" a picture has exactly one label.

    Raises:
        FileNotFoundError: A picture is missing.
        ValueError: Anything else is wrong with a line or its picture, or no line is
            left.
    """
    dropped: list[Bad] = []
    rows: dict[str, LabelRow] = {}
    for entry in entries:
        try:
            if isinstance(entry, Bad):
                raise ValueError(entry.message)
            row = _row(entry, reading)
            first = rows.get(picture_key(row.image))
            if first is not None:
                raise ValueError(
                    f"{row.origin}: {row.image.path.name} is also in {first.origin}; "
                    "expected each picture once, with one label"
                )
        except (ValueError, OSError) as error:
            if reading.on_bad == "stop":
                raise
            dropped.append(Bad(entry.origin, str(error)))
            continue
        rows.update({picture_key(row.image): row})
    if not rows:
        reason = f"; the first was left out: {dropped[0].message}" if dropped else ""
        raise ValueError(f"no lines{reason}; expected one picture or more")
    return LabelRows(tuple(rows.values()), tuple(dropped))


def grouped_labels(rows: Sequence[LabelRow], root: Path) -> list[Grouped]:
    """What the parts of rows depend on, see `lists.groups`.

    Args:
        rows: From `label_rows`.
        root: The folder of the list. Rows without groups are known by the path of their
            picture from there, wherever the folder lies.
    """
    return [
        Grouped(
            origin=row.origin,
            name=Path(os.path.relpath(row.image.path, root)).as_posix(),
            groups=row.groups,
            contents=(picture_key(row.image),),
            split=row.split,
        )
        for row in rows
    ]


def _row(entry: LabelEntry, reading: Reading) -> LabelRow:
    origin, labels = entry.origin, entry.labels
    if reading.answers == "one" and any("|" in label for label in labels):
        raise ValueError(
            f"{origin}: label {labels[0]!r} names several classes; expected one class "
            "a picture. Choose data.answers=set for a task with sets of labels, or "
            "take the lines of several out"
        )
    return LabelRow(
        origin=origin,
        image=entry.image,
        size=image_size(entry.image, origin),
        labels=labels,
        groups=entry.groups,
        split=entry.split,
        columns=entry.columns,
    )
