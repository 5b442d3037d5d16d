"""The arrays of a MedMNIST file, each checked to be what the file's layout promises."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

PARTS = ("train", "val", "test")


def read_parts(
    path: Path, parts: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pictures and labels of some of a file's parts, all of `PARTS` being there.

    Args:
        path: The .npz file.
        parts: Some of `PARTS`.

    Returns:
        (images, labels) of each part, as they are stored.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no archive of arrays, or lacks a part.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a MedMNIST .npz")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a MedMNIST .npz (no archive)")
    wanted = [f"{part}_{kind}" for part in PARTS for kind in ("images", "labels")]
    members: tuple[str, ...] = ()
    read: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            members = tuple(arrays.files)
            if set(wanted) <= set(members):
                read = {
                    part: (arrays[f"{part}_images"], arrays[f"{part}_labels"])
                    for part in parts
                }
    except (ValueError, zipfile.BadZipFile, EOFError, OSError, AttributeError) as error:
        raise ValueError(f"{path}: not a MedMNIST .npz ({error})") from error
    if not read:
        missing = [name for name in wanted if name not in members]
        raise ValueError(
            f"{path}: no {', '.join(missing)} among {', '.join(members)}; expected the "
            "official splits train, val and test, which the published file holds"
        )
    return read


def member_sums(path: Path) -> dict[str, int]:
    """Checksums (CRC-32) of the arrays by their names, as the archive holds them.

    Args:
        path: The .npz file, which is not read through.
    """
    with zipfile.ZipFile(path) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}


def check_images(
    path: Path, part: str, images: np.ndarray, volumes: bool | None
) -> None:
    """Raise ValueError unless these are pictures or volumes of bytes, one or more.

    Args:
        path: What an error calls the file.
        part: One of `PARTS`, for an error.
        images: Pictures [n, h, w] or [n, h, w, 3], or volumes [n, d, h, w].
        volumes: Whether volumes are expected; None takes either.
    """
    plane = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    solid = images.ndim == 4 and images.shape[-1] != 3
    fits = {True: solid, False: plane, None: plane or solid}[volumes]
    if images.dtype == np.uint8 and fits and images.size:
        return
    pictures, blocks = "[n, h, w] or [n, h, w, 3]", "[n, d, h, w]"
    expected = {True: blocks, False: pictures, None: f"{pictures}, or {blocks}"}
    raise ValueError(
        f"{path}, {part}_images: {images.dtype} of shape {images.shape}; expected "
        f"uint8 {expected[volumes]}"
    )


def single_labels(
    path: Path, part: str, labels: np.ndarray, count: int
) -> Int[np.ndarray, "n 1"]:
    """The class of each picture.

    Args:
        path: What an error calls the file.
        part: One of `PARTS`, for an error.
        labels: Whole numbers from 0 to `count` - 1, [n] or [n, 1].
        count: How many classes there are.

    Raises:
        ValueError: Several labels a picture, or one that is no such number.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"{path}, {part}_labels: {labels.shape[1]} labels a picture (multi-label); "
            "expected one class a picture. If they are marks of several classes, name "
            "the classes in a JSON file, data.classes, and set data.answers=set"
        )
    flat = _whole(path, part, labels.reshape(-1))
    outside = np.flatnonzero((flat < 0) | (flat >= count))
    if len(outside):
        raise ValueError(
            f"{path}, {part}_labels, row {outside[0]}: label {flat[outside[0]]} is "
            f"outside the {count} classes 0 to {count - 1}"
        )
    return flat.astype(np.int32)[:, None]


def label_marks(
    path: Path, part: str, labels: np.ndarray, count: int
) -> Int[np.ndarray, "n C"]:
    """Which classes each picture shows.

    Args:
        path: What an error calls the file.
        part: One of `PARTS`, for an error.
        labels: [n, C], 1 where a picture shows the class and else 0.
        count: C, how many classes there are.

    Raises:
        ValueError: Another shape, or a mark that is neither 0 nor 1.
    """
    if labels.ndim != 2 or labels.shape[1] != count:
        raise ValueError(
            f"{path}, {part}_labels: shape {labels.shape}; expected [n, {count}], a "
            "mark of 0 or 1 for each class"
        )
    _whole(path, part, labels)
    row, column = np.nonzero((labels != 0) & (labels != 1))
    if len(row):
        raise ValueError(
            f"{path}, {part}_labels, row {row[0]}: mark "
            f"{labels[row[0], column[0]]} of class {column[0]}; expected 0 or 1"
        )
    return labels.astype(np.int32)


def _whole(path: Path, part: str, labels: np.ndarray) -> np.ndarray:
    """The labels, which are whole numbers."""
    whole = np.issubdtype(labels.dtype, np.number) and np.isrealobj(labels)
    first = np.zeros((1, labels.ndim), int)
    wrong = np.argwhere(labels != np.round(labels)) if whole else first
    if len(wrong):
        row = int(wrong[0][0])
        value = labels[tuple(wrong[0])] if len(labels) else "nothing"
        raise ValueError(f"{path}, {part}_labels, row {row}: {value} is not an integer")
    return labels
