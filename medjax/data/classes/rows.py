"""Lines of a user's labels, checked: one row a picture."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from medjax.data.audit.records import LookFn
from medjax.data.classes.entries import LabelEntry
from medjax.data.images import ImageFile
from medjax.data.lists.columns import check_columns
from medjax.data.lists.groups import Grouped, picture_key, picture_name
from medjax.data.lists.images import header_contents, shown_images
from medjax.data.lists.pixels import (
    PictureState,
    contents_of,
    use_picture,
)
from medjax.data.lists.readers import (
    RULES,
    Agreement,
    check_named,
    label_agreement,
    merge_labels,
)
from medjax.data.lists.reading import Bad, Reading, refuse
from medjax.data.lists.rows import Kind, Line, Rows, checked_rows, column_lists


class LabelRow(NamedTuple):
    """One picture, checked."""

    origin: str  # "labels.csv, line 3"
    image: ImageFile
    size: tuple[int, int]  # (height, width) as shown
    digest: str  # of the pixels
    labels: tuple[str, ...]  # one; several or none only of a task with sets of labels
    groups: Mapping[str, str]  # whose it is, by column
    split: str | None  # "train", "val" or "test" where the file says so
    columns: Mapping[str, Any]  # for rewards in Python; of several readers lists


_Line = Line[LabelRow]


def label_rows(
    entries: Iterable[LabelEntry | Bad],
    reading: Reading,
    decode: LookFn | None = None,
) -> Rows[LabelRow]:
    """Check lines of labels: each picture is there, once, with its label.

    Args:
        entries: Of one source, in its order.
        reading: Its `on_bad` says what a wrong line does: "stop" raises, "drop" leaves
            it out. With `answers` "one" a picture has exactly one label. `readers` says
            whose label counts where several labelled a picture.
        decode: Decodes all pictures, so that none fails later; None reads their sizes.

    Raises:
        FileNotFoundError: A picture is missing.
        ValueError: Anything else is wrong with a line or its picture, no line is left,
            or several readers are there and none is chosen.
    """
    entries = list(entries)
    right = (entry for entry in entries if not isinstance(entry, Bad))
    shown = shown_images((entry.image for entry in right), reading)
    entries = (
        entry if isinstance(entry, Bad) else entry._replace(image=shown[entry.image])
        for entry in entries
    )
    kind = Kind[LabelEntry, LabelRow](
        images=lambda entry: (entry.image,),
        check=partial(_line, reading),
        keys=lambda line: (picture_key(line.image),),
        labels=lambda row: row.labels,
        join=partial(_join, reading),
        same=lambda row: row.digest,
        answer=lambda row: set(row.labels),
        differ=_differ,
    )
    return checked_rows(entries, reading, decode, kind)


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
            name=picture_name(row.image, root),
            groups=row.groups,
            contents=(
                *contents_of(row.image, contents),
                *header_contents(row.image, row.groups, row.origin),
            ),
            split=row.split,
        )
        for row in rows
    ]


def _differ(first: LabelRow, other: LabelRow) -> str:
    return (
        f"{other.origin}: {other.image.path.name} shows the same pixels as "
        f"{first.image.path.name} in {first.origin}, but is "
        f"{'|'.join(other.labels)!r} and not {'|'.join(first.labels)!r}; expected one "
        "label a picture. Take one out, or correct its label"
    )


def _line(
    reading: Reading, entry: LabelEntry, seen: Mapping[ImageFile, PictureState]
) -> _Line:
    origin, labels = entry.origin, entry.labels
    check_columns(entry.columns, origin)
    if reading.answers == "one" and (
        len(labels) != 1 or any("|" in label for label in labels)
    ):
        raise ValueError(
            f"{origin}: label {'|'.join(labels)!r} is not one class; expected one a "
            "picture. Choose data.answers=set for a task "
            "with sets of labels, or take such lines out"
        )
    found = use_picture(seen[entry.image], origin)
    row = LabelRow(
        origin=origin,
        image=entry.image,
        size=found.size,
        digest=found.digest,
        labels=labels,
        groups=entry.groups,
        split=entry.split,
        columns=entry.columns,
    )
    return Line(row, entry.reader)


def _join(
    reading: Reading,
    lines: Sequence[_Line],
    readers: Sequence[str],
    dropped: list[Bad],
) -> tuple[list[LabelRow], Agreement | None]:
    """One row a picture, whose labels are those of the readers that count."""
    shown: dict[str, list[_Line]] = {}
    for line in lines:
        shown.setdefault(picture_key(line.row.image), []).append(line)
    rows, readings = [], []
    for same in shown.values():
        try:
            said = _said(same)
            row = _one_row(same, said, readers, reading)
        except ValueError as error:
            refuse(error, [line.row.origin for line in same], reading, dropped)
            continue
        readings.append(
            {name: "|".join(sorted(labels)) for name, labels in said.items()}
        )
        if row is not None:
            rows.append(row)
    return rows, label_agreement(readings) if readers else None


def _said(same: Sequence[_Line]) -> dict[str, tuple[str, ...]]:
    """What each reader said of one picture; lines must agree in all but that."""
    first = same[0]
    check_named([(line.row.origin, line.reader) for line in same])
    said: dict[str, tuple[str, ...]] = {}
    seen: dict[str, _Line] = {}
    for line in same:
        other = seen.setdefault(line.reader or "", line)
        if other is not line:
            raise ValueError(
                f"{line.row.origin}: {line.row.image.path.name} is also in "
                f"{other.row.origin}; expected each picture once, with one label, or "
                "a column that names the reader"
            )
        for what in ("groups", "split"):
            mine, others = line.row._asdict()[what], first.row._asdict()[what]
            if mine != others:
                raise ValueError(
                    f"{line.row.origin}: {what} {mine!r}, but {others!r} in "
                    f"{first.row.origin}, of the same picture; expected one of it"
                )
        said.update({line.reader or "": line.row.labels})
    return said


def _one_row(
    same: Sequence[_Line],
    said: Mapping[str, tuple[str, ...]],
    readers: Sequence[str],
    reading: Reading,
) -> LabelRow | None:
    """None where the reader that is chosen did not look at the picture."""
    first = same[0].row
    if not readers or same[0].reader is None:
        return first
    if reading.readers in RULES:
        labels = _merged(first.origin, said, reading)
    elif reading.readers not in said:
        return None
    else:
        labels = said[reading.readers]
        same = [line for line in same if line.reader == reading.readers]
    return same[0].row._replace(labels=labels, columns=column_lists(same))


def _merged(
    origin: str, said: Mapping[str, tuple[str, ...]], reading: Reading
) -> tuple[str, ...]:
    rule = reading.readers
    if reading.answers == "set":  # each label is voted on
        names = dict.fromkeys(label for labels in said.values() for label in labels)
        least = len(said) / 2 if rule == "majority" else 0
        votes = {name: sum(name in x for x in said.values()) for name in names}
        return tuple(name for name in names if votes[name] > least)
    label = merge_labels({name: labels[0] for name, labels in said.items()}, rule)
    if label is None:
        told = ", ".join(f"{name}: {labels[0]}" for name, labels in said.items())
        raise ValueError(
            f"{origin}: its readers say {told}; expected "
            + ("a label of more than half" if rule == "majority" else "one label")
            + ". Name one reader by data.readers, or leave such pictures out by "
            "data.on_bad=drop"
        )
    return (label,)
