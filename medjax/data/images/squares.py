"""Images whose rows and columns lie at other distances."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from medjax.data.images.files import ImageFile, unreadable

_EQUAL = 0.01  # distances that differ by less count as one
_CHOICES = ("", "stored", "square")


def square_size(
    size: tuple[int, int],
    spacing: tuple[float, float],
    file: ImageFile,
    origin: str,
) -> tuple[int, int]:
    """(height, width) as shown: that of the pixels, or of square ones.

    Args:
        size: (height, width) as stored.
        spacing: The distance from row to row and from column to column, in one unit.
        file: The image; `pixels` says what becomes of distances that differ by 1 % or
            more.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: They differ and `pixels` does not say what to do.
    """
    if file.pixels not in _CHOICES:
        raise ValueError(
            f"{origin}: pixels={file.pixels!r}; expected one of {_CHOICES}"
        )
    rows, columns = spacing
    if max(spacing) < (1 + _EQUAL) * min(spacing) or file.pixels == "stored":
        return size
    if not file.pixels:
        raise unreadable(
            file,
            origin,
            f"rows lie {rows:.4g} apart and columns {columns:.4g}, so that it would "
            "look pressed",
            "resample it, or say pixels=stored (shown as stored) or pixels=square "
            "(widened, and boxes count in what is shown)",
        )
    finest = min(spacing)
    height, width = round(size[0] * rows / finest), round(size[1] * columns / finest)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > limit:
        raise unreadable(
            file, origin, f"{height} x {width} square pixels", f"the limit is {limit}"
        )
    return height, width


def stretch(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """The image at (height, width), bilinear; the same one where it has that size.

    Args:
        image: RGB.
        size: (height, width), neither below the image's.
    """
    if image.shape[:2] == size:
        return image
    wide = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(wide)
