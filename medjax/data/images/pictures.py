"""PNG, JPEG and the like, through PIL."""

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from medjax.data.images.files import ImageFile, unreadable

_ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange the sides
_WAY_OUT = "expected a whole PNG or JPEG. Mend the file or take out its lines"


def picture_size(file: ImageFile, origin: str) -> tuple[int, int]:
    """(height, width) as shown, without decoding the pixels.

    Args:
        file: A PNG or JPEG file.
        origin: What an error calls the line that names the image.
    """
    try:
        with Image.open(file.path) as image:
            width, height = image.size
            turned = _orientation(image) in _ROTATED
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise unreadable(file, origin, error, _WAY_OUT) from error
    return (width, height) if turned else (height, width)


def read_picture(file: ImageFile, origin: str) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as RGB; 16-bit greys are stretched from their minimum to maximum.

    Args:
        file: A PNG or JPEG file.
        origin: What an error calls the line that names the image.
    """
    try:
        with Image.open(file.path) as opened:
            image = ImageOps.exif_transpose(opened) if _orientation(opened) else opened
            if image.mode.startswith(("I", "F")):
                image = Image.fromarray(_stretch(np.asarray(image, np.float64)))
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise unreadable(file, origin, error, _WAY_OUT) from error


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation, where it stands before the pixels; nothing is decoded."""
    known = "exif" in image.info
    return image.getexif().get(ExifTags.Base.Orientation) if known else None


def _stretch(grey: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    low, high = grey.min(), grey.max()
    return np.round((grey - low) * (255 / max(high - low, 1))).astype(np.uint8)
