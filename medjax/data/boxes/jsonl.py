r"""A user's own images and boxes: a JSONL file, one question a line.

    {"image": "scan1.png", "query": "Find the nodule.", "box": [10, 20, 60, 80],
     "frame": "original", "label": "nodule", "patient": "p017"}

`image` is a path from the file's folder (or a list of paths, the box lying in the
last), `frame` says what `box` is measured in (see `rl.boxes.FRAMES`) and has no
default, since a wrong guess costs overlap in silence. `label` and `patient` may be left
out; parts are split by patient where it is given, else by image. `columns`, an object,
is handed to rewards written in Python. PNG or JPEG, 8 or 16 bits.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medjax.data.boxes.views import View, Views
from medjax.data.images import ImageFile, image_size, read_image
from medjax.data.images.listing import find_list, groups_to_test
from medjax.data.prompting.layout import Geometry, shown_size
from medjax.rl.boxes import FRAMES, convert_boxes

_KEYS = ("image", "query", "box", "frame")
_OPTIONAL = ("label", "patient", "columns")
NO_LABEL = "target"


class Row(NamedTuple):
    """One line, checked; `box` in pixels of the last image as it came."""

    origin: str  # "records.jsonl, line 3"
    images: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]  # (height, width) of each
    query: str
    box: tuple[float, float, float, float]
    label: str
    patient: str | None
    columns: Mapping[str, Any]  # for rewards in Python


def load_rows(path: str | os.PathLike[str], geometry: Geometry) -> list[Row]:
    """Read and check a JSONL file of a user's images and boxes, one question a line.

        {"image": "scan1.png", "query": "Find the nodule.", "box": [10, 20, 60, 80],
         "frame": "original", "label": "nodule", "patient": "p017"}

    `image` is a path from the file's folder, or a list of paths, the box lying in the
    last; `frame` says what the box is measured in ("original" or "resized" pixels,
    "unit" 0 to 1, "thousand" 0 to 1000). `label`, `patient` and `columns` (an object
    for rewards in Python) may be left out.

    Args:
        path: A JSONL file of any name, or a folder with one file that ends in .jsonl.
        geometry: How images are shown, to which boxes in the frame "resized" refer.

    Raises:
        FileNotFoundError: There is no such file, or an image is missing.
        ValueError: Anything else is wrong with a line or its image; the message names
            the file and line, what was found, what was expected and the way out.
    """
    path = find_list(path, ".jsonl")
    rows: list[Row] = []
    sizes: dict[Path, tuple[int, int]] = {}  # each image is opened once
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        origin = f"{path.name}, line {number}"
        entry = _entry(line, origin)
        listed = entry["image"]
        listed = listed if isinstance(listed, list) else [listed]
        images = tuple(path.parent / str(name) for name in listed)
        for image in images:
            if image not in sizes:
                sizes[image] = image_size(ImageFile(image), origin)
        box = _box(entry, origin, sizes[images[-1]], geometry)
        rows.append(
            Row(
                origin=origin,
                images=images,
                sizes=tuple(sizes[image] for image in images),
                query=str(entry["query"]),
                box=box,
                label=str(entry.get("label", NO_LABEL)),
                patient=str(entry["patient"]) if "patient" in entry else None,
                columns=entry.get("columns", {}),
            )
        )
    if not rows:
        raise ValueError(f"{path}: no lines; expected one JSON object a line")
    return rows


def split_rows(
    rows: Sequence[Row], *, part: str, test_share: float, seed: int
) -> list[Row]:
    """The rows of "train" or "test", no patient (or else no image) being in both.

    Args:
        rows: From `load_rows`; all name a patient or none does.
        part: Which of the two is returned, "train" or "test".
        test_share: The share of patients (or images) to test on, 0 to 1, rounded up.
        seed: Another one chooses other patients.

    Raises:
        ValueError: Some rows alone name a patient, the part is unknown, or one part is
            empty.
    """
    if part not in ("train", "test"):
        raise ValueError(f"part={part!r}: expected 'train' or 'test'")
    without = [row.origin for row in rows if row.patient is None]
    if without and len(without) != len(rows):
        raise ValueError(
            f"{without[0]}: no patient, but other lines name theirs; give all lines a "
            "patient or none, or one patient's images could be in both parts"
        )
    keys = [str(row.images[-1] if without else row.patient) for row in rows]
    test = groups_to_test(keys, test_share=test_share, seed=seed)
    return [
        row
        for row, key in zip(rows, keys, strict=True)
        if (key in test) == (part == "test")
    ]


def row_views(rows: Sequence[Row]) -> Views:
    """Views of a user's images: all questions about the same images are one view.

    Args:
        rows: From `load_rows`, one or more. Images are read when a view is drawn.
    """
    groups: dict[tuple[Path, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.images, []).append(row)
    grouped = list(groups.values())

    def outline(index: int) -> View:
        mine = grouped[index]
        black = np.zeros((), np.uint8)
        return View(
            images=tuple(np.broadcast_to(black, (*n, 3)) for n in mine[0].sizes),
            names=tuple(row.label for row in mine),
            boxes=np.array([row.box for row in mine], np.float32),
            questions=tuple((row.query,) for row in mine),
            origin=mine[0].origin,
            plane="",
            position=0,
            columns=tuple(row.columns for row in mine),
        )

    def view(index: int, rng: np.random.Generator) -> View:
        del rng  # nothing is drawn
        first = grouped[index][0]
        images = tuple(
            read_image(ImageFile(path), first.origin) for path in first.images
        )
        return outline(index)._replace(images=images)

    return Views(
        count=len(grouped),
        view=view,
        names=tuple(dict.fromkeys(row.label for row in rows)),
        texts=tuple(dict.fromkeys(row.query for row in rows)),
        sizes=tuple(sorted({size for row in rows for size in row.sizes})),
        slots=max(len(row.images) for row in rows),
        outline=outline,
    )


def _entry(line: str, origin: str) -> dict:
    """The line's object, its keys checked."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{origin}: not JSON ({error}); expected one object a line, such as "
            '{"image": "a.png", "query": "Find ...", "box": [x1, y1, x2, y2], '
            '"frame": "original"}'
        ) from error
    if not isinstance(entry, dict):
        raise ValueError(f"{origin}: expected a JSON object, found {entry!r}")
    missing = [key for key in _KEYS if key not in entry]
    unknown = [key for key in entry if key not in (*_KEYS, *_OPTIONAL)]
    if missing == ["frame"] and not unknown:
        raise ValueError(
            f"{origin}: 'frame' is not declared; say what the box is measured in, one "
            f"of {FRAMES}"
        )
    if missing or unknown or not entry["image"]:
        raise ValueError(
            f"{origin}: missing keys {missing}, unknown keys {unknown}; expected "
            f"{_KEYS} and perhaps {_OPTIONAL}, none of them empty"
        )
    if not isinstance(entry.get("columns", {}), dict):
        raise ValueError(
            f"{origin}: columns {entry['columns']!r}; expected an object, whose fields "
            "go to the rewards in Python"
        )
    if entry["frame"] not in FRAMES:
        raise ValueError(
            f"{origin}: frame {entry['frame']!r}; expected one of {FRAMES}"
        )
    return entry


def _box(
    entry: dict, origin: str, size: tuple[int, int], geometry: Geometry
) -> tuple[float, float, float, float]:
    box, frame = entry["box"], entry["frame"]
    numbers = isinstance(box, list) and len(box) == 4
    if not numbers or not all(
        type(x) in (int, float) and math.isfinite(x) for x in box
    ):
        raise ValueError(
            f"{origin}: box {box!r}; expected four numbers [x1, y1, x2, y2]"
        )
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
            f"{origin}: box {box} in frame {frame!r} {fault} of {height} x {width} "
            "(height x width) pixels; expected 0 <= x1 < x2 <= width and "
            "0 <= y1 < y2 <= height. Clip it, take the line out, or correct 'frame'"
        )
    if np.diff(np.round(in_shown).reshape(2, 2), axis=0).min() < 1:
        raise ValueError(
            f"{origin}: box {box} in frame {frame!r} is below one pixel of the image "
            f"as shown, {shown[0]} x {shown[1]}; raise max_pixels or take the line out"
        )
    return x1, y1, x2, y2
