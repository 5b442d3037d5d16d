"""Views: pictures as they are shown, with what may be asked about them.

Every source of grounding data (the atlas, a user's files, generated shapes) is a
`Views`: a count and a pure function of (index, generator). Whether a view differs from
draw to draw, as in the `moved` split, is the source's business.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image


class View(NamedTuple):
    """Images shown together, and M structures that can be asked for in the last one."""

    images: tuple[UInt8[np.ndarray, "h w 3"], ...]
    names: tuple[str, ...]
    boxes: Float[np.ndarray, "M 4"]  # pixels of the last image, edges (x1, y1, x2, y2)
    questions: tuple[tuple[str, ...], ...]  # phrasings, M times
    origin: str  # what an error or a report calls it: "axial 93", "scan.png, line 3"
    plane: str
    position: int  # index of the slice across its plane; 0 for a single picture
    columns: tuple[Mapping[str, Any], ...] = ()  # more about each, for Python rewards


class Views(NamedTuple):
    """A source of views, and what a run must know about all of them beforehand."""

    count: int
    view: Callable[[int, np.random.Generator], View]  # index < count
    names: tuple[str, ...]  # every structure that can occur
    texts: tuple[str, ...]  # every question
    sizes: tuple[tuple[int, int], ...]  # every (height, width) of an image
    slots: int = 1  # most images a view has
    # The view with black images of the same sizes, which need not be read. Only where
    # a view is the same at every draw.
    outline: Callable[[int], View] | None = None


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
        centre: source pixels.
        field: source pixels at scale 1.
        size: (height, width) of the frame.
        shift: how far the content moves right and down, in sides of the frame.
        scale: how much larger the content appears.
    """
    height, width = size
    step = field / min(size) / scale
    left = centre[0] - (0.5 + shift[0]) * width * step
    top = centre[1] - (0.5 + shift[1]) * height * step
    return Frame(left, top, step, height, width)


def frame_image(
    image: UInt8[np.ndarray, "a b"], frame: Frame
) -> UInt8[np.ndarray, "h w"]:
    """The frame's picture: bicubic with antialiasing, black outside the source."""
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
    whole frame pixels. None if the source box is not wholly inside the frame.
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
    """Boxes of the picture flipped left to right."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - x2, y1, width - x1, y2], axis=-1)


def loosen_box(
    box: Float[np.ndarray, "4"],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    factors: tuple[float, float],
) -> Float[np.ndarray, "4"]:
    """A box `factors` times as wide and high that still holds `box`, cut at the image.

    Both factors are drawn apart, and the centre is moved evenly within what room they
    leave: what a hurried reader draws.
    """
    corner, extent = box[:2], box[2:] - box[:2]
    larger = extent * rng.uniform(*factors, 2)
    low = corner - (larger - extent) * rng.uniform(0, 1, 2)
    high = low + larger
    limit = np.array(size[::-1], np.float64)
    return np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)])


def add_ramps(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A grey image in red; green tells the column, blue the row, from 0 to 255.

    Rotary embeddings are relative: where in the image a patch lies, a pretrained
    policy has learnt to infer and one that starts from nothing would have to, in
    minutes. So it is told (CoordConv, Liu et al. 2018), by the one free input that the
    architecture has: the colours of a grey image. A coloured one is refused.
    """
    if (image != image[..., :1]).any():
        raise ValueError("ramps take the place of colours: set data.ramps=False here")
    height, width = image.shape[:2]
    ramps = np.empty_like(image)
    ramps[..., 0] = image[..., 0]
    ramps[..., 1] = np.round((np.arange(width) + 0.5) / width * 255)[None]
    ramps[..., 2] = np.round((np.arange(height) + 0.5) / height * 255)[:, None]
    return ramps
