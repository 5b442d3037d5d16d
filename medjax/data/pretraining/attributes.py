"""Attributes of a structure as a supervised answer's reasoning tells them.

    axial T1-weighted MR; left thalamus: upper middle, small, bright

They are measured from the shown picture and the box: where the box's centre lies (in
thirds of the picture, left and right as one looks at it), how much of the picture it
takes, and how bright its greys are.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

ROWS, COLUMNS = ("upper", "central", "lower"), ("left", "middle", "right")
SIZES = ("small", "medium", "large")
TONES = ("dark", "grey", "bright")
_AREAS = (0.01, 0.05)  # of the picture, from which a box is medium, large
_GREYS = (85.0, 170.0)  # from which a mean is grey, bright


def measured_reason(
    image: UInt8[np.ndarray, "h w"],
    box: Sequence[float] | Float[np.ndarray, "4"],
    name: str,
    *,
    plane: str,
    modality: str,
) -> str:
    """What the reasoning says of a structure in a picture.

    Args:
        image: Grey values as they are shown, 0 to 255.
        box: Edges (x1, y1, x2, y2) in whole pixels of the image, inside it and not
            empty.
        name: What the structure is called.
        plane: The plane of the slice, or what else says how the picture was taken.
        modality: What the picture is called.

    Raises:
        ValueError: The box holds no pixel of the image.
    """
    height, width = image.shape
    x1, y1, x2, y2 = (round(float(x)) for x in box)
    inside = image[max(y1, 0) : y2, max(x1, 0) : x2]
    if not inside.size:
        raise ValueError(
            f"{name}: expected a box with pixels inside {width} x {height}, found "
            f"{(x1, y1, x2, y2)}"
        )
    row = min(max(3 * (y1 + y2) // (2 * height), 0), 2)
    column = min(max(3 * (x1 + x2) // (2 * width), 0), 2)
    share = (x2 - x1) * (y2 - y1) / (height * width)
    size = int(np.searchsorted(_AREAS, share, side="right"))
    tone = int(np.searchsorted(_GREYS, float(inside.mean()), side="right"))
    return _text(plane, modality, name, (row, column, size, tone))


def all_reasons(
    names: Sequence[str], *, planes: Sequence[str], modality: str
) -> tuple[str, ...]:
    """Every text that `measured_reason` can give: 81 for each name and plane.

    Args:
        names: All structures of a source.
        planes: All planes of its pictures.
        modality: What its pictures are called.
    """
    return tuple(
        _text(plane, modality, name, (row, column, size, tone))
        for name in names
        for plane in planes
        for row, column, size, tone in itertools.product(range(3), repeat=4)
    )


def _text(
    plane: str, modality: str, name: str, which: tuple[int, int, int, int]
) -> str:
    row, column, size, tone = which
    return (
        f"{plane} {modality}; {name}: {ROWS[row]} {COLUMNS[column]}, {SIZES[size]}, "
        f"{TONES[tone]}"
    )
