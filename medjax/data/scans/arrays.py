"""Our own layout of a scan, the same in .npz and HDF5, and plain .npy k-space.

========  ==========================================================================
kspace    [Z, E, C, H, W] complex, or [E, C, H, W] for one slice: centred, phase
          encoding along W, exact zeros where not sampled; also as real pairs on a last
          axis, or as records of two numbers
images    [Z, E, H, W] or [E, H, W] real, in the place of kspace
te | ti   [E] echo or inversion times in seconds; fa: flip angles in radians
sens      [Z, C, H, W] or [C, H, W] complex, sum_c |S_c|^2 = 1; may be left out
mask      the axes of kspace, 1 standing for all; or [E, H or 1, W] or [W] for every
          slice; may be left out: the zeros are it
noise     [C, N] complex samples without signal; may be left out
voxel_mm  [3] along H, W and between slices;  affine [4, 4] to RAS mm;  tr s, one or E
========  ==========================================================================

A slice is read without the rest of the volume. Compressed .npz (np.savez_compressed) is
unpacked from its start for each: HDF5 serves large volumes better.
"""

import contextlib
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from medjax.data.scans.constant import check_constant
from medjax.data.scans.scan import (
    Protocol,
    Scan,
    ScanSlice,
    centred_affine,
    check_voxel,
    reading,
    require,
)
from medjax.data.scans.stored import check_links, checked_array
from medjax.data.scans.times import choose_times

TIMES = {"te": "t2", "ti": "t1", "fa": "vfa"}
_OURS = ("kspace", "images", "sens", "mask", "noise", "voxel_mm", "affine", "tr")


def open_layout(
    path: Path,
    *,
    times: Sequence[float] | None,
    contrast: str | None,
    voxel_mm: Sequence[float] | None,
) -> Scan:
    """Open a file of the layout above.

    Args:
        path: An existing .npz, HDF5 or .npy file; the last holds k-space alone, so
            give its times and contrast.
        times: E of them in s (radians for "vfa"), which win over the file's own; None
            takes those of the file.
        contrast: "t2" (echo times), "t1" (inversion times) or "vfa" (flip angles);
            None where the file leaves no doubt.
        voxel_mm: Sizes along H, along W and between slices in mm, which win over the
            file's own; None takes `voxel_mm` of the file, else its affine's, else 1.

    Raises:
        ValueError: The file has another layout; the message names it, what was expected
            and what it holds.
    """
    with reading(path), open_arrays(path) as arrays:
        kind = next((k for k in ("kspace", "images") if k in arrays), None)
        if kind is None:
            raise ValueError(
                f"{path}: holds {sorted(arrays)}; expected 'kspace' [Z, E, C, H, W] or "
                "'images' [Z, E, H, W], and 'te' or 'ti' in seconds"
            )
        axes = "ZECHW" if kind == "kspace" else "ZEHW"
        for key in (*_OURS, *TIMES):
            if key in arrays:
                checked_array(arrays[key], key, path)
        size = tuple(checked_array(arrays[kind], kind, path).shape)
        if len(size) not in (len(axes), len(axes) - 1):
            raise ValueError(
                f"{path}: {kind} {size}; expected axes [{', '.join(axes)}] or, one "
                f"slice, [{', '.join(axes[1:])}]"
            )
        volume = len(size) == len(axes)
        known = {
            c: np.ravel(arrays[k][()]).tolist() for k, c in TIMES.items() if k in arrays
        }
        count = size[1 if volume else 0]
        _hint_axes(path, kind, axes[-len(size) :], size, known, times)
        contrast, series = choose_times(
            known, path.name, count=count, times=times, contrast=contrast
        )
        doubts = check_constant(
            known, path.name, count=count, contrast=contrast, given=times is not None
        )
        if voxel_mm is None:
            stored = arrays["voxel_mm"][()] if "voxel_mm" in arrays else ()
            voxel_mm = np.ravel(stored).tolist()
        affine = np.asarray(arrays["affine"][()]) if "affine" in arrays else None
        repetition = np.ravel(arrays["tr"][()] if "tr" in arrays else ()).tolist()
        constant = {c: tuple(v) for c, v in known.items() if len(v) in (1, count)}
        for key in ("sens", "mask"):
            if key in arrays:
                shape = checked_array(arrays[key], key, path).shape
                _check_side(path, key, shape, size, volume)
    if any(not 0 < r <= 60 for r in repetition):
        raise ValueError(
            f"{path}: tr {repetition}; expected 0 to 60 seconds; divide milliseconds "
            "by 1000"
        )
    if affine is not None and affine.shape != (4, 4):
        raise ValueError(f"{path}: affine {affine.shape}; expected [4, 4]")
    if not len(voxel_mm):
        columns = np.eye(3) if affine is None else affine[:3, :3]
        voxel_mm = np.linalg.norm(columns, axis=0).tolist()
    voxel = check_voxel(voxel_mm, path.name)
    slices = size[0] if volume else 1
    shape = (size[-2], size[-1])
    return Scan(
        path=path,
        kind=kind,
        contrast=contrast,
        times=series,
        num_slices=slices,
        shape=shape,
        voxel_mm=voxel,
        affine=centred_affine(voxel, (*shape, slices)) if affine is None else affine,
        read=lambda index: _read(path, index),
        repetition=repetition[0] if len(repetition) == 1 else None,
        protocol=Protocol(
            repetition=tuple(repetition),
            flip_angle=constant.get("vfa", ()),
            echo_time=constant.get("t2", ()),
            inversion_time=constant.get("t1", ()),
        ),
        notes=tuple(doubts),
    )


def _read(path: Path, index: int) -> ScanSlice:
    with open_arrays(path) as arrays:

        def part(key: str, axes: int) -> np.ndarray | None:
            """The array, or its slice where it has an axis of slices as well."""
            if key not in arrays:
                return None
            array = checked_array(arrays[key], key, path)
            if len(array.shape) <= axes:
                return array[()]
            return array[index if array.shape[0] > 1 else 0]

        if "kspace" not in arrays:
            return ScanSlice(images=part("images", 3))
        mask = part("mask", 4)
        if mask is not None and mask.ndim < 4:  # [W] or [E, H, W]: all coils
            mask = mask.reshape(-1, 1, *mask.shape[-2:]) if mask.ndim == 3 else mask
            mask = mask[None, None, None] if mask.ndim == 1 else mask
        return ScanSlice(
            kspace=part("kspace", 4),
            mask=mask,
            sens=part("sens", 3),
            noise=part("noise", 2),
        )


def _check_side(
    path: Path, key: str, shape: tuple[int, ...], size: tuple[int, ...], volume: bool
) -> None:
    """Slices of `sens` and `mask` against those of k-space; the rest slice by slice."""
    axes = {"sens": 3, "mask": 4}[key]
    extra = len(shape) == axes + 1
    if len(shape) > axes + 1 or (
        extra and (not volume or shape[0] not in (1, size[0]))
    ):
        raise ValueError(
            f"{path}: {key} {shape} beside k-space {size}; expected {axes} axes for "
            "all slices, or the slices' axis first"
        )


def _hint_axes(
    path: Path,
    kind: str,
    axes: str,
    size: tuple[int, ...],
    known: Mapping[str, Sequence[float]],
    times: Sequence[float] | None,
) -> None:
    """Say so where the number of times is the length of another axis than E."""
    counts = {len(times)} if times is not None else {len(v) for v in known.values()}
    count = size[axes.index("E")]
    others = [name for name, n in zip(axes, size, strict=True) if n in counts]
    if counts and count not in counts and others:
        raise ValueError(
            f"{path}: {kind} {size} read as [{', '.join(axes)}] has E = {count}, but "
            f"there are {max(counts)} times, as many as axis {others[0]} has; expected "
            "the axes in that order, np.moveaxis them"
        )


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, Any]]:
    """The file's arrays by name, each with `shape`, read by `[index]` or `[()]`."""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            yield {
                name.removesuffix(".npy"): _Member(archive, name, path)
                for name in archive.namelist()
            }
    elif path.suffix == ".npy":
        with path.open("rb") as stream:
            _header(stream, path.name, path)
        yield {"kspace": _mapped(path)}
    else:
        with require("h5py", path).File(path) as file:
            check_links(file, path)
            yield file


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:  # its length: the header was read before
        raise OSError(error) from error


class _Member:
    """One array of an .npz, whose slice costs the memory of a slice."""

    def __init__(self, archive: zipfile.ZipFile, name: str, path: Path) -> None:
        self._archive, self._info = archive, archive.getinfo(name)
        self._named = (name, path)
        with self._open() as stream:
            self.shape, self._fortran, self.dtype = _header(stream, *self._named)

    def _open(self) -> IO[bytes]:
        """The member's bytes; what is not compressed is read in place."""
        if self._info.compress_type != zipfile.ZIP_STORED:
            return self._archive.open(self._info)
        stream = self._named[1].open("rb")
        stream.seek(self._info.header_offset + 26)
        lengths = struct.unpack("<HH", stream.read(4))  # of name and extra field
        stream.seek(sum(lengths), 1)
        return stream

    def __getitem__(self, index: int | tuple[()]) -> np.ndarray:
        with self._open() as stream:
            _header(stream, *self._named)
            shape = self.shape
            whole = index == () or self._fortran  # then a slice is scattered
            if not whole:
                shape = shape[1:]
                stream.seek(self._size(shape) * index, 1)
            data = stream.read(self._size(shape))
        if len(data) < self._size(shape):
            raise EOFError(f"{self._named[0]} ends early")
        order = "F" if self._fortran else "C"
        array = np.frombuffer(data, self.dtype).reshape(shape, order=order)
        return array if not whole or index == () else array[index]

    def _size(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * self.dtype.itemsize


def _header(
    stream: IO[bytes], name: str, path: Path
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type of an array; never what was pickled."""
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        shape, fortran, dtype = read[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: {name} is no NumPy array ({error})") from error
    if dtype.hasobject:
        raise ValueError(
            f"{path}: {name} is a pickled Python object, which is never unpickled: it "
            "can run code. Write its arrays with np.savez(path, kspace=..., te=...)"
        )
    return shape, fortran, dtype
