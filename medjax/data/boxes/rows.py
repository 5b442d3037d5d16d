"""Lines of a user's boxes, checked: one row a question about pictures.

A row's boxes are a set: lines that ask the same of the same pictures are one row. Each
box is checked against its picture, brought to the picture's own pixels, and refused
where it leaves the picture or is too small to be seen as the policy sees it.
"""

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from medjax.data.audit.records import LookFn, Pictures
from medjax.data.boxes.entries import Box, BoxEntry
from medjax.data.images import ImageFile, image_size
from medjax.data.lists.groups import Grouped, picture_key
from medjax.data.lists.images import header_contents, shown_as
from medjax.data.lists.pixels import contents_of
from medjax.data.lists.reading import Bad, Reading
from medjax.data.prompting.layout import Geometry, shown_size
from medjax.rl.boxes import convert_boxes

Size = tuple[int, int]


class Row(NamedTuple):
    """One question, checked; boxes in pixels of the last image as it is shown."""

    origin: str  # "records.jsonl, line 3": the first line that asks it
    images: tuple[ImageFile, ...]
    sizes: tuple[Size, ...]  # (height, width) of each
    query: str
    boxes: tuple[Box, ...]  # a set in the file's order; none: there is nothing to find
    label: str
    groups: Mapping[str, str]  # whose they are, by column
    split: str | None  # "train", "val" or "test" where the file says so
    columns: Mapping[str, Any]  # for rewards in Python


class BoxRows(NamedTuple):
    """The rows of a source, and the lines that were left out."""

    rows: tuple[Row, ...]
    dropped: tuple[Bad, ...]
    pictures: Pictures | None = None  # where they were decoded


def box_rows(
    entries: Iterable[BoxEntry | Bad],
    reading: Reading,
    geometry: Geometry,
    decode: LookFn | None = None,
) -> BoxRows:
    """Check lines of boxes and join those that ask the same of the same pictures.

    Args:
        entries: Of one source, in its order.
        reading: Its `on_bad` says what a wrong line does: "stop" raises, "drop" leaves
            it out. With `answers` "one" a question has exactly one box.
        geometry: How images are shown, to which boxes in the frame "resized" refer.
        decode: Decodes all images, so that none fails later; None reads their sizes.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: Anything else is wrong with a line or its image, or no line is left.
    """
    entries = (
        entry
        if isinstance(entry, Bad)
        else entry._replace(images=tuple(shown_as(x, reading) for x in entry.images))
        for entry in entries
    )
    dropped: list[Bad] = []
    sizes: dict[ImageFile, Size | str] = {}  # or why not; each image is opened once
    pictures = None
    if decode is not None:
        entries = list(entries)
        files: dict[ImageFile, str] = {}
        for entry in entries:
            if isinstance(entry, Bad):
                _stop(entry, reading)
                continue
            for file in entry.images:
                files.setdefault(file, entry.origin)
        pictures = decode(files)
        sizes |= {file: facts.size for file, facts in pictures.facts.items()}
        sizes |= pictures.problems
    asked: dict[tuple[tuple[str, ...], str], list[Row]] = {}
    for entry in entries:
        try:
            if isinstance(entry, Bad):
                raise ValueError(entry.message)
            row = _row(entry, sizes, geometry)
        except (ValueError, OSError) as error:
            if reading.on_bad == "stop":
                raise
            dropped.append(Bad(entry.origin, str(error)))
            continue
        key = (tuple(map(picture_key, row.images)), row.query)
        asked.setdefault(key, []).append(row)
    rows = []
    for same in asked.values():
        try:
            row = _one_row(same)
            _check_count(row, reading)
        except ValueError as error:
            if reading.on_bad == "stop":
                raise
            dropped.extend(Bad(row.origin, str(error)) for row in same)
            continue
        rows.append(row)
    if not rows:
        reason = f"; the first was left out: {dropped[0].message}" if dropped else ""
        raise ValueError(f"no lines{reason}; expected one question or more")
    return BoxRows(tuple(rows), tuple(dropped), pictures)


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
            name=Path(os.path.relpath(row.images[-1].path, root)).as_posix(),
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


def _row(
    entry: BoxEntry, sizes: dict[ImageFile, Size | str], geometry: Geometry
) -> Row:
    found = [_size(image, entry.origin, sizes) for image in entry.images]
    size = found[-1]
    if entry.size not in (None, size):
        raise ValueError(
            f"{entry.origin}: size {list(entry.size)} is declared, but the image is "
            f"{size[0]} x {size[1]} (height x width) as shown, its orientation tag "
            "obeyed; correct the size, and the boxes if they refer to it"
        )
    return Row(
        origin=entry.origin,
        images=entry.images,
        sizes=tuple(found),
        query=entry.query,
        boxes=tuple(_pixels(box, entry, size, geometry) for box in entry.boxes),
        label=entry.label,
        groups=entry.groups,
        split=entry.split,
        columns=entry.columns,
    )


def _size(image: ImageFile, origin: str, sizes: dict[ImageFile, Size | str]) -> Size:
    if image not in sizes:
        sizes.update({image: image_size(image, origin)})
    size = sizes[image]
    if isinstance(size, str):  # the problem names the first line with the image
        raise ValueError(size if size.startswith(origin) else f"{origin}: {size}")
    return size


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


def _one_row(same: Sequence[Row]) -> Row:
    """Lines that ask the same of the same pictures, as one; they must agree."""
    first = same[0]
    seen: dict[Box, Row] = {}
    for row in same:
        for what in ("label", "groups", "split"):
            mine, other = row._asdict()[what], first._asdict()[what]
            if mine != other:
                raise ValueError(
                    f"{row.origin}: {what} {mine!r}, but {other!r} in {first.origin}, "
                    "which asks the same of the same image; expected one of it a "
                    "question"
                )
        if bool(row.boxes) != bool(first.boxes) or row is not first and not row.boxes:
            raise ValueError(
                f"{row.origin}: {len(row.boxes)} boxes, but {len(first.boxes)} in "
                f"{first.origin}, which asks the same of the same image; expected one "
                "line that says there is none, or lines with boxes"
            )
        for box in row.boxes:
            if box in seen:
                raise ValueError(
                    f"{row.origin}: the box {list(box)} is also in "
                    f"{seen[box].origin}; expected each box once"
                )
            seen.update({box: row})
    if len(same) == 1:
        return first
    columns = dict.fromkeys(key for row in same for key in row.columns)
    return first._replace(
        boxes=tuple(seen),
        columns={key: [row.columns.get(key) for row in same] for key in columns},
    )


def _check_count(row: Row, reading: Reading) -> None:
    if reading.answers == "one" and len(row.boxes) != 1:
        count = len(row.boxes) or "no"
        raise ValueError(
            f"{row.origin}: {count} boxes answer {row.query!r} about one image; "
            "expected one. Choose data.answers=set to train on sets of boxes, or give "
            "each box a question of its own"
        )


def _stop(bad: Bad, reading: Reading) -> None:
    """Before pictures are decoded for long."""
    if reading.on_bad == "stop":
        raise ValueError(bad.message)
