"""A user's own pictures with classes or grades: a CSV file beside them.

    image,label,patient,split
    a/scan1.png,nodule,p017,train

`image` is a path from the file's folder, `label` a class name, or the grade of an
ordinal task in whole numbers. `patient` and `split` (train or test) may be left out;
without `split` the parts are split by patient where it is given, else by picture. What
other columns say is handed to rewards written in Python.
"""

import csv
import difflib
import hashlib
import itertools
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.tasks import ClassQuestion, ClassTask, TaskParts
from medjax.data.images import ImageFile, image_size, read_image
from medjax.data.images.listing import find_list, groups_to_test
from medjax.data.volumes.splits import TESTED

_COLUMNS = ("image", "label", "patient", "split")
_SPLITS = ("train", "test")


class LabelRow(NamedTuple):
    """One line of the CSV file, checked."""

    origin: str  # "labels.csv, line 3"
    image: Path
    size: tuple[int, int]  # (height, width)
    label: str
    patient: str | None
    split: str | None
    columns: Mapping[str, str]


def load_labelled_images(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None,
    ordinal: bool,
    question: str | None,
    test: str = "test",
    test_share: float,
    seed: int,
) -> TaskParts:
    """The task that a CSV file, or the one in a folder, states, and its two parts.

    Args:
        path: The file, or a folder with this one CSV file.
        classes: Names in the order of their indices; None takes those that occur,
            sorted. Of an ordinal task they name the grades 0, 1, ..., and without them
            the grades are all from the lowest to the highest that occur, without gaps.
        ordinal: Whether labels are grades: whole numbers, the higher the more.
        question: What is asked about every picture; None takes a general phrasing.
        test: "test", or "val" to choose settings by: a share of what is left for
            training is tested, and the test part is not looked at.
        test_share: The share of the patients (or pictures) to test on, 0 to 1, where
            the file has no `split`; for "val" also the share of the rest.
        seed: Another one tests other patients, where the file has no `split` or for
            "val".

    Raises:
        FileNotFoundError: There is no such file, or a picture is missing.
        ValueError: Anything else is wrong with a line; the message names file and line.
    """
    rows = read_label_rows(path)
    names, labels, first = _classes(rows, classes, ordinal)
    split = {"test_share": test_share, "seed": seed}
    kept, tested = split_label_rows(rows, tested=test, **split)
    if question is None:
        question = "Which grade is this?" if ordinal else "Which class is this?"
    about = ClassQuestion("class", (question,), tuple(range(len(names))))
    root = Path(path) if Path(path).is_dir() else Path(path).parent
    lines = [
        (
            os.path.relpath(row.image, root),
            zlib.crc32(row.image.read_bytes()),
            *(row.label, row.patient, row.split),
        )
        for row in rows
    ]
    return TaskParts(
        task=ClassTask("labelled images", names, (about,), ordinal, first),
        train=_pictures(rows, labels, kept),
        test=_pictures(rows, labels, tested),
        identity={
            "task": "labelled images",
            "classes": list(names),
            "rows": len(rows),
            "sha256": hashlib.sha256(json.dumps(lines).encode()).hexdigest(),
            "test": [len(tested), test, test_share, seed],
        },
    )


def read_label_rows(path: str | os.PathLike[str]) -> list[LabelRow]:
    """Read and check the lines of a CSV file of labelled images.

    Args:
        path: The file, or a folder with this one CSV file. Its columns `image` and
            `label` are needed, `patient` and `split` may be there, others are kept.

    Raises:
        FileNotFoundError: There is no such file, or a picture is missing.
        ValueError: Anything else is wrong with a line; the message names file and line.
    """
    path = find_list(path, ".csv")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, restkey="", strict=True)
        try:
            _check_header(path, reader.fieldnames or ())
            rows = [_row(path, reader.line_num, entry) for entry in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path.name}, line {reader.line_num}: not CSV in UTF-8 ({error})"
            ) from error
    if not rows:
        raise ValueError(f"{path}: no lines below the header")
    _check_rows(rows)
    return rows


def split_label_rows(
    rows: Sequence[LabelRow], *, tested: str = "test", test_share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of the training and test rows, no patient being in both.

    Args:
        rows: From `read_label_rows`; all have a `split` or none has.
        tested: "test", or "val", which tests a share of the rest and uses nothing of
            the test part.
        test_share: The share of the patients to test on, 0 to 1; see `groups_to_test`.
        seed: Another one tests other patients, where they are not given.
    """
    if tested not in TESTED:
        raise ValueError(f"test={tested!r}: expected one of {TESTED}")
    keys = [row.patient or str(row.image) for row in rows]
    share = {"test_share": test_share, "seed": seed}
    if rows[0].split is not None:
        test = {key for key, row in zip(keys, rows, strict=True) if row.split == "test"}
        if not 0 < len(test) < len(set(keys)):
            raise ValueError(
                f"{rows[0].origin}: all lines are {rows[0].split!r}; expected some of "
                "train and some of test, or no split column"
            )
    else:
        test = groups_to_test(keys, **share)
    chosen = test
    if tested == "val":
        chosen = groups_to_test([key for key in keys if key not in test], **share)
    train = [n for n, key in enumerate(keys) if key not in chosen | test]
    return train, [n for n, key in enumerate(keys) if key in chosen]


def _check_header(path: Path, header: Sequence[str]) -> None:
    names = [name.strip() for name in header]
    missing = [name for name in _COLUMNS[:2] if name not in names]
    blank = "" in names or names != list(header)
    if missing or blank or len(set(names)) != len(names):
        raise ValueError(
            f"{path.name}, line 1: columns {list(header)}; expected image,label and "
            "perhaps patient,split, each once, without blanks"
        )
    for name in names:
        near = difflib.get_close_matches(name.lower(), _COLUMNS[2:], cutoff=0.75)
        if name not in _COLUMNS and near:
            raise ValueError(
                f"{path.name}, line 1: column {name!r}; is it meant to be {near[0]!r}? "
                "Correct it, or rename it to something else"
            )


def _row(path: Path, number: int, entry: dict[str, str | list[str] | None]) -> LabelRow:
    origin = f"{path.name}, line {number}"
    if "" in entry or None in entry.values():
        raise ValueError(
            f"{origin}: {'more' if '' in entry else 'fewer'} cells than the header has"
        )
    cells = {name: str(cell).strip() for name, cell in entry.items()}
    for name in _COLUMNS:
        if name in cells and not cells[name]:
            raise ValueError(f"{origin}: {name} is empty")
    if cells.get("split", "train") not in _SPLITS:
        raise ValueError(
            f"{origin}: split {cells['split']!r}; expected one of {_SPLITS}"
        )
    image = path.parent / cells["image"]
    return LabelRow(
        origin=origin,
        image=image,
        size=image_size(ImageFile(image), origin),
        label=cells["label"],
        patient=cells.get("patient"),
        split=cells.get("split"),
        columns={k: v for k, v in cells.items() if k not in _COLUMNS},
    )


def _check_rows(rows: Sequence[LabelRow]) -> None:
    """No picture twice, no patient in both parts."""
    images: dict[Path, LabelRow] = {}
    patients: dict[str, LabelRow] = {}
    for row in rows:
        image = Path(os.path.normpath(row.image))
        first = images.setdefault(image, row)
        if first is not row:
            raise ValueError(
                f"{row.origin}: {row.image.name} is also in {first.origin}; expected "
                "each picture once, with one label"
            )
        first = patients.setdefault(row.patient or "", row)
        if row.patient and first.split != row.split:
            raise ValueError(
                f"{row.origin}: patient {row.patient} is in {row.split}, and in "
                f"{first.split} in {first.origin}; expected one part a patient"
            )


def _classes(
    rows: Sequence[LabelRow], classes: Sequence[str] | None, ordinal: bool
) -> tuple[tuple[str, ...], list[int], int]:
    """Names, the index of each row's class, and the grade of class 0."""
    if ordinal:
        grades = []
        for row in rows:
            if not re.fullmatch(r"[+-]?\d+", row.label):
                raise ValueError(
                    f"{row.origin}: grade {row.label!r} is not an integer; expected "
                    "whole numbers as labels of an ordinal task"
                )
            grades.append(int(row.label))
        if classes is None:
            _check_gaps(rows, grades)
        first = 0 if classes is not None else min(grades)
        names = (
            tuple(classes)
            if classes is not None
            else tuple(str(n) for n in range(first, max(grades) + 1))
        )
        labels = [grade - first for grade in grades]
        known = f"the grades {first} to {first + len(names) - 1}"
    else:
        first = 0
        names = tuple(classes or sorted({row.label for row in rows}))
        index = {name: n for n, name in enumerate(names)}
        labels = [index.get(row.label, -1) for row in rows]
        known = f"the classes {', '.join(names)}"
    for row, label in zip(rows, labels, strict=True):
        if not 0 <= label < len(names):
            raise ValueError(f"{row.origin}: label {row.label!r} is outside {known}")
    return names, labels, first


def _check_gaps(rows: Sequence[LabelRow], grades: Sequence[int]) -> None:
    """Every grade in between occurs: one that is mistyped would make many classes."""
    known = sorted(set(grades))
    for low, high in itertools.pairwise(known):
        if high - low > 1:
            near, far = (rows[grades.index(grade)] for grade in (low, high))
            raise ValueError(
                f"{far.origin}: grade {high}, and {low} in {near.origin}; expected "
                f"every grade from {known[0]} to {known[-1]}, found none of {low + 1}. "
                "Correct the one that is mistyped; if grades have no pictures, name "
                "all from 0 in a JSON file, data.classes"
            )


def _pictures(
    rows: Sequence[LabelRow], labels: Sequence[int], kept: Sequence[int]
) -> Pictures:
    mine = [rows[n] for n in kept]

    def picture(index: int, rng: np.random.Generator) -> Picture:
        del rng  # nothing is drawn
        row = mine[index]
        group = row.patient or row.origin
        return Picture(
            image=read_image(ImageFile(row.image), row.origin),
            origin=row.origin,
            group=group,
            columns=row.columns,
        )

    return Pictures(
        count=len(mine),
        picture=picture,
        labels=np.array([labels[n] for n in kept], np.int32)[:, None],
        sizes=tuple(sorted({row.size for row in mine})),
    )
