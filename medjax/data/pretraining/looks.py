"""How pictures of pretraining are changed: greys, windows, turns."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from medjax.data.volumes.ct import window_image
from medjax.data.volumes.frames import Frame


class Changes(NamedTuple):
    """How far training pictures are changed at random; 0 leaves that out."""

    shift: float  # at most so much of a side, both ways
    scale: tuple[float, float]  # how much larger the content appears
    turn: float  # degrees, at most so many either way
    invert: float  # share of the pictures with inverted greys, 0 to 1
    gamma: float  # greys to the power of exp(u), u up to this either way
    contrast: float  # greys are drawn together by up to this share, 0 to below 1
    noise: float  # deviation in grey levels of 0 to 255, up to this


def changed_greys(
    image: UInt8[np.ndarray, "h w"],
    changes: Changes,
    rng: np.random.Generator,
    *,
    invertible: bool,
) -> UInt8[np.ndarray, "h w"]:
    """The picture with another contrast, perhaps inverted, and with noise.

    Args:
        image: Grey values, 0 to 255.
        changes: How far they are changed.
        rng: Gives five numbers, then one for each pixel.
        invertible: Whether its greys may be inverted at all.
    """
    power, share, place, flip, deviation = rng.uniform(size=5).tolist()
    grey = (image / 255.0) ** np.exp((2 * power - 1) * changes.gamma)
    width = 1 - changes.contrast * share
    grey = grey * width + (1 - width) * place
    if invertible and flip < changes.invert:
        grey = 1 - grey
    noisy = 255 * grey + rng.normal(size=image.shape) * changes.noise * deviation
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def random_window(
    hounsfield: Float[np.ndarray, "h w"],
    rng: np.random.Generator,
    *,
    lowest_level: float,
) -> UInt8[np.ndarray, "h w"]:
    """A slice of a CT in a random window of soft tissue or of bone.

    Args:
        hounsfield: Values in Hounsfield units.
        rng: Gives three numbers.
        lowest_level: Levels of -50 to 150 (width 350 to 900) and of 200 to 500 (width
            1000 to 2000) are drawn, a quarter of the second kind; all must reach this.

    Raises:
        ValueError: `lowest_level` is above the lowest level that is drawn.
    """
    if lowest_level > -50.0:
        raise ValueError(
            f"lowest_level={lowest_level}: expected -50 or less, the lowest level that "
            "is drawn"
        )
    kind, place, extent = rng.uniform(size=3).tolist()
    if kind < 0.25:
        level, width = 200 + 300 * place, 1000 + 1000 * extent
    else:
        level, width = -50 + 200 * place, 350 + 550 * extent
    return window_image(hounsfield, level=level, width=width)


def turned_image(
    image: UInt8[np.ndarray, "a b"], centre: tuple[float, float], degrees: float
) -> UInt8[np.ndarray, "a b"]:
    """The image turned counterclockwise about a point, black where nothing comes from.

    Args:
        image: Grey values.
        centre: The point (x, y), counted from the edge of the first pixel.
        degrees: By how much; 0 gives the image as it is.
    """
    if degrees == 0:
        return image
    return np.asarray(
        Image.fromarray(image).rotate(
            degrees, resample=Image.Resampling.BILINEAR, center=centre
        )
    )


def turned_box(
    corner: tuple[int, int],
    mask: Bool[np.ndarray, "a b"],
    centre: tuple[float, float],
    degrees: float,
    frame: Frame,
) -> tuple[int, int, int, int] | None:
    """The box in a frame of a mask whose image `turned_image` turned.

    The edges are those of the turned pixels, rounded to whole pixels of the frame. It
    is None if it is not wholly inside the frame, or has no width or height there.

    Args:
        corner: Where (x, y) the first pixel of the mask begins in the image.
        mask: At least one pixel is True.
        centre: The point that the image was turned about.
        degrees: By how much it was turned.
        frame: The part of the turned image that is shown.
    """
    rows, columns = np.nonzero(mask)
    x = columns + (corner[0] + 0.5 - centre[0])
    y = rows + (corner[1] + 0.5 - centre[1])
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    half = 0.5 * (abs(cos) + abs(sin))  # of a turned pixel's extent
    edges = []
    for turned, middle, first in (
        (cos * x + sin * y, centre[0], frame.left),
        (cos * y - sin * x, centre[1], frame.top),
    ):
        low = (float(turned.min()) - half + middle - first) / frame.step
        high = (float(turned.max()) + half + middle - first) / frame.step
        edges.append((low, high))
    (left, right), (top, bottom) = edges
    if left < 0 or top < 0 or right > frame.width or bottom > frame.height:
        return None
    x1, y1, x2, y2 = round(left), round(top), round(right), round(bottom)
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
