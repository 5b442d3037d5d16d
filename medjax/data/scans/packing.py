"""A gzip file written in parts, each in the way that suits its numbers.

The mantissas of measured floats repeat nothing: looking for repeats takes three times
as long as coding bytes by how often they occur, and makes no smaller file. Where a
background is constant it is the other way round. A part is deflated by itself (RFC
1951) and ends at a whole byte, as those of pigz; all parts are one member (RFC 1952),
so that every reader of gzip reads the file.
"""

import struct
import zlib
from typing import IO

import numpy as np
from jaxtyping import Num

_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"  # deflate, no name, no time, fastest
_PART = 1 << 16  # bytes
_CONSTANT = 0.25  # of a part's numbers: with more equal neighbours repeats pay
_RAW, _MEMORY = -15, 9  # zlib's window without any frame, and the most memory


class PackedFile:
    """Bytes and numbers in, one gzip member out; the same in, the same out."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Write the frame's head to an open binary stream, which stays the caller's."""
        self._stream = stream
        self._sum, self._size = 0, 0
        stream.write(_HEADER)

    def write(self, values: Num[np.ndarray, "..."]) -> None:
        """Append numbers as they lie in memory, first index fastest."""
        words = values.ravel(order="F")
        count = _PART // words.itemsize
        for first in range(0, words.size, count):
            part = words[first : first + count]
            data = part.tobytes()
            self._sum, self._size = zlib.crc32(data, self._sum), self._size + len(data)
            self._stream.write(_deflate(data, repeats=_repeats(part)))

    def close(self) -> None:
        """Write the frame's end, an empty last block, checksum and size; then flush."""
        end = zlib.compressobj(1, zlib.DEFLATED, _RAW).flush()
        self._stream.write(end + struct.pack("<II", self._sum, self._size % 2**32))
        self._stream.flush()


def _repeats(part: Num[np.ndarray, "N"]) -> bool:
    """Whether many numbers equal the one before them, bit by bit."""
    if part.itemsize == 1:
        return True
    bits = part.view(f"u{part.itemsize}")
    return bool(np.count_nonzero(bits[1:] == bits[:-1]) > _CONSTANT * part.size)


def _deflate(data: bytes, *, repeats: bool) -> bytes:
    strategy = zlib.Z_DEFAULT_STRATEGY if repeats else zlib.Z_HUFFMAN_ONLY
    packer = zlib.compressobj(1, zlib.DEFLATED, _RAW, _MEMORY, strategy)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
