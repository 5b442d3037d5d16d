"""NIH ChestX-ray14: chest radiographs, findings from reports, and some boxes.

    images/00000001_000.png, or images_001/images/00000001_000.png    1024 x 1024
    Data_Entry_2017.csv     Image Index,Finding Labels,Follow-up #,Patient ID,...
    BBox_List_2017.csv      Image Index,Finding Label,Bbox [x,y,w,h],,,
    train_val_list.txt, test_list.txt                                 names of images

The header of the boxes has commas inside its brackets: six columns and three empty
ones. `Finding Labels` are joined by bars, "Cardiomegaly|Effusion", or "No Finding". The
boxes say "Infiltrate" for what the entries call "Infiltration". Pixels of boxes are
those of the published images, 1024 x 1024.

Source: nihcc.app.box.com/v/ChestXray-NIHCC (README and lists), mirrored as
nih-chest-xrays/data on Kaggle, whose files are read as well as
Data_Entry_2017_v2020.csv and lists that end in _NIH.txt.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medjax.data.lists import cells
from medjax.data.lists.files import csv_rows, decode_list
from medjax.data.lists.published.places import by_stem
from medjax.data.lists.reading import Bad

NOTHING = "No Finding"
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion"),
    *("Emphysema", "Fibrosis", "Hernia", "Infiltration", "Mass", "Nodule"),
    *("Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
SIDE = 1024  # pixels of a published image, to which boxes refer
BOXES = "BBox_List_2017.csv"
SOUGHT = f"{BOXES} or Data_Entry_2017.csv beside images/"
_BOXES_HEADER = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
_ENTRIES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
_ENTRIES_HEADER = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID")
_LISTS = {"train": "train_val_list", "test": "test_list"}


class Boxed(NamedTuple):
    """A line of the list of boxes."""

    origin: str
    name: str  # of the image, with its ending
    finding: str
    box: tuple[float, float, float, float]  # edges (x1, y1, x2, y2)


class Entry(NamedTuple):
    """A line of the list of findings."""

    origin: str
    name: str
    findings: tuple[str, ...]  # none: "No Finding"
    patient: str


class Places(NamedTuple):
    """Where the images of a folder are, and their official parts."""

    images: Mapping[str, list[Path]]  # by name without the ending
    parts: Mapping[str, str]  # "train" or "test" by name; {} where nothing is listed


def is_nih(path: Path) -> bool:
    """Whether the folder holds a list of ChestX-ray14.

    Args:
        path: A file or a folder.
    """
    return any((path / name).is_file() for name in (BOXES, *_ENTRIES))


def nih_places(path: Path) -> Places:
    """The images of `images/`, or of `images_001/images/` to `images_012/images/`.

    A smaller copy's `images-224/images-224/` is read too; boxes do not fit it.

    Args:
        path: The folder of ChestX-ray14.

    Raises:
        ValueError: There is no folder of images, one list of the parts is missing, or
            an image is in both.
    """
    folders = [
        place
        for outer in sorted(path.glob("images*"))
        for place in (outer / "images", outer / outer.name, outer)
        if place.is_dir() and any(place.glob("*.png"))
    ]
    if not folders:
        raise ValueError(
            f"{path.name}: no images; expected images/*.png or images_001/images/*.png"
        )
    lists = {
        part: [
            file
            for ending in (".txt", "_NIH.txt")
            if (file := path / f"{stem}{ending}").is_file()
        ]
        for part, stem in _LISTS.items()
    }
    if any(lists.values()) and any(len(files) != 1 for files in lists.values()):
        found = [file.name for files in lists.values() for file in files]
        raise ValueError(
            f"{path.name}: found {', '.join(found)}; expected one train_val_list.txt "
            "and one test_list.txt, or neither"
        )
    parts: dict[str, str] = {}
    for part, files in lists.items():
        for name in decode_list(files[0]).split() if files else ():
            if name in parts:
                where = "both lists" if parts[name] != part else files[0].name
                raise ValueError(f"{path.name}: {name} is twice in {where}")
            parts[name] = part
    return Places(by_stem(folders), parts)


def part_of(places: Places, name: str, origin: str) -> str | None:
    """The official part of an image, None where there are no lists.

    Args:
        places: From `nih_places`.
        name: Of the image, with its ending.
        origin: What an error calls the line.

    Raises:
        ValueError: There are lists, and it is in neither.
    """
    if places.parts and name not in places.parts:
        raise ValueError(
            f"{origin}: {name} is neither in train_val_list.txt nor in test_list.txt"
        )
    return places.parts.get(name)


def read_boxes(path: Path) -> Iterator[Boxed | Bad]:
    """The lines of BBox_List_2017.csv.

    Args:
        path: The folder of ChestX-ray14.

    Raises:
        ValueError: The list is missing, or its header is another.
    """
    for line in _lines(path / BOXES, _BOXES_HEADER, exact=True):
        if isinstance(line, Bad):
            yield line
            continue
        origin, (name, finding, *numbers) = line
        try:
            label = cells.name(finding, origin, "Finding Label")
            label = "Infiltration" if label == "Infiltrate" else label
            x, y, width, height = (
                cells.number(value, origin, column)
                for value, column in zip(numbers, "xywh", strict=True)
            )
            if width <= 0 or height <= 0:
                raise ValueError(
                    f"{origin}: w is {width:g} and h {height:g}; expected more than 0"
                )
            yield Boxed(
                origin,
                cells.name(name, origin, "Image Index"),
                _known(label, origin),
                (x, y, x + width, y + height),
            )
        except ValueError as error:
            yield Bad(origin, str(error))


def has_entries(path: Path) -> bool:
    """Whether the folder holds the list of findings.

    Args:
        path: The folder of ChestX-ray14.
    """
    return any((path / name).is_file() for name in _ENTRIES)


def read_entries(path: Path) -> Iterator[Entry | Bad]:
    """The lines of Data_Entry_2017.csv, or of its version of 2020.

    Args:
        path: The folder of ChestX-ray14.

    Raises:
        ValueError: The list is missing, there are both versions, or another header.
    """
    files = [path / name for name in _ENTRIES if (path / name).is_file()]
    if len(files) != 1:
        raise ValueError(
            f"{path.name}: {len(files)} of {' and '.join(_ENTRIES)}; expected one"
        )
    seen: dict[str, str] = {}
    for line in _lines(files[0], _ENTRIES_HEADER, exact=False):
        if isinstance(line, Bad):
            yield line
            continue
        origin, (name, labels, _, patient) = line
        try:
            name = cells.name(name, origin, "Image Index")
            if name in seen:
                raise ValueError(
                    f"{origin}: {name} is also in {seen[name]}; expected each once"
                )
            seen[name] = origin
            words = cells.name(labels, origin, "Finding Labels").split("|")
            findings = tuple(word.strip() for word in words)
            if (
                NOTHING in findings
                and len(findings) > 1
                or len(set(findings)) != len(findings)
            ):
                raise ValueError(
                    f"{origin}: Finding Labels are {labels!r}; expected {NOTHING}, or "
                    "other findings once each"
                )
            yield Entry(
                origin,
                name,
                ()
                if findings == (NOTHING,)
                else tuple(_known(word, origin) for word in findings),
                patient_name(cells.group_name(patient, origin, "Patient ID")),
            )
        except ValueError as error:
            yield Bad(origin, str(error))


def patient_name(number: str) -> str:
    """The patient's number without zeros in front: 00013118 and 13118 are one.

    Args:
        number: Of the column Patient ID, or what an image's name begins with.
    """
    return number.lstrip("0") or "0"


def _known(label: str, origin: str) -> str:
    if label not in FINDINGS:
        raise ValueError(
            f"{origin}: finding {label!r}; expected one of {', '.join(FINDINGS)}, or "
            f"{NOTHING}"
        )
    return label


def _lines(
    path: Path, header: Sequence[str], *, exact: bool
) -> Iterator[tuple[str, list[str]] | Bad]:
    """The first cells of each line; `exact`: behind them are only empty ones."""
    if not path.is_file():
        raise ValueError(f"{path.parent.name}: no {path.name}; expected {SOUGHT}")
    count, rows = len(header), csv_rows(path)
    found = [cell.strip() for cell in next(rows, ("", []))[1]]
    if tuple(found[:count]) != tuple(header) or (exact and any(found[count:])):
        raise ValueError(
            f"{path.name}, line 1: columns {','.join(found)}; expected "
            f"{','.join(header)}" + (" and nothing but commas" if exact else ",...")
        )
    for origin, row in rows:
        stripped = [cell.strip() for cell in row]
        if not any(stripped):
            continue
        if len(row) < count or (exact and any(stripped[count:])):
            yield Bad(
                origin,
                f"{origin}: {len(row)} cells; expected {count}"
                + (" and nothing but commas" if exact else " or more"),
            )
        else:
            yield origin, stripped[:count]
