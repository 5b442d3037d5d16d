"""Numbers of any range as grey values, 0 to 255."""

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from medjax.data.images.files import ImageFile, unreadable

_OUTER = 0.5  # per cent of the pixels on each side that cannot widen the window alone
_MARGIN = 0.5  # how far the window reaches beyond them at most, in its own widths


def robust_window(values: Shaped[np.ndarray, "*N"]) -> tuple[float, float]:
    """The lowest and the highest value to be told apart, which few pixels cannot move.

    They are the minimum and the maximum, but no further from the percentiles 0.5 and
    99.5 than half the distance of those two: a few saturated pixels halve the contrast
    of the others at most. Where the two percentiles are equal, minimum and maximum
    count.

    Args:
        values: Finite numbers, one or more, in any unit.
    """
    low, high = float(values.min()), float(values.max())
    inner = float(np.percentile(values, _OUTER, method="higher"))
    outer = float(np.percentile(values, 100 - _OUTER, method="lower"))
    if outer <= inner:
        return low, high
    margin = _MARGIN * (outer - inner)
    return max(low, inner - margin), min(high, outer + margin)


def distinct(
    values: Shaped[np.ndarray, "*N"],
) -> tuple[Shaped[np.ndarray, "*M"], Int[np.ndarray, "*N"] | None]:
    """Every whole number from the lowest to the highest value, and each pixel's place.

    What is shown of a pixel depends on its value alone, and a large picture of 16 bits
    has fewer values than pixels: `f(values)` is `f(numbers)[place]`.

    Args:
        values: One or more numbers.

    Returns:
        (numbers, place); (values, None) of small pictures, of fractions and of more
        than 16 bits.
    """
    if values.dtype.kind not in "iu" or values.itemsize > 2 or values.size < 2**16:
        return values, None
    low, high = int(values.min()), int(values.max())
    return np.arange(low, high + 1, dtype=np.int32), values.astype(np.intp) - low


def check_finite(
    values: Shaped[np.ndarray, "*N"], file: ImageFile, origin: str
) -> None:
    """Stop where some values are NaN or infinite.

    Args:
        values: Of any kind.
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: Some are; the message has their count.
    """
    broken = int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise unreadable(
            file,
            origin,
            f"{broken} of {values.size} pixels are NaN or infinite",
            "expected finite numbers. Give those pixels a value, or take out its lines",
        )


def show_values(
    values: Shaped[np.ndarray, "*N"],
    file: ImageFile,
    origin: str,
) -> UInt8[np.ndarray, "*N"]:
    """Grey values: 0 at the low end of the window and below, 255 at its high end.

    Args:
        values: Whole or real numbers in any unit.
        file: The image; its `window`, or else the `robust_window` of the values.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: Some values are NaN or infinite.
    """
    check_finite(values, file, origin)
    if file.window is None:
        low, high = robust_window(values)
    else:
        level, width = file.window
        low, high = level - width / 2, level + width / 2
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    numbers, place = distinct(values)
    grey = (np.asarray(numbers, np.float64) - low) * (255 / (high - low))
    shown = np.round(np.clip(grey, 0, 255)).astype(np.uint8)
    return shown if place is None else shown[place]
