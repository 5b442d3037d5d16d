"""Frames: what part of a slice a picture shows, and boxes brought into it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image


class Frame(NamedTuple):
    """Where a picture's pixels come from: source = corner + step * frame, both axes.

    Coordinates are those of pixel edges, so pixel i covers [i, i + 1).
    """

    left: float
    top: float
    step: float  # source pixels per frame pixel
    height: int
    width: int


def centred_frame(
    centre: tuple[float, float],
    *,
    field: float,
    size: tuple[int, int],
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
) -> Frame:
    """A frame whose shorter side shows `field` source pixels around `centre` (x, y).

    Args:
        centre: The point of the source shown in the middle, counted from the edge of
            its first pixel.
        field: How many source pixels the shorter side covers at scale 1, above 0.
        size: (height, width) of the frame in its own pixels.
        shift: How far the content moves right and down, in sides of the frame.
        scale: How much larger the content appears, above 0: at 2 the frame covers half
            as much.
    """
    height, width = size
    step = field / min(size) / scale
    left = centre[0] - (0.5 + shift[0]) * width * step
    top = centre[1] - (0.5 + shift[1]) * height * step
    return Frame(left, top, step, height, width)


def moved_frame(
    centre: tuple[float, float],
    *,
    field: float,
    size: tuple[int, int],
    shift: float,
    scale: tuple[float, float] | None,
    rng: np.random.Generator,
) -> Frame:
    """A centred frame whose content is moved and scaled at random.

    Args:
        centre: The point (x, y) of the source that is shown in the middle before it is
            moved.
        field: How many source pixels the shorter side covers before it is scaled.
        size: (height, width) of the frame in its own pixels.
        shift: The content moves by at most so much of a side, 0 or more, right or left,
            up or down, every place being equally likely.
        scale: The factor lies between these two, its logarithm being uniform. With None
            the content keeps its size, and no number is drawn for it.
        rng: Gives the shift's two numbers, then the scale's.
    """
    x, y = rng.uniform(-shift, shift, 2).tolist()
    factor = 1.0 if scale is None else float(np.exp(rng.uniform(*np.log(scale))))
    return centred_frame(centre, field=field, size=size, shift=(x, y), scale=factor)


def frame_image(
    image: UInt8[np.ndarray, "a b"], frame: Frame
) -> UInt8[np.ndarray, "h w"]:
    """The frame's picture: bicubic with antialiasing, black outside the source.

    Args:
        image: Grey values, 0 to 255.
        frame: The part of it that is shown.
    """
    right = frame.left + frame.step * frame.width
    bottom = frame.top + frame.step * frame.height
    # PIL takes boxes inside its image only, so cut out the frame with a black border.
    margin = 2 + int(2 * frame.step)  # reach of the bicubic kernel
    x0, y0 = int(np.floor(frame.left)) - margin, int(np.floor(frame.top)) - margin
    x1, y1 = int(np.ceil(right)) + margin, int(np.ceil(bottom)) + margin
    canvas = np.zeros((y1 - y0, x1 - x0), np.uint8)
    rows = slice(max(y0, 0), max(min(y1, image.shape[0]), 0))
    columns = slice(max(x0, 0), max(min(x1, image.shape[1]), 0))
    inside = image[rows, columns]
    row, column = rows.start - y0, columns.start - x0
    canvas[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    box = (frame.left - x0, frame.top - y0, right - x0, bottom - y0)
    resized = Image.fromarray(canvas).resize(
        (frame.width, frame.height), Image.Resampling.BICUBIC, box=box
    )
    return np.asarray(resized)


def frame_box(
    box: tuple[int, int, int, int], mask: Bool[np.ndarray, "a b"], frame: Frame
) -> tuple[int, int, int, int] | None:
    """Tight box, in the frame, of a mask known inside `box` of the source.

    A frame pixel belongs to the label that its centre falls on, so the box is exact in
    whole frame pixels. It is None if the source box is not wholly inside the frame, or
    no frame pixel's centre falls on the mask.

    Args:
        box: The edges (x1, y1, x2, y2) of the mask in source pixels.
        mask: The y2 - y1 rows and x2 - x1 columns inside that box.
        frame: The part of the source that is shown.
    """
    x1, y1, x2, y2 = box
    right = frame.left + frame.step * frame.width
    bottom = frame.top + frame.step * frame.height
    if x1 < frame.left or y1 < frame.top or x2 > right or y2 > bottom:
        return None
    columns, first_column = _centres(frame.left, frame.step, frame.width, x1, x2)
    rows, first_row = _centres(frame.top, frame.step, frame.height, y1, y2)
    shown = mask[rows[:, None], columns]
    across, down = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    if not len(across):
        return None
    return (
        first_column + int(across[0]),
        first_row + int(down[0]),
        first_column + int(across[-1]) + 1,
        first_row + int(down[-1]) + 1,
    )


def _centres(
    start: float, step: float, count: int, low: int, high: int
) -> tuple[Int[np.ndarray, "n"], int]:
    """Frame pixels whose centres are in [low, high) of the source.

    Returns what lies under them, in source pixels from `low`, and the first of them.
    """
    source = np.floor(start + (np.arange(count) + 0.5) * step).astype(np.int64)
    first, last = np.searchsorted(source, [low, high])
    return source[first:last] - low, int(first)


def mirror_boxes(
    boxes: Float[np.ndarray, "M 4"], width: int
) -> Float[np.ndarray, "M 4"]:
    """Boxes of the picture flipped left to right.

    Args:
        boxes: Edges (x1, y1, x2, y2) in pixels of the picture.
        width: The picture's width in pixels.
    """
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - x2, y1, width - x1, y2], axis=-1)
