"""Which times belong to a scan, and do they look like seconds?"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from medjax.mri.catalogue import T1_IR, T2, vfa_model
from medjax.mri.times import check_times

# What the E images of a scan differ in, and the model whose limits they must keep.
CONTRASTS = {
    "t2": ("echo times", T2),  # s
    "t1": ("inversion times", T1_IR),  # s
    "vfa": ("flip angles", vfa_model(1.0)),  # radians
}
# s: a first echo, a first inversion time later than this was given in milliseconds
_FIRST = {"t2": 0.5, "t1": 5.0}


def choose_times(
    found: Mapping[str, Sequence[float]],
    origin: str,
    *,
    count: int,
    times: Sequence[float] | None,
    contrast: str | None,
) -> tuple[str, Float[np.ndarray, "E"]]:
    """The scan's contrast and its times, from the caller or else from the file.

    Args:
        found: The file's times in s or radians, by contrast: "t2", "t1", "vfa". A list
            of another length than `count` is a constant of the protocol, not a series,
            and so is one that repeats a value beside one that does not.
        origin: What errors call the file.
        count: E, how many images or k-spaces of a slice the file holds, 1 or more.
        times: The caller's in s or radians, which win; None leaves it to the file.
        contrast: The caller's, one of `CONTRASTS`; None takes the only one that fits.

    Raises:
        ValueError: No contrast fits, more than one fits, or `check_series` refuses the
            times.
    """
    if contrast is not None and contrast not in CONTRASTS:
        raise ValueError(f"contrast={contrast!r}: expected one of {list(CONTRASTS)}")
    if times is not None:
        series = [name for name, values in found.items() if len(values) == count]
        if contrast is None and len(series) != 1:
            raise ValueError(
                f"{origin}: times are given but not what they are; say contrast=, one "
                f"of {list(CONTRASTS)}"
            )
        name = contrast or series[0]
        return name, check_series(times, origin, count=count, contrast=name)
    usable = {
        name: values
        for name, values in found.items()
        if len(values) == count and contrast in (None, name)
    }
    if count > 1 and len(usable) > 1:  # a constant repeated is no series
        usable = {n: v for n, v in usable.items() if len(set(v)) > 1} or usable
    if len(usable) > 1:
        raise ValueError(
            f"{origin}: has {' and '.join(CONTRASTS[n][0] for n in usable)}; say which "
            f"with contrast=, one of {list(usable)}"
        )
    if not usable:
        lengths = {CONTRASTS[n][0]: len(v) for n, v in found.items()}
        what = CONTRASTS[contrast][0] if contrast else "times"
        raise ValueError(
            f"{origin}: no {what} for its {count} images or k-spaces (found: "
            f"{lengths or 'none'}); give times= in seconds and contrast="
        )
    ((name, values),) = usable.items()
    return name, check_series(values, origin, count=count, contrast=name)


def check_series(
    times: Sequence[float], origin: str, *, count: int, contrast: str
) -> Float[np.ndarray, "E"]:
    """The times as an array, checked.

    Args:
        times: In s, flip angles in radians, none negative. At least as many must differ
            as the contrast's model has parameters.
        origin: What errors call the file.
        count: E: so many times there must be.
        contrast: One of `CONTRASTS`, whose limits the times must keep.

    Raises:
        ValueError: There is another number of times, too few differ, or values look
            like milliseconds (degrees).
    """
    values = np.asarray(times, np.float64)
    what, model = CONTRASTS[contrast]
    if values.shape != (count,):
        raise ValueError(
            f"{origin}: {what} of shape {values.shape}; expected ({count},), one for "
            "each image or k-space on the E axis"
        )
    try:
        check_times(values, model=model, count=count)
    except ValueError as error:
        raise ValueError(f"{origin}, {what}: {error}") from error
    if contrast in _FIRST and values[values > 0].min() > _FIRST[contrast]:
        raise ValueError(
            f"{origin}: {what} {values.tolist()}; expected seconds, these look like "
            "milliseconds: divide by 1000"
        )
    return values
