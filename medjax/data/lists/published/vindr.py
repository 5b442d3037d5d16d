"""VinDr-CXR: chest radiographs in DICOM, boxes and findings by several radiologists.

PhysioNet:

    annotations/annotations_train.csv     image_id,rad_id,class_name,x_min,...,y_max
    annotations/annotations_test.csv      the same without rad_id: a consensus of five
    annotations/image_labels_train.csv    image_id,rad_id, and a column of 0 and 1 each
    annotations/image_labels_test.csv     the same without rad_id
    train/<image_id>.dicom, test/<image_id>.dicom

Kaggle (vinbigdata-chest-xray-abnormalities-detection), whose test has no labels:

    train.csv       image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
    train/<image_id>.dicom

The lists may lie in the folder itself. A line "No finding" has no numbers: its reader
found nothing. Of the findings by image "No finding" is one: a line has a 1 in some
column, and in that of "No finding" alone or in others. Images converted to PNG or JPEG
need `train_meta.csv` (and `test_meta.csv`) with image_id,dim0,dim1, the height and
width of the DICOM, since boxes are in its pixels.

Source: physionet.org/content/vindr-cxr/1.0.0, the paper (arXiv 2012.15029), and the
data page of the competition.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from medjax.data.images import ImageFile
from medjax.data.lists import cells
from medjax.data.lists.files import Line, Table, csv_table
from medjax.data.lists.groups import picture_key
from medjax.data.lists.published.places import by_stem, the_one
from medjax.data.lists.reading import Bad

NOTHING = "No finding"
SOUGHT = "annotations_train.csv, or Kaggle's train.csv with class_id, beside train/"
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_KAGGLE = ("image_id", "class_name", "class_id", "rad_id", *_CORNERS)
_NO_CLASS = "14"  # Kaggle's number of "No finding"
_SAME = {"Other disease": "Other diseases"}  # as the test list spells it


class Mark(NamedTuple):
    """A line of boxes: a finding, or a reader who found nothing."""

    origin: str
    name: str  # of the image, without ending
    reader: str | None
    finding: str | None
    box: tuple[float, float, float, float] | None  # edges, in pixels of the DICOM


class Opinion(NamedTuple):
    """What one reader found in an image as a whole."""

    origin: str
    name: str
    reader: str | None
    findings: tuple[str, ...]


class Half(NamedTuple):
    """The training or the test part: its lists, images and what size they had."""

    split: str | None  # None of Kaggle's, which has one part with labels
    boxes: Path | None
    labels: Path | None
    images: Mapping[str, list[Path]]
    sizes: Mapping[str, tuple[int, int]]  # (height, width) of the DICOM, by name


def is_vindr(path: Path) -> bool:
    """Whether the folder holds a list of VinDr-CXR, of PhysioNet or Kaggle.

    Args:
        path: A file or a folder.
    """
    lists = (("annotations_train.csv", "vindr"), ("train.csv", "kaggle"))
    return any(_find(path, name, kind) for name, kind in lists)


def vindr_halves(path: Path) -> list[Half]:
    """The parts that the folder has lists of.

    Args:
        path: The folder of VinDr-CXR.

    Raises:
        ValueError: Lists are missing or there twice, or there are no images.
    """
    kaggle = _find(path, "train.csv", "kaggle")
    halves: list[Half] = []
    for split in ("train", "test"):
        boxes = _one(path, f"annotations_{split}.csv")
        labels = _one(path, f"image_labels_{split}.csv")
        if boxes is None and labels is None:
            continue
        halves.append(_half(path, split, boxes, labels))
    if kaggle and halves or len(kaggle) > 1:
        raise ValueError(
            f"{path.name}: the lists of PhysioNet and Kaggle's train.csv; expected one "
            "of them"
        )
    if kaggle:
        halves = [_half(path, "train", kaggle[0], None)._replace(split=None)]
    if not halves:
        raise ValueError(f"{path.name}: no lists of VinDr-CXR; expected {SOUGHT}")
    return halves


def read_marks(half: Half) -> Iterator[Mark | Bad]:
    """The lines of a list of boxes.

    Args:
        half: One with such a list.

    Returns:
        What is wrong with a line spoils the image that it names.

    Raises:
        ValueError: It has none, or a column is missing.
    """
    if half.boxes is None:
        raise ValueError(
            f"no annotations_{half.split}.csv, but other lists of VinDr-CXR; expected "
            "the boxes too"
        )
    table = _table(half.boxes, ("image_id", "class_name", *_CORNERS), half.split)
    kaggle = "class_id" in table.header
    for line in table.lines:
        if isinstance(line, Bad):
            yield line
            continue
        try:
            yield _mark(line, kaggle=kaggle)
        except ValueError as error:
            yield Bad(line.origin, str(error), line.cells["image_id"])


def read_opinions(half: Half) -> Iterator[Opinion | Bad]:
    """The lines of a list of findings by image; of Kaggle's list of boxes, its classes.

    Args:
        half: One with either list.

    Returns:
        What is wrong with a line spoils the image that it names.

    Raises:
        ValueError: It has neither, or a column is missing.
    """
    if half.labels is not None:
        table = _table(half.labels, ("image_id", NOTHING), half.split)
        for line in table.lines:
            if isinstance(line, Bad):
                yield line
                continue
            try:
                yield _opinion(line)
            except ValueError as error:
                yield Bad(line.origin, str(error), line.cells["image_id"])
        return
    found: dict[tuple[str, str | None], Opinion] = {}
    for mark in read_marks(half):
        if isinstance(mark, Bad):
            yield mark
            continue
        key = (mark.name, mark.reader)
        one = found.setdefault(key, Opinion(mark.origin, mark.name, mark.reader, ()))
        if mark.finding is not None and mark.finding not in one.findings:
            found[key] = one._replace(findings=(*one.findings, mark.finding))
    yield from found.values()


def image_of(half: Half, name: str, origin: str) -> Path:
    """The image's file.

    Args:
        half: The part that lists it.
        name: Without its ending.
        origin: What an error calls the line.

    Raises:
        ValueError: There is none, or several.
    """
    return the_one(half.images, name, origin)


def spoilt_image(half: Half, bad: Bad) -> Bad:
    """A wrong line that spoils its image's picture, where the image can be found.

    Of three readers, one of whom cannot be read, the other two are no answer.

    Args:
        half: The part that lists it.
        bad: From `read_marks` or `read_opinions`.
    """
    files = half.images.get(str(bad.spoils), [])
    return bad._replace(spoils=picture_key(ImageFile(files[0])) if files else None)


def _half(path: Path, split: str, boxes: Path | None, labels: Path | None) -> Half:
    folder = path / split
    if not folder.is_dir():
        raise ValueError(
            f"{path.name}: lists of {split}, but no folder {split}/ of images"
        )
    meta = _one(path, f"{split}_meta.csv")
    return Half(
        split=split,
        boxes=boxes,
        labels=labels,
        images=by_stem([folder]),
        sizes=_sizes(meta) if meta else {},
    )


def _sizes(path: Path) -> dict[str, tuple[int, int]]:
    table = _table(path, ("image_id", "dim0", "dim1"), None)
    sizes: dict[str, tuple[int, int]] = {}
    for line in table.lines:
        if isinstance(line, Bad):
            raise ValueError(line.message)
        name = cells.name(line.cells["image_id"], line.origin, "image_id")
        sides = [
            cells.number(line.cells[column], line.origin, column)
            for column in ("dim0", "dim1")
        ]
        if name in sizes or any(side < 1 or side != int(side) for side in sides):
            raise ValueError(
                f"{line.origin}: expected each image once, and dim0 and dim1 in whole "
                "pixels"
            )
        sizes[name] = (int(sides[0]), int(sides[1]))
    return sizes


def _mark(line: Line, *, kaggle: bool) -> Mark:
    origin, row = line
    name = cells.name(row["image_id"], origin, "image_id")
    finding = cells.name(row["class_name"], origin, "class_name")
    reader = cells.name(row["rad_id"], origin, "rad_id") if "rad_id" in row else None
    empty = [column for column in _CORNERS if cells.missing(row[column])]
    if kaggle and (row["class_id"] == _NO_CLASS) != (finding == NOTHING):
        raise ValueError(
            f"{origin}: class_id {row['class_id']} and class_name {finding!r}; "
            f"expected {_NO_CLASS} for {NOTHING!r} alone"
        )
    if finding == NOTHING:
        if len(empty) != len(_CORNERS):
            raise ValueError(
                f"{origin}: {NOTHING!r} with numbers; expected empty cells (some "
                "copies hold 0,0,1,1, which is no box: empty them) or a finding"
            )
        return Mark(origin, name, reader, None, None)
    if empty:
        raise ValueError(
            f"{origin}: {finding!r} without {', '.join(empty)}; expected four numbers"
        )
    x1, y1, x2, y2 = (cells.number(row[c], origin, c) for c in _CORNERS)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(
            f"{origin}: box {x1:g}, {y1:g}, {x2:g}, {y2:g} is empty; expected x_min < "
            "x_max and y_min < y_max"
        )
    return Mark(origin, name, reader, finding, (x1, y1, x2, y2))


def _opinion(line: Line) -> Opinion:
    origin, row = line
    marked = {
        _SAME.get(column, column): row[column]
        for column in row
        if column not in ("image_id", "rad_id")
    }
    for column, value in marked.items():
        if value not in ("0", "1", "0.0", "1.0"):
            raise ValueError(f"{origin}: {column} is {value!r}; expected 0 or 1")
    named = [column for column, value in marked.items() if float(value)]
    if not named:
        raise ValueError(
            f"{origin}: every column is 0, {NOTHING!r} too; expected a finding or "
            f"{NOTHING!r}. What the line says cannot be told: correct it, or leave "
            "such images out by data.on_bad=drop"
        )
    findings = tuple(column for column in named if column != NOTHING)
    if findings and NOTHING in named:
        raise ValueError(
            f"{origin}: {NOTHING!r} beside {', '.join(findings)}; expected one or the "
            "other"
        )
    return Opinion(
        origin,
        cells.name(row["image_id"], origin, "image_id"),
        cells.name(row["rad_id"], origin, "rad_id") if "rad_id" in row else None,
        findings,
    )


def _table(path: Path, needed: tuple[str, ...], split: str | None) -> Table:
    table = csv_table(path)
    if split == "train" and path.name.startswith(("annotations", "image_labels")):
        needed = (*needed, "rad_id")
    missing = [column for column in needed if column not in table.header]
    if missing:
        raise ValueError(
            f"{path.name}, line 1: no column {', '.join(missing)}; expected "
            f"{','.join(needed)}"
        )
    return table


def _one(path: Path, name: str) -> Path | None:
    files = _find(path, name, "")
    if len(files) > 1:
        raise ValueError(
            f"{path.name}: {name} and annotations/{name}; expected one of them"
        )
    return files[0] if files else None


def _find(path: Path, name: str, kind: str) -> list[Path]:
    """The lists of that name; of "vindr" and "kaggle" those whose header is theirs."""
    files = [
        file for file in (path / "annotations" / name, path / name) if file.is_file()
    ]
    wanted = {"vindr": {"image_id", "class_name"}, "kaggle": set(_KAGGLE)}.get(kind)
    if wanted is None:
        return files
    return [file for file in files if wanted <= _header(file)]


def _header(path: Path) -> set[str]:
    with path.open("rb") as stream:
        first = stream.readline(4096)
    return {cell.strip() for cell in first.decode("utf-8-sig", "replace").split(",")}
