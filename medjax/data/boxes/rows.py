"""Lines of a user's boxes, checked: one row a question about pictures.

A row's boxes are a set: lines that ask the same of the same pictures are one row. Each
box is checked against its picture, brought to the picture's own pixels, and refused
where it leaves the picture or is too small to be seen as the policy sees it.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from medjax.data.audit.records import LookFn
from medjax.data.boxes.entries import Box, BoxEntry
from medjax.data.images import ImageFile
from medjax.data.lists.columns import check_columns
from medjax.data.lists.groups import (
    Grouped,
    picture_key,
    picture_name,
    question_key,
)
from medjax.data.lists.images import header_contents, shown_images
from medjax.data.lists.pixels import (
    PictureState,
    contents_of,
    use_picture,
)
from medjax.data.lists.readers import (
    RULES,
    Agreement,
    box_agreement,
    check_named,
    merge_boxes,
)
from medjax.data.lists.reading import Bad, Reading, refuse
from medjax.data.lists.rows import Kind, Line, Rows, checked_rows, column_lists
from medjax.data.lists.spellings import spelling_key
from medjax.data.prompting.layout import Geometry, shown_size
from medjax.rl.box_sets import MOST_BOXES
from medjax.rl.boxes import convert_boxes

Size = tuple[int, int]


class Row(NamedTuple):
    """One question, checked; boxes in pixels of the last image as it is shown."""

    origin: str  # "records.jsonl, line 3": the first line that asks it
    images: tuple[ImageFile, ...]
    sizes: tuple[Size, ...]  # (height, width) of each
    digests: tuple[str, ...]  # of the pixels of each
    query: str
    boxes: tuple[Box, ...]  # a set in the file's order; none: there is nothing to find
    label: str
    groups: Mapping[str, str]  # whose they are, by column
    split: str | None  # "train", "val" or "test" where the file says so
    # For rewards in Python; lists with an entry a line where several may be one row.
    columns: Mapping[str, Any]


_Line = Line[Row]


def box_rows(
    entries: Iterable[BoxEntry | Bad],
    reading: Reading,
    geometry: Geometry,
    decode: LookFn | None = None,
) -> Rows[Row]:
    """Check lines of boxes and join those that ask the same of the same pictures.

    Args:
        entries: Of one source, in its order.
        reading: Its `on_bad` says what a wrong line does: "stop" raises, "drop" leaves
            it out. With `answers` "one" a question has exactly one box, with "set" 0
            to 8. `readers` says whose boxes count where several drew them.
        geometry: How images are shown, to which boxes in the frame "resized" refer.
        decode: Decodes all images, so that none fails later; None reads their sizes.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: Anything else is wrong with a line or its image, no line is left, or
            several readers are there and none is chosen.
    """
    entries = list(entries)
    right = (entry for entry in entries if not isinstance(entry, Bad))
    shown = shown_images((x for entry in right for x in entry.images), reading)
    entries = (
        entry
        if isinstance(entry, Bad)
        else entry._replace(images=tuple(shown[x] for x in entry.images))
        for entry in entries
    )
    kind = Kind[BoxEntry, Row](
        images=lambda entry: entry.images,
        check=partial(_line, geometry),
        keys=_keys,
        labels=lambda row: (row.label,),
        join=partial(_join, reading),
        same=lambda row: (row.digests, spelling_key(row.query)),
        answer=lambda row: set(row.boxes),
        differ=_differ,
    )
    return checked_rows(entries, reading, decode, kind)


def grouped_rows(
    rows: Sequence[Row],
    root: Path,
    contents: Mapping[ImageFile, tuple[Hashable, ...]] = MappingProxyType({}),
) -> list[Grouped]:
    """What the parts of rows depend on, see `lists.groups`.

    Args:
        rows: From `box_rows`.
        root: The folder of the list. Rows without groups are known by the path of their
            last image from there, wherever the folder lies.
        contents: What joins images that were decoded, see `picture_contents`.
    """
    return [
        Grouped(
            origin=row.origin,
            name=picture_name(row.images[-1], root),
            groups=row.groups,
            contents=tuple(
                key
                for x in row.images
                for key in (
                    *contents_of(x, contents),
                    *header_contents(x, row.groups, row.origin),
                )
            ),
            split=row.split,
        )
        for row in rows
    ]


def _keys(line: BoxEntry | Row) -> tuple[Hashable, ...]:
    """The question, and each of the pictures."""
    pictures = map(picture_key, line.images)
    return (question_key(line.images, line.query), *pictures)


def _differ(first: Row, other: Row) -> str:
    return (
        f"{other.origin}: {other.images[-1].path.name} shows the same pixels as "
        f"{first.images[-1].path.name} in {first.origin}, which asks the same and has "
        "other boxes; expected one answer a picture. Take one out, or correct its boxes"
    )


def _line(
    geometry: Geometry, entry: BoxEntry, seen: Mapping[ImageFile, PictureState]
) -> _Line:
    check_columns(entry.columns, entry.origin)
    found = [use_picture(seen[image], entry.origin) for image in entry.images]
    size = found[-1].size
    if entry.size not in (None, size):
        raise ValueError(
            f"{entry.origin}: size {list(entry.size)} is declared, but the image is "
            f"{size[0]} x {size[1]} (height x width) as shown, its orientation tag "
            "obeyed; correct the size, and the boxes if they refer to it"
        )
    row = Row(
        origin=entry.origin,
        images=entry.images,
        sizes=tuple(one.size for one in found),
        digests=tuple(one.digest for one in found),
        query=entry.query,
        boxes=tuple(_pixels(box, entry, size, geometry) for box in entry.boxes),
        label=entry.label,
        groups=entry.groups,
        split=entry.split,
        columns=entry.columns,
    )
    return Line(row, entry.reader)


def _pixels(box: Box, entry: BoxEntry, size: Size, geometry: Geometry) -> Box:
    """A box in pixels of its image, inside of it and large enough to be seen."""
    origin, frame = entry.origin, entry.frame
    height, width = size
    shown = shown_size(size, geometry)
    given = np.array(box, np.float64)
    pixels = convert_boxes(given, frame, "original", size=size, resized=shown)
    in_shown = convert_boxes(given, frame, "resized", size=size, resized=shown)
    x1, y1, x2, y2 = pixels.tolist()
    slack = 1e-3  # of a pixel: what rounding in another frame may add
    outside = min(x1, y1) < -slack or x2 > width + slack or y2 > height + slack
    if outside or x2 <= x1 or y2 <= y1:
        fault = "leaves the image" if outside else "is empty"
        raise ValueError(
            f"{origin}: box {list(box)} in frame {frame!r} {fault} of {height} x "
            f"{width} (height x width) pixels; expected 0 <= x1 < x2 <= width and "
            "0 <= y1 < y2 <= height. Clip it, take the line out, or correct 'frame'"
        )
    if np.diff(np.round(in_shown).reshape(2, 2), axis=0).min() < 1:
        raise ValueError(
            f"{origin}: box {list(box)} in frame {frame!r} is below one pixel of the "
            f"image as shown, {shown[0]} x {shown[1]}; raise max_pixels or take the "
            "line out"
        )
    return x1, y1, x2, y2


def _join(
    reading: Reading,
    lines: Sequence[_Line],
    readers: Sequence[str],
    dropped: list[Bad],
) -> tuple[list[Row], Agreement | None]:
    """One row a question, whose boxes are those of the readers that count."""
    asked: dict[tuple[tuple[str, ...], str], list[_Line]] = {}
    about: dict[tuple[str, ...], list[_Line]] = {}  # all lines of these images
    for line in lines:
        images = tuple(map(picture_key, line.row.images))
        asked.setdefault((images, spelling_key(line.row.query)), []).append(line)
        about.setdefault(images, []).append(line)
    rows, readings = [], []
    for (images, _), same in asked.items():
        try:
            check_named([(line.row.origin, line.reader) for line in about[images]])
            looked = {line.reader for line in about[images] if line.reader is not None}
            own = readers if looked else ()
            row, boxes = _one_row(same, sorted(looked), own, reading)
            if row is not None:
                _check_count(row, reading)
        except ValueError as error:
            refuse(error, [line.row.origin for line in same], reading, dropped)
            continue
        readings.append(boxes)
        if row is not None:
            rows.append(row)
    return rows, box_agreement(readings) if readers else None


def _one_row(
    same: Sequence[_Line],
    looked: Sequence[str],
    readers: Sequence[str],
    reading: Reading,
) -> tuple[Row | None, dict[str, tuple[Box, ...]]]:
    """Lines that ask the same of the same pictures as one row, and each reader's boxes.

    There is no row where the reader that is chosen did not read the pictures.
    """
    first = same[0].row
    for line in same:
        for what in ("label", "groups", "split"):
            mine, other = line.row._asdict()[what], first._asdict()[what]
            if mine != other:
                raise ValueError(
                    f"{line.row.origin}: {what} {mine!r}, but {other!r} in "
                    f"{first.origin}, which asks the same of the same image; expected "
                    "one of it a question"
                )
    boxes = {
        name: _one_set([x.row for x in same if x.reader == (name or None)])
        for name in (looked or ("",))
    }
    if not readers:
        (whole,) = boxes.values()
    elif reading.readers in RULES:
        whole = merge_boxes(boxes, reading.readers)
    elif reading.readers not in boxes:
        return None, boxes
    else:
        whole = boxes[reading.readers]
        same = [line for line in same if line.reader == reading.readers]
    if len(same) == 1 and reading.answers == "one" and not readers:
        return first, boxes
    return first._replace(boxes=whole, columns=column_lists(same)), boxes


def _one_set(rows: Sequence[Row]) -> tuple[Box, ...]:
    """The boxes of one reader's lines about one question, each of them once."""
    seen: dict[Box, Row] = {}
    for row in rows:
        if len(rows) > 1 and not row.boxes:
            other = rows[0] if row is not rows[0] else rows[1]
            raise ValueError(
                f"{row.origin}: no boxes, but {len(other.boxes) or 'none'} in "
                f"{other.origin}, which asks the same of the same image; expected one "
                "line that says there is none, or lines with boxes"
            )
        for box in row.boxes:
            if box in seen:
                raise ValueError(
                    f"{row.origin}: the box {list(box)} is also in "
                    f"{seen[box].origin}; expected each box once"
                )
            seen.update({box: row})
    return tuple(seen)


def _check_count(row: Row, reading: Reading) -> None:
    if reading.answers == "one" and len(row.boxes) != 1:
        count = len(row.boxes) or "no"
        raise ValueError(
            f"{row.origin}: {count} boxes answer {row.query!r} about one image; "
            "expected one. Choose data.answers=set to train on sets of boxes, or "
            + (
                "give each box a question of its own"
                if row.boxes
                else "leave such questions out (in lists without any: "
                "data.negatives=off)"
            )
        )
    if len(row.boxes) > MOST_BOXES:
        raise ValueError(
            f"{row.origin}: {len(row.boxes)} boxes answer {row.query!r} about one "
            f"image; expected {MOST_BOXES} at most, which are matched exactly: ask for "
            "fewer kinds of things at a time, or for those of a part of the image"
        )
