"""Lists of boxes in CSV, one box a line, their coordinates declared."""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medjax.data.boxes.entries import BoxEntry
from medjax.data.boxes.formats.asking import Asking, Found, Seen, ask, choose_classes
from medjax.data.lists import cells
from medjax.data.lists.columns import check_mistyped
from medjax.data.lists.files import Line, csv_table, find_list
from medjax.data.lists.groups import group_columns, picture_key, read_groups, read_split
from medjax.data.lists.images import IMAGE_COLUMNS, cell_image, stored_file
from medjax.data.lists.reading import Bad, Reading, reader_column
from medjax.rl.boxes import FRAMES

COLUMNS = {  # the names that corners and sides go by, by what `coords` declares
    "xyxy": (
        ("x1", "y1", "x2", "y2"),
        ("x_min", "y_min", "x_max", "y_max"),
        ("xmin", "ymin", "xmax", "ymax"),
        ("left", "top", "right", "bottom"),
    ),
    "xywh": (
        ("x", "y", "w", "h"),
        ("x", "y", "width", "height"),
        ("left", "top", "width", "height"),
    ),
}
_NAMES = {  # columns by what they say, each under one of these names
    "image": ("image", "image_path", "file_name", "filename"),
    "label": ("label", "class", "class_name", "category"),
}
_SIDES = (("image_height", "image_width"), ("height", "width"))


class Columns(NamedTuple):
    """Which columns say what; None where none does."""

    image: str
    label: str
    box: tuple[str, str, str, str]
    size: tuple[str, str] | None  # height and width of the image
    query: str | None
    frame: str | None
    split: str | None
    reader: str | None
    groups: tuple[str, ...]


def read_csv_boxes(
    path: Path, reading: Reading, asking: Asking
) -> Iterator[BoxEntry | Bad]:
    """Entries of a CSV file with a box a line.

        image,label,x1,y1,x2,y2,patient,split
        a/1.png,nodule,10,20,60,80,p017,train
        a/2.png,nodule,,,,,p018,train

    `data.coords` declares what the four numbers are: "xyxy" corners (x1,y1,x2,y2, or
    x_min,..., xmin,..., left,top,right,bottom), "xywh" a corner and sides (x,y,w,h, or
    width,height). They are in pixels of the image unless a column `frame` says
    otherwise. Four empty cells: there is none of the label; without a label either,
    nothing was found in the image. May be there: `query`, which takes the place of the
    template; `split`; `reader` or `rad_id`; `patient`, `study`, `lesion` and the
    columns of `data.group`; `image_height,image_width`, which are checked;
    `image_frame,image_plane`, which image of a file with several. The image
    may be called `file_name`, the label `class` or `category`.

    Args:
        path: The file, or a folder with this one CSV file.
        reading: The options of a user's lists.
        asking: What is asked about them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The coordinates are not declared, or the columns do not fit them.
    """
    path = find_list(path, ".csv")
    table = csv_table(path)
    columns = _columns(table.header, path.name, reading)
    seen: dict[str, Seen] = {}
    labels: dict[str, None] = {}
    asked: list[tuple[str, BoxEntry]] = []
    for line in table.lines:
        if isinstance(line, Bad):
            yield line
            continue
        try:
            one = _line(line, columns, path.parent)
            first = seen.setdefault(picture_key(one.image), one)
            _check_same(one, first)
        except ValueError as error:
            yield Bad(line.origin, str(error), _spoilt(line, columns, path.parent))
            continue
        labels.update(dict.fromkeys(found.label for found in one.found))
        if columns.query is not None:
            asked += _asked(line, one, columns)
        elif first is not one:
            readers = dict.fromkeys((*first.readers, *one.readers))
            found = (*first.found, *one.found)
            both = first._replace(found=found, readers=tuple(readers))
            seen.update({picture_key(one.image): both})
    classes = choose_classes(tuple(labels), asking.structures, path.name)
    if columns.query is None:
        yield from ask(seen.values(), classes, asking)
    else:
        yield from (entry for label, entry in asked if label in classes)


def _columns(header: Sequence[str], file: str, reading: Reading) -> Columns:
    names: dict[str, str] = {}
    for what, known in _NAMES.items():
        found = [name for name in known if name in header]
        if len(found) != 1:
            raise ValueError(
                f"{file}, line 1: columns {list(header)}; expected one that says the "
                f"{what}, called {' or '.join(known)}"
            )
        names[what] = found[0]
    if not reading.coords:
        raise ValueError(
            f"{file}: data.coords is not declared; say whether the numbers of a line "
            "are corners, data.coords=xyxy, or a corner and sides, data.coords=xywh"
        )
    boxes = [cells for cells in COLUMNS[reading.coords] if set(cells) <= set(header)]
    if len(boxes) != 1:
        forms = " or ".join(",".join(cells) for cells in COLUMNS[reading.coords])
        raise ValueError(
            f"{file}, line 1: columns {list(header)}; data.coords={reading.coords} "
            f"expects one of {forms}, found {len(boxes)} of them"
        )
    sizes = [
        pair
        for pair in _SIDES
        if set(pair) <= set(header) and not set(pair) & set(boxes[0])
    ]
    if len(sizes) > 1:
        raise ValueError(f"{file}, line 1: {sizes} both say an image's size; keep one")

    def own(name: str) -> str | None:
        return name if name in header else None

    columns = Columns(
        image=names["image"],
        label=names["label"],
        box=boxes[0],
        size=sizes[0] if sizes else None,
        query=own("query"),
        frame=own("frame"),
        split=own("split"),
        reader=reader_column(header, file),
        groups=tuple(group_columns(header, reading, file)),
    )
    check_mistyped(header, _used(columns), ("patient", "split", "frame"), file)
    return columns


def _used(columns: Columns) -> set[str | None]:
    """Columns that something is read from; the others go to rewards in Python."""
    return {
        *(columns.image, columns.label, *columns.box, *(columns.size or ())),
        *(columns.query, columns.frame, columns.split, columns.reader),
        *(*columns.groups, *IMAGE_COLUMNS),
    }


def _spoilt(line: Line, columns: Columns, folder: Path) -> Hashable:
    """The picture that a wrong line is about, where it can be read."""
    origin, row = line
    try:
        name = cells.name(row[columns.image], origin, "image")
        return picture_key(cell_image(stored_file(folder, name), row, origin))
    except ValueError:
        return None


def _line(line: Line, columns: Columns, folder: Path) -> Seen:
    """The image of a line, and what the line found in it."""
    origin, row = line
    label, reader = row[columns.label], None
    if columns.reader is not None:
        reader = cells.name(row[columns.reader], origin, columns.reader)
    empty = [column for column in columns.box if cells.missing(row[column])]
    box = None
    if len(empty) < 4:
        a, b, c, d = (cells.number(row[name], origin, name) for name in columns.box)
        box = (a, b, c, d) if columns.box in COLUMNS["xyxy"] else (a, b, a + c, b + d)
        if box[2] <= box[0] or box[3] <= box[1]:
            numbers = ", ".join(f"{name} {row[name]}" for name in columns.box)
            raise ValueError(
                f"{origin}: {numbers} is an empty box; expected sides above 0, and "
                "data.coords as the columns mean it"
            )
    found: tuple[Found, ...] = ()
    if box is not None or not cells.missing(label):
        found = (Found(origin, cells.name(label, origin, columns.label), box, reader),)
    size = None
    if columns.size is not None:
        sides = [cells.number(row[name], origin, name) for name in columns.size]
        if any(side < 1 or side != int(side) for side in sides):
            raise ValueError(f"{origin}: size {sides}; expected whole pixels above 0")
        size = (int(sides[0]), int(sides[1]))
    frame = "original" if columns.frame is None else row[columns.frame]
    if frame not in FRAMES:
        raise ValueError(f"{origin}: frame {frame!r}; expected one of {FRAMES}")
    used = _used(columns)
    return Seen(
        origin=origin,
        image=cell_image(
            stored_file(folder, cells.name(row[columns.image], origin, "image")),
            row,
            origin,
        ),
        found=found,
        frame=frame,
        groups=read_groups(row, columns.groups, origin),
        split=read_split(row[columns.split], origin) if columns.split else None,
        readers=() if reader is None else (reader,),
        size=size,
        columns={name: value for name, value in row.items() if name not in used},
    )


def _check_same(one: Seen, first: Seen) -> None:
    for what in ("frame", "groups", "split", "size"):
        mine, other = one._asdict()[what], first._asdict()[what]
        if mine != other:
            raise ValueError(
                f"{one.origin}: {what} {mine!r}, but {other!r} in {first.origin} for "
                "the same image; expected the same"
            )


def _asked(line: Line, one: Seen, columns: Columns) -> Iterator[tuple[str, BoxEntry]]:
    """The line's own question, with the label that it is chosen by."""
    for found in one.found:
        yield (
            found.label,
            BoxEntry(
                origin=one.origin,
                images=(one.image,),
                query=cells.text(line.cells[columns.query or ""], one.origin, "query"),
                boxes=() if found.box is None else (found.box,),
                frame=one.frame,
                label=found.label,
                groups=one.groups,
                split=one.split,
                reader=found.reader,
                size=one.size,
                columns=one.columns,
            ),
        )
