"""The size of an image, and its pixels as a policy is shown them."""

import numpy as np
from jaxtyping import UInt8

from medjax.data.images import pictures
from medjax.data.images.files import ImageFile, check_file, check_sides, unreadable


def image_size(file: ImageFile, origin: str) -> tuple[int, int]:
    """(height, width) of an image as shown, after turning; no pixels are decoded.

    Args:
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be shown; the message names it and the line.
    """
    _check_kind(file, origin)
    return check_sides(pictures.picture_size(file, origin), file, origin)


def read_image(file: ImageFile, origin: str) -> UInt8[np.ndarray, "h w 3"]:
    """An image as RGB, as a policy is shown it before it is resized.

    Args:
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be shown; the message names it and the line.
    """
    _check_kind(file, origin)
    image = pictures.read_picture(file, origin)
    check_sides(image.shape[:2], file, origin)
    return image


def _check_kind(file: ImageFile, origin: str) -> None:
    """Stop at what is no image, and at kinds of image that are not read."""
    check_file(file, origin)
    with file.path.open("rb") as stream:
        start = stream.read(12)
    if start[4:8] == b"ftyp":  # HEIC, HEIF, AVIF and films
        kind = start[8:12].decode("latin-1")
        raise unreadable(
            file,
            origin,
            f"a {kind!r} container, such as HEIC, AVIF or a film",
            "expected a picture in another format; convert it, for example by "
            "magick in.heic out.png",
        )
