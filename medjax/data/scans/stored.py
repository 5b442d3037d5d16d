"""Numbers as files store them: complex ones as such, as pairs, or as records of two."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Complex

_AXES = {"kspace": 5, "sens": 4, "noise": 2}  # of complex arrays, at most
_REAL = "fiu"


def checked_array(array: Any, key: str, path: Path) -> Any:
    """The array, with `shape` and read by `[index]` or `[()]`, its pairs as complex.

    Args:
        array: Of a file, not read yet.
        key: Its name in the layout of `arrays`.
        path: The file, for errors.

    Raises:
        ValueError: It is a group, empty, or holds words, objects or records that are no
            complex numbers.
    """
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    if shape is None or dtype is None:
        raise ValueError(f"{path}: {key} is a group or empty; expected an array")
    if dtype.names is not None:
        kinds = [dtype[name].kind for name in dtype.names]
        if len(kinds) == 2 and set(kinds) <= set(_REAL) and key in _AXES:
            return Pairs(array, last=False)
    elif (
        dtype.kind in _REAL
        or (dtype.kind == "b" and key == "mask")
        or (dtype.kind == "c" and key in (*_AXES, "images"))
    ):
        axes = _AXES.get(key, 0)
        pair = dtype.kind in _REAL and shape[-1:] == (2,)
        if pair and len(shape) in ({axes, axes + 1} if axes > 2 else {axes + 1}):
            return Pairs(array, last=True)
        return array
    raise ValueError(
        f"{path}: {key} has the type {dtype}; expected numbers"
        + (", complex ones as such or as pairs on a last axis" if key in _AXES else "")
    )


def check_links(file: Any, path: Path) -> None:
    """Refuse an HDF5 file whose members are not in it.

    Args:
        file: Open.
        path: Its name, for errors.

    Raises:
        ValueError: A member is a link to nothing.
    """
    for name in file:
        try:
            file[name]
        except (KeyError, OSError) as error:
            raise ValueError(
                f"{path}: {name} is a link to what is not there ({error}); expected "
                "the array itself: copy it into the file (h5copy)"
            ) from error


class Pairs:
    """An array of complex numbers that is stored as two real ones each."""

    def __init__(self, array: Any, *, last: bool) -> None:
        """Nothing is read.

        Args:
            array: Real with a last axis of 2, or of records of two numbers.
            last: Whether the last axis holds them.
        """
        self._array, self._last = array, last
        self.shape: tuple[int, ...] = array.shape[:-1] if last else array.shape

    def __getitem__(self, index: int | tuple[()]) -> Complex[np.ndarray, "..."]:
        """A part of the first axis, or all of it."""
        part = self._array[index]
        if self._last:
            return part[..., 0] + 1j * part[..., 1]
        one, other = part.dtype.names
        return part[one] + 1j * part[other]
