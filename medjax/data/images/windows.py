"""Numbers of any range as grey values, 0 to 255."""

import numpy as np
from jaxtyping import Shaped, UInt8

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


def show_values(
    values: Shaped[np.ndarray, "h w"],
    file: ImageFile,
    origin: str,
) -> UInt8[np.ndarray, "h w"]:
    """Grey values: 0 at the low end of the window and below, 255 at its high end.

    Args:
        values: Whole or real numbers in any unit.
        file: The image; its `window`, or else the `robust_window` of the values.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: Some values are NaN or infinite.
    """
    grey = np.asarray(values, np.float64)
    broken = int(np.count_nonzero(~np.isfinite(grey)))
    if broken:
        raise unreadable(
            file,
            origin,
            f"{broken} of {grey.size} pixels are NaN or infinite",
            "expected finite numbers. Give those pixels a value, or take out its lines",
        )
    if file.window is None:
        low, high = robust_window(grey)
    else:
        level, width = file.window
        low, high = level - width / 2, level + width / 2
    if high <= low:
        return np.zeros(grey.shape, np.uint8)
    grey = np.clip((grey - low) * (255 / (high - low)), 0, 255)
    return np.round(grey).astype(np.uint8)
