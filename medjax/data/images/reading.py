"""The size of an image, and its pixels as a policy is shown them."""

import numpy as np
from jaxtyping import UInt8

from medjax.data.images import pictures
from medjax.data.images.files import ImageFile, check_file


def image_size(file: ImageFile, origin: str) -> tuple[int, int]:
    """(height, width) of an image as shown, after turning; no pixels are decoded.

    Args:
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be shown; the message names it and the line.
    """
    check_file(file, origin)
    return pictures.picture_size(file, origin)


def read_image(file: ImageFile, origin: str) -> UInt8[np.ndarray, "h w 3"]:
    """An image as RGB, as a policy is shown it before it is resized.

    Args:
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be shown; the message names it and the line.
    """
    check_file(file, origin)
    return pictures.read_picture(file, origin)
