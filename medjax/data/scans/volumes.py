"""NIfTI files, version 1 and 2, whose slices are read one by one.

A compressed file is unpacked into a temporary file without a name, by a thread that
runs while the caller compiles: slices of an image are scattered, and what is compressed
can be read forwards only.
"""

import contextlib
import gzip
import math
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from isal import isal_zlib
from jaxtyping import Float

from medjax.data.scans.scan import Frames, reading

_MILLIMETRES = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
_GZIP = 31  # zlib's window for a gzip file
_DAMAGED = cast(type[Exception], isal_zlib.error)  # its stub says an instance
_RATIO = 1100  # no gzip file grows by more
_CHUNK = 1 << 17  # bytes; gzip's own 8 kB cost a third more time
_PADDING = 1e-3  # share of a file that may follow its data
_THREADS = 2  # the unpacking needs no more than a disk can write


class Volume(NamedTuple):
    """What a file's header says; lengths in mm."""

    path: Path
    shape: tuple[int, ...]
    affine: Float[np.ndarray, "4 4"]
    frames: Frames
    slope: float  # that the header applies to the stored numbers
    size: int  # of the file, unpacked, in bytes
    header: Any  # nibabel's

    @property
    def packed(self) -> bool:
        """Whether the file is compressed."""
        return self.path.name.lower().endswith(".gz")


def open_volume(path: Path) -> Volume:
    """Read a file's header.

    Raises:
        ValueError: The file is no NIfTI file, is damaged, or holds colours or complex
            numbers.
    """
    import nibabel

    with _image(path), _stream(path) as stream:
        start = stream.read(4)
        starts = {int.from_bytes(start, order) for order in ("little", "big")}
        kind = nibabel.Nifti2Header if 540 in starts else nibabel.Nifti1Header
        stream.seek(0)
        header = kind.from_fileobj(stream)
        if bytes(header["magic"])[:2] != b"n+":
            raise ValueError("no NIfTI file: its magic is not n+1 or n+2")
        unit = _MILLIMETRES[str(header.get_xyzt_units()[0])]
        scale = np.diag([unit, unit, unit, 1.0])
        affine = scale @ header.get_best_affine()
        frames = Frames(
            qform=scale @ header.get_qform(),
            qform_code=int(header["qform_code"]),
            sform=scale @ header.get_sform(),
            sform_code=int(header["sform_code"]),
        )
        if not np.isfinite(affine).all():
            raise ValueError("its affine holds NaN or Inf")
        slope, _ = header.get_slope_inter()
        dtype = header.get_data_dtype()
        shape = tuple(int(n) for n in header.get_data_shape())
        size = int(header.get_data_offset()) + math.prod(shape) * dtype.itemsize
        stored = path.stat().st_size
        if not path.name.lower().endswith(".gz"):
            _check_size(stored, size)
        elif size > _RATIO * stored:
            raise EOFError(f"{stored} bytes, but its header makes it {size} unpacked")
    if dtype.kind not in "fiu":
        what = "colours (RGB)" if dtype.kind == "V" else f"{dtype} images"
        raise ValueError(
            f"{path}: {what}; expected magnitudes, or real signed values. Export the "
            "measured images"
        )
    slope = 1.0 if slope is None else slope
    return Volume(path, shape, affine, frames, slope, size, header)


def _check_size(found: int, expected: int) -> None:
    """Sizes in the header are those of the file, but for what pads it."""
    if not expected <= found <= expected * (1 + _PADDING):
        raise EOFError(f"{found} bytes, but its header makes it {expected}")


def readers(
    volumes: Sequence[Volume],
) -> list[Callable[[tuple[slice | int, ...]], np.ndarray]]:
    """For each file a function that reads a part of it.

    The first one that is called begins the unpacking of all. They raise a ValueError
    that names the file where it is damaged.

    Args:
        volumes: As `open_volume` gives them.
    """
    copies: dict[int, Future[IO[bytes]]] = {}

    def copy(n: int) -> IO[bytes]:
        if not copies:
            pool = ThreadPoolExecutor(_THREADS)
            for m, one in enumerate(volumes):
                if one.packed:
                    copies[m] = pool.submit(_unpack, one.path, one.size)
            pool.shutdown(wait=False)
        return copies[n].result()

    found = []
    for n, volume in enumerate(volumes):
        read = _reader(volume, partial(copy, n) if volume.packed else None)
        weakref.finalize(read, _close, copies, n)
        found.append(read)
    return found


def _reader(
    volume: Volume, unpacked: Callable[[], IO[bytes]] | None
) -> Callable[[tuple[slice | int, ...]], np.ndarray]:
    from nibabel.arrayproxy import ArrayProxy

    def read(place: tuple[slice | int, ...]) -> np.ndarray:
        with _image(volume.path):
            source = str(volume.path) if unpacked is None else unpacked()
            return np.asarray(ArrayProxy(source, volume.header)[place])

    return read


def _close(copies: dict[int, Future[IO[bytes]]], n: int) -> None:
    """Let a temporary file go, as soon as it is there."""
    unpacked = copies.pop(n, None)
    if unpacked is not None:
        unpacked.cancel()
        unpacked.add_done_callback(
            lambda f: f.cancelled() or f.exception() or f.result().close()
        )


def _unpack(path: Path, size: int) -> IO[bytes]:
    with contextlib.ExitStack() as stack:
        copy = stack.enter_context(tempfile.TemporaryFile())
        with path.open("rb") as packed:
            part = isal_zlib.decompressobj(_GZIP)
            while chunk := packed.read(_CHUNK):
                while chunk:  # a file may have several parts, and zeros at its end
                    copy.write(part.decompress(chunk))
                    chunk = part.unused_data.lstrip(b"\0")
                    if chunk:
                        part = isal_zlib.decompressobj(_GZIP)
            if not part.eof:
                raise EOFError("its compressed data end early")
        _check_size(copy.tell(), size)
        stack.pop_all()  # it is closed when its reader goes
        return copy


@contextlib.contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        if not path.name.lower().endswith(".gz"):
            yield raw
        else:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(IO[bytes], stream)


@contextlib.contextmanager
def _image(path: Path) -> Iterator[None]:
    """`reading`, and what nibabel raises of its own."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    with reading(path):
        try:
            yield
        except (
            ImageFileError,
            HeaderDataError,
            WrapStructError,
            _DAMAGED,
            ValueError,
            OverflowError,
            KeyError,
        ) as error:
            raise OSError(error) from error
