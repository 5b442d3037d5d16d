"""Which image is meant, and how errors name it."""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

# What readers raise of a file that is damaged.
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
_RATIO = 200  # of the sides, as `rl.boxes.smart_resize`


class ImageFile(NamedTuple):
    """One image of a file."""

    path: Path
    # Of a DICOM or TIFF file with several, or the slice of a volume; counted from 0.
    # None where the file holds one image.
    frame: int | None = None
    plane: str = ""  # of a volume alone: "axial", "coronal" or "sagittal"
    # Level and width in the image's own units (HU of a CT), in place of the window that
    # the file names or that its values give, those of its whole volume for a slice.
    window: tuple[float, float] | None = None
    # Where rows and columns of a DICOM or NIfTI file lie at other distances: "" refuses
    # it, "stored" shows its pixels as they are, "square" widens the coarser axis, and
    # boxes then count in the pixels that are shown.
    pixels: str = ""


def name_image(file: ImageFile) -> str:
    """What an error calls the image: its file's name without the folders, its frame."""
    parts = [file.plane] if file.plane else []
    if file.frame is not None:
        parts.append(f"{'slice' if file.plane else 'frame'} {file.frame}")
    return file.path.name + (f" ({' '.join(parts)})" if parts else "")


def check_file(file: ImageFile, origin: str) -> None:
    """Stop where no file with bytes in it has that name.

    Args:
        file: The image; links are followed.
        origin: What an error calls the line that names the image.

    Raises:
        FileNotFoundError: Nothing has that name, or a link leads nowhere.
        ValueError: It is a folder, a device, or a file of 0 bytes.
    """
    path, name = file.path, name_image(file)
    if not path.exists():
        what = "a link to nothing" if path.is_symlink() else "no such file"
        raise FileNotFoundError(
            f"{origin}: no image {name} ({what}); expected a path from the file's own "
            "folder"
        )
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no ordinary file"
        raise ValueError(f"{origin}: {name} is {what}; expected an image file")
    if path.stat().st_size == 0:
        raise ValueError(
            f"{origin}: {name} has 0 bytes; copy it again or take out its lines"
        )


def check_sides(size: tuple[int, ...], file: ImageFile, origin: str) -> tuple[int, int]:
    """The size, where a policy can be shown an image of it.

    Args:
        size: (height, width) in pixels, as shown.
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: One side is over 200 times the other, which `smart_resize` refuses.
    """
    height, width = size
    if max(size) > _RATIO * min(size):
        raise ValueError(
            f"{origin}: {name_image(file)} has {height} x {width} (height x width) "
            f"pixels; expected sides of at most {_RATIO} times each other. Crop it or "
            "take out its lines"
        )
    return height, width


def check_frame(file: ImageFile, frames: int, origin: str) -> None:
    """Stop where a frame is named that the file does not have, or a plane.

    Args:
        file: The image, of a file that is no volume.
        frames: How many the file has.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: One is.
    """
    if file.frame is not None and not 0 <= file.frame < frames:
        raise unreadable(
            file, origin, f"it has {frames} frames", "expected one of them, from 0"
        )
    if file.plane:
        raise unreadable(
            file, origin, "it is no volume", "expected a plane of NIfTI files alone"
        )


def unreadable(file: ImageFile, origin: str, fault: object, way_out: str) -> ValueError:
    """The error that an image cannot be read.

    Args:
        file: The image.
        origin: What the error calls the line that names the image.
        fault: What is wrong.
        way_out: What was expected and what to do about it.
    """
    return ValueError(f"{origin}: cannot read {name_image(file)} ({fault}); {way_out}")
