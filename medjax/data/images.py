"""A user's own images: listed in a file, measured, read, and parted by patient."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

_ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange the sides
_ORIENTATION = 0x0112


def find_list(path: str | os.PathLike[str], suffix: str) -> Path:
    """The file that lists the images: `path` itself, or the only one in that folder.

    Args:
        path: A file, which may have any name, or a folder.
        suffix: The ending that exactly one file of a folder must have, such as ".csv".

    Raises:
        FileNotFoundError: There is neither a file nor a folder.
        ValueError: The folder holds no such file, or several.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob(f"*{suffix}"))
        if len(files) != 1:
            raise ValueError(
                f"{path}: expected one {suffix} file in the folder, found {len(files)};"
                " name the file itself"
            )
        path = files[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected a {suffix} file or a folder with one"
        )
    return path


def image_size(path: Path, origin: str) -> tuple[int, int]:
    """(height, width) as shown, without decoding the pixels.

    Args:
        path: A PNG or JPEG file.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: The file is no image; the message names it and the line.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{origin}: no image {path}; expected a path from the file's own folder"
        )
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = _orientation(image) in _ROTATED
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise _unreadable(path, origin, error) from error
    return (width, height) if turned else (height, width)


def read_image(path: Path, origin: str) -> UInt8[np.ndarray, "h w 3"]:
    """An image as RGB; 16-bit greys are stretched from their own minimum to maximum.

    Args:
        path: A PNG or JPEG file.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: The file is no whole image; the message names it and the line.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened) if _orientation(opened) else opened
            if image.mode.startswith(("I", "F")):
                image = Image.fromarray(_stretch(np.asarray(image, np.float64)))
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise _unreadable(path, origin, error) from error


def groups_to_test(keys: Sequence[str], *, test_share: float, seed: int) -> set[str]:
    """The patients (or images) to test on: the first by a hash of seed and name.

    The order of the keys and how often each occurs do not matter.

    Args:
        keys: The patient, or else the image, of each line.
        test_share: The share of the different keys that is tested, 0 to 1, rounded up.
        seed: Goes into the hash, so that another seed chooses others.

    Raises:
        ValueError: One of the two parts would be empty.
    """

    def rank(key: str) -> str:
        return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()

    groups = sorted(set(keys), key=rank)
    test = set(groups[: math.ceil(test_share * len(groups))])
    if not 0 < len(test) < len(groups):
        raise ValueError(
            f"{len(groups)} patients or images and test_share={test_share} leave "
            "nothing to train or to test on; expected at least one of each"
        )
    return test


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation, where it stands before the pixels; nothing is decoded."""
    return image.getexif().get(_ORIENTATION) if "exif" in image.info else None


def _stretch(grey: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    low, high = grey.min(), grey.max()
    return np.round((grey - low) * (255 / max(high - low, 1))).astype(np.uint8)


def _unreadable(path: Path, origin: str, error: Exception) -> ValueError:
    return ValueError(
        f"{origin}: cannot read {path} ({error}); expected a whole PNG or JPEG. Mend "
        "the file or take out its lines"
    )
