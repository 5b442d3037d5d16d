"""A user's own pictures with classes or grades: a CSV file beside them.

    image,label,patient,split
    a/scan1.png,nodule,p017,train

`image` is a path from the file's folder, `label` a class name, or the grade of an
ordinal task in whole numbers. What may be left out: columns of a patient, study or
lesion, by which the parts are split (else by picture); `split` (train, val or valid,
test); `reader` or `rad_id`, who labelled it; `image_frame` and `image_plane`, which
image of a file with several. What other columns say is handed to
rewards written in Python.

With `data.answers=set` a picture has any number of classes: `Effusion|Mass`, or
`No Finding`.
"""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

from medjax.data.classes.entries import LabelEntry, split_labels
from medjax.data.lists.cells import name
from medjax.data.lists.columns import check_columns, check_mistyped
from medjax.data.lists.files import Line, csv_table, find_list
from medjax.data.lists.groups import (
    group_columns,
    picture_key,
    read_groups,
    read_split,
)
from medjax.data.lists.images import IMAGE_COLUMNS, cell_image, stored_file
from medjax.data.lists.reading import Bad, Reading, reader_column

_NEEDED = ("image", "label")
_MISTYPED = ("patient", "split")  # what other columns are compared with


def label_entries(path: Path, reading: Reading) -> Iterator[LabelEntry | Bad]:
    """The lines of a CSV file of labelled images; a wrong one is `Bad`.

    Args:
        path: The file, or a folder with this one CSV file.
        reading: Its `group` names columns that group beside patient, study and lesion.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no CSV in UTF-8, or its header is wrong.
    """
    path = find_list(path, ".csv")
    table = csv_table(path)
    grouping = group_columns(table.header, reading, path.name)
    reader = reader_column(table.header, path.name)
    used = (*_NEEDED, *IMAGE_COLUMNS, *grouping, "split")
    used += (reader,) if reader else ()
    _check_header(path, table.header, used)
    for line in table.lines:
        if isinstance(line, Bad):
            yield line
            continue
        try:
            yield _entry(path.parent, line, grouping, reader, used, reading)
        except ValueError as error:
            yield Bad(line.origin, str(error), _spoilt(path.parent, line))


def _spoilt(folder: Path, line: Line) -> Hashable:
    """The picture that a wrong line is about, where it can be read."""
    origin, cells = line
    try:
        image = stored_file(folder, name(cells["image"], origin, "image"))
        return picture_key(cell_image(image, cells, origin))
    except ValueError:
        return None


def _entry(
    folder: Path,
    line: Line,
    grouping: Sequence[str],
    reader: str | None,
    used: Sequence[str],
    reading: Reading,
) -> LabelEntry:
    origin, cells = line
    label = name(cells["label"], origin, "label")
    image = name(cells["image"], origin, "image")
    return LabelEntry(
        origin=origin,
        image=cell_image(stored_file(folder, image), cells, origin),
        labels=split_labels(label, origin) if reading.answers == "set" else (label,),
        groups=read_groups(cells, grouping, origin),
        split=read_split(cells["split"], origin) if "split" in cells else None,
        reader=name(cells[reader], origin, reader) if reader else None,
        columns={key: cell for key, cell in cells.items() if key not in used},
    )


def _check_header(path: Path, header: Sequence[str], used: Sequence[str]) -> None:
    if missing := [column for column in _NEEDED if column not in header]:
        raise ValueError(
            f"{path.name}, line 1: columns {list(header)} without {missing}; expected "
            "image,label and perhaps patient,split"
        )
    check_columns([x for x in header if x not in used], f"{path.name}, line 1")
    check_mistyped(header, used, _MISTYPED, path.name)
