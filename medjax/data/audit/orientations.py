"""Small pictures turned by quarters and mirrored, and what a hash is of each."""

import numpy as np
from jaxtyping import UInt, UInt8
from scipy.fft import dctn

_LOW = 8  # lowest frequencies of each axis, as `perceptual_hash` takes them
_BLOCK = 8192  # pictures that are transformed at a time
# (exchange the axes, flip the rows, flip the columns), in this order. A quarter turn to
# the right is not there: of two pictures one is the other's quarter turn to the left.
_MOVES = {
    "": (False, False, False),
    "turned by a quarter": (True, True, False),
    "turned by a half": (False, True, True),
    "mirrored left to right": (False, False, True),
    "mirrored top to bottom": (False, True, False),
    "mirrored along a diagonal": (True, False, False),
    "mirrored along the other diagonal": (True, True, True),
}
TURNS = tuple(name for name in _MOVES if name)


def turn_pictures(
    pictures: UInt8[np.ndarray, "n a a"], turn: str
) -> UInt8[np.ndarray, "n a a"]:
    """Square pictures turned, as a view.

    Args:
        pictures: Greys, rows first.
        turn: One of `TURNS`, or "" for as they are.
    """
    exchange, rows, columns = _MOVES[turn]
    moved = pictures.swapaxes(1, 2) if exchange else pictures
    return moved[:, :: -1 if rows else 1, :: -1 if columns else 1]


def turned_hashes(
    pictures: UInt8[np.ndarray, "n a a"], turn: str
) -> UInt[np.ndarray, "n"]:
    """The perceptual hash of each picture, turned; 64 bits, see `perceptual_hash`.

    A flip changes the sign of every other coefficient of the cosine transform, and
    exchanged axes exchange its own, so that one transform does for all.

    Args:
        pictures: Square greys, 8 pixels a side or more.
        turn: One of `TURNS`, or "" for as they are.
    """
    exchange, rows, columns = _MOVES[turn]
    signs = np.where(np.arange(_LOW) % 2, -1.0, 1.0)
    found = [np.zeros(0, np.uint64)]
    for start in range(0, len(pictures), _BLOCK):
        block = pictures[start : start + _BLOCK].astype(np.float64)
        low = np.asarray(dctn(block, axes=(1, 2)))[:, :_LOW, :_LOW]
        low = low.swapaxes(1, 2) if exchange else low
        low = low * signs[:, None] if rows else low
        low = (low * signs if columns else low).reshape(len(block), -1)
        bits = low > np.median(low, axis=1, keepdims=True)
        found.append(np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64))
    return np.concatenate(found)
