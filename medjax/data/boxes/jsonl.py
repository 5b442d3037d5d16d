r"""A user's own images and boxes: a JSONL file, one question a line.

    {"image": "scan1.png", "query": "Find the nodule.", "box": [10, 20, 60, 80],
     "frame": "original", "label": "nodule", "patient": "p017"}

`image` is a path from the file's folder, or {"path": ..., "frame": 3, "plane":
"axial"} of a file with several (or a list of such, the box lying in the last), `frame`
says what `box` is measured in (see `rl.boxes.FRAMES`) and has no default, since a wrong
guess costs overlap in silence. `boxes`, a list of such, stands
in place of `box` where there are several or none. What may be left out: `label`;
`patient`, `study`, `lesion`, by which parts are split; `split`, the official part;
`reader`, who drew it; `size`, the [height, width] of the last image, which is checked;
`columns`, an object, which is handed to rewards written in Python.
"""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from medjax.data.boxes.entries import Box, BoxEntry
from medjax.data.lists.cells import name, number, text
from medjax.data.lists.files import Line, find_list, json_lines
from medjax.data.lists.groups import question_key, read_groups, read_split
from medjax.data.lists.images import object_image
from medjax.data.lists.reading import Bad, Reading
from medjax.rl.boxes import FRAMES

NO_LABEL = "target"
_KEYS = ("image", "query", "box", "frame")
_GROUPS = ("patient", "study", "lesion")
_OPTIONAL = ("boxes", "label", *_GROUPS, "split", "reader", "size", "columns")


def jsonl_entries(path: Path, reading: Reading) -> Iterator[BoxEntry | Bad]:
    """The lines of a JSONL file of boxes; a wrong one is `Bad`.

    Args:
        path: The file, or a folder with one file that ends in .jsonl.
        reading: Its `group` names keys of the lines that group beside patient, study
            and lesion.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no text in UTF-8, or no line has a key of `group`.
    """
    path = find_list(path, ".jsonl")
    absent = dict.fromkeys(reading.group)
    for line in json_lines(path):
        if isinstance(line, Bad):
            yield line
            continue
        absent = {key: None for key in absent if key not in line.cells}
        try:
            yield _entry(path.parent, line, reading)
        except ValueError as error:
            yield Bad(line.origin, str(error), _spoilt(path.parent, line))
    if absent:
        raise ValueError(
            f"{path.name}: no line has {', '.join(map(repr, absent))}, which "
            "data.group names; expected a key beside 'image', and not in 'columns'"
        )


def _entry(folder: Path, line: Line, reading: Reading) -> BoxEntry:
    origin, cells = line
    _check_keys(line, reading)
    listed = cells["image"] if isinstance(cells["image"], list) else [cells["image"]]
    columns = cells.get("columns", {})
    if not isinstance(columns, dict):
        raise ValueError(
            f"{origin}: columns {columns!r}; expected an object, whose fields go to "
            "the rewards in Python"
        )
    if cells["frame"] not in FRAMES:
        raise ValueError(
            f"{origin}: frame {cells['frame']!r}; expected one of {FRAMES}"
        )
    return BoxEntry(
        origin=origin,
        images=tuple(object_image(x, folder, origin) for x in listed),
        query=text(cells["query"], origin, "query"),
        boxes=_boxes(line),
        frame=cells["frame"],
        label=name(cells["label"], origin, "label") if "label" in cells else NO_LABEL,
        groups=read_groups(cells, (*_GROUPS, *reading.group), origin),
        split=read_split(cells["split"], origin) if "split" in cells else None,
        reader=name(cells["reader"], origin, "reader") if "reader" in cells else None,
        size=_size(cells["size"], origin) if "size" in cells else None,
        columns=columns,
    )


def _spoilt(folder: Path, line: Line) -> Hashable:
    """The question that a wrong line asks, where it can be read."""
    origin, cells = line
    images = cells.get("image")
    listed = images if isinstance(images, list) else [images]
    try:
        files = [object_image(x, folder, origin) for x in listed]
        return question_key(files, text(cells.get("query"), origin, "query"))
    except ValueError:
        return None


def _check_keys(line: Line, reading: Reading) -> None:
    origin, cells = line
    missing = [key for key in _KEYS if key not in cells and key != "box"]
    if ("box" in cells) == ("boxes" in cells):
        missing.append("box (or boxes, one of them)")
    known = (*_KEYS, *_OPTIONAL, *reading.group)
    unknown = [key for key in cells if key not in known]
    if missing == ["frame"] and not unknown:
        raise ValueError(
            f"{origin}: 'frame' is not declared; say what the box is measured in, one "
            f"of {FRAMES}"
        )
    if missing or unknown or not cells["image"]:
        wrong = [f"missing keys {missing}"] if missing else []
        wrong += [f"unknown keys {unknown}"] if unknown else []
        raise ValueError(
            f"{origin}: {', '.join(wrong) or 'no image is named'}; expected "
            f"{_KEYS} and perhaps {_OPTIONAL}, none of them empty. A key that groups "
            "pictures is named by data.group, others stand in columns"
        )


def _boxes(line: Line) -> tuple[Box, ...]:
    origin, cells = line
    if "box" in cells:
        return (_box(cells["box"], origin),)
    if not isinstance(cells["boxes"], list):
        raise ValueError(
            f"{origin}: boxes {cells['boxes']!r}; expected a list of boxes, which is "
            "empty where there is none"
        )
    return tuple(_box(box, origin) for box in cells["boxes"])


def _box(box: Any, origin: str) -> Box:  # noqa: ANN401
    if not isinstance(box, list) or len(box) != 4 or any(type(x) is str for x in box):
        raise ValueError(
            f"{origin}: box {box!r}; expected four numbers [x1, y1, x2, y2]"
        )
    x1, y1, x2, y2 = (number(x, origin, f"a number of box {box}") for x in box)
    return x1, y1, x2, y2


def _size(size: Any, origin: str) -> tuple[int, int]:  # noqa: ANN401
    if not isinstance(size, list) or [type(x) for x in size] != [int, int]:
        raise ValueError(f"{origin}: size {size!r}; expected [height, width] in pixels")
    return size[0], size[1]
