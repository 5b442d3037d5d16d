"""Lines of a user's labels, checked: one row a picture."""

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from medjax.data.audit.records import LookFn, Pictures
from medjax.data.classes.entries import LabelEntry
from medjax.data.images import ImageFile, image_size
from medjax.data.lists.groups import Grouped, picture_key
from medjax.data.lists.images import header_contents, shown_as
from medjax.data.lists.pixels import contents_of
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
    pictures: Pictures | None = None  # where they were decoded


def label_rows(
    entries: Iterable[LabelEntry | Bad],
    reading: Reading,
    decode: LookFn | None = None,
) -> LabelRows:
    """Check lines of labels: each picture is there, once, with its label.

    Args:
        entries: Of one source, in its order.
        reading: Its `on_bad` says what a wrong line does: "stop" raises, "drop" leaves
            it out. With `answers` "one" a picture has exactly one label.
        decode: Decodes all pictures, so that none fails later; None reads their sizes.

    Raises:
        FileNotFoundError: A picture is missing.
        ValueError: Anything else is wrong with a line or its picture, or no line is
            left.
    """
    entries = (
        entry
        if isinstance(entry, Bad)
        else entry._replace(image=shown_as(entry.image, reading))
        for entry in entries
    )
    dropped: list[Bad] = []
    rows: dict[str, LabelRow] = {}
    pictures = None
    if decode is not None:
        entries = list(entries)
        files: dict[ImageFile, str] = {}
        for entry in entries:
            if isinstance(entry, Bad):
                _stop(entry, reading)
            else:
                files.setdefault(entry.image, entry.origin)
        pictures = decode(files)
    for entry in entries:
        try:
            if isinstance(entry, Bad):
                raise ValueError(entry.message)
            row = _row(entry, reading, pictures)
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
    return LabelRows(tuple(rows.values()), tuple(dropped), pictures)


def grouped_labels(
    rows: Sequence[LabelRow],
    root: Path,
    contents: Mapping[ImageFile, tuple[Hashable, ...]] = MappingProxyType({}),
) -> list[Grouped]:
    """What the parts of rows depend on, see `lists.groups`.

    Args:
        rows: From `label_rows`.
        root: The folder of the list. Rows without groups are known by the path of their
            picture from there, wherever the folder lies.
        contents: What joins pictures that were decoded, see `picture_contents`.
    """
    return [
        Grouped(
            origin=row.origin,
            name=Path(os.path.relpath(row.image.path, root)).as_posix(),
            groups=row.groups,
            contents=(
                *contents_of(row.image, contents),
                *header_contents(row.image, row.groups, row.origin),
            ),
            split=row.split,
        )
        for row in rows
    ]


def _row(entry: LabelEntry, reading: Reading, pictures: Pictures | None) -> LabelRow:
    origin, labels = entry.origin, entry.labels
    if reading.answers == "one" and any("|" in label for label in labels):
        raise ValueError(
            f"{origin}: label {labels[0]!r} names several classes; expected one class "
            "a picture. Choose data.answers=set for a task with sets of labels, or "
            "take the lines of several out"
        )
    if reading.answers == "one" and len(labels) != 1:
        raise ValueError(
            f"{origin}: {len(labels)} labels; expected one class a picture. Choose "
            "data.answers=set for a task with sets of labels"
        )
    return LabelRow(
        origin=origin,
        image=entry.image,
        size=_size(entry.image, origin, pictures),
        labels=labels,
        groups=entry.groups,
        split=entry.split,
        columns=entry.columns,
    )


def _size(image: ImageFile, origin: str, pictures: Pictures | None) -> tuple[int, int]:
    if pictures is None:
        return image_size(image, origin)
    if image in pictures.problems:
        raise ValueError(pictures.problems[image])
    return pictures.facts[image].size


def _stop(bad: Bad, reading: Reading) -> None:
    """Before pictures are decoded for long."""
    if reading.on_bad == "stop":
        raise ValueError(bad.message)
