"""TN3K: ultrasound images of thyroid nodules with masks.

    trainval-image/0000.jpg     trainval-mask/0000.jpg     2,879 pairs
    test-image/0000.jpg         test-mask/0000.jpg         614 pairs, of the same names
    tn3k-trainval-fold0.json    {"train": [1, 2, ...], "val": [0, ...]}
    label4trainval.csv          0000.jpg,1: malignant, or 0: benign; no header
    label4test.csv

A fold's numbers are those of the names. Masks are JPEG. The lists of labels come with
the TRFE archive and may be missing.

Source: github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation (dataloaders),
huggingface.co/datasets/haifan-gong/TN3K; the labels, github.com/chenghui-666/ACL.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from medjax.data.json_files import read_json
from medjax.data.lists.files import csv_rows
from medjax.data.lists.published.places import by_stem, the_one
from medjax.data.lists.reading import Bad

KINDS = ("benign", "malignant")  # by the number that the lists give
SOUGHT = "trainval-image/, trainval-mask/, test-image/ and test-mask/"
_HALVES = ("trainval", "test")


class Scan(NamedTuple):
    """One image."""

    origin: str
    image: Path
    mask: Path | None
    split: str  # "train", "val" or "test"
    kind: str | None  # of KINDS, where the set lists it


def is_tn3k(path: Path) -> bool:
    """Whether the folder holds the images of TN3K.

    Args:
        path: A file or a folder.
    """
    return (path / "trainval-image").is_dir() or (path / "test-image").is_dir()


def read_tn3k(path: Path, *, fold: int, labels: bool) -> Iterator[Scan | Bad]:
    """The images of both folders, by name.

    Args:
        path: The folder of TN3K.
        fold: Whose list parts training and validation, from 0. Without any fold's list
            all of `trainval-image/` is for training.
        labels: Whether each image must be listed as benign or malignant, and need not
            have a mask.

    Raises:
        ValueError: A folder or list is missing, or a list contradicts itself.
    """
    kinds = "image" if labels else "mask"
    missing = [
        f"{half}-{kind}/"
        for half in _HALVES
        for kind in dict.fromkeys(("image", kinds))
        if not (path / f"{half}-{kind}").is_dir()
    ]
    if missing:
        raise ValueError(f"{path.name}: no {', '.join(missing)}; expected {SOUGHT}")
    for half in _HALVES:
        images = by_stem([path / f"{half}-image"])
        masks = by_stem([] if labels else [path / f"{half}-mask"])
        parts = _read_fold(path, fold) if half == "trainval" else {}
        known = _read_kinds(path / f"label4{half}.csv") if labels else {}
        for stem in images:
            origin = f"{half}-image/{images[stem][0].name}"
            try:
                if parts and stem not in parts:
                    raise ValueError(
                        f"{origin}: is neither in train nor in val of fold {fold}"
                    )
                if labels and stem not in known:
                    raise ValueError(f"{origin}: is not in label4{half}.csv")
                if not labels and stem not in masks:
                    raise ValueError(f"{origin}: no mask {stem} in {half}-mask/")
                yield Scan(
                    origin=origin,
                    image=the_one(images, stem, origin),
                    mask=None if labels else the_one(masks, stem, origin),
                    split=parts.get(stem, "train") if half == "trainval" else "test",
                    kind=known.get(stem),
                )
            except ValueError as error:
                yield Bad(origin, str(error))
        listed = {
            f"fold {fold}": parts,
            f"label4{half}.csv": known,
            f"{half}-mask/": masks,
        }
        for name, stems in listed.items():
            for stem in stems:
                if stem not in images:
                    origin = f"{name}, {stem}"
                    yield Bad(origin, f"{origin}: no such image in {half}-image/")


def _read_fold(path: Path, fold: int) -> dict[str, str]:
    """The part of each image of `trainval-image/` by its name without the ending."""
    if not any(path.glob("tn3k-trainval-fold*.json")):
        return {}
    file = path / f"tn3k-trainval-fold{fold}.json"
    expected = '{"train": [1, 2, ...], "val": [0, ...]}'
    if not file.is_file():
        raise ValueError(f"{path.name}: no {file.name}, but other folds; see data.fold")
    content = read_json(file, expected=expected)
    parts: dict[str, str] = {}
    for part in ("train", "val"):
        names = content.get(part) if isinstance(content, dict) else None
        if not isinstance(names, list):
            raise ValueError(f"{file.name}: no list {part!r}; expected {expected}")
        for name in names:
            if type(name) is int and name >= 0:
                stem = f"{name:04d}"
            elif isinstance(name, str) and name:
                stem = Path(name).stem
            else:
                raise ValueError(
                    f"{file.name}: {name!r} in {part}; expected {expected}"
                )
            if stem in parts:
                raise ValueError(
                    f"{file.name}: {stem} is in {parts[stem]} and again in {part}; "
                    "expected each once"
                )
            parts[stem] = part
    return parts


def _read_kinds(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ValueError(
            f"{path.parent.name}: no {path.name}; expected lines such as 0000.jpg,1"
        )
    kinds: dict[str, str] = {}
    for origin, row in csv_rows(path):
        if len(row) != 2 or row[1].strip() not in ("0", "1"):
            raise ValueError(
                f"{origin}: {','.join(row)!r}; expected a name and 0 (benign) or 1 "
                "(malignant)"
            )
        stem = Path(row[0].strip()).stem
        if stem in kinds:
            raise ValueError(f"{origin}: {stem} is there twice")
        kinds[stem] = KINDS[int(row[1])]
    return kinds
