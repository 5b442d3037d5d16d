"""BART's .cfl/.hdr pairs: single-precision complex, column-major, read in place."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Complex

from medjax.data.scans.scan import (
    Scan,
    ScanSlice,
    centred_affine,
    check_voxel,
)
from medjax.data.scans.times import choose_times

# BART's order of dimensions (src/misc/mri.h); ours are readout, phase, coil, map, TE
# and slice.
DIMENSIONS = (
    "READ PHASE1 PHASE2 COIL MAPS TE COEFF COEFF2 ITER CSHIFT TIME TIME2 LEVEL SLICE "
    "AVG BATCH"
).split()
_OURS = ("READ", "PHASE1", "COIL", "TE", "SLICE")


def read_cfl(path: Path) -> Complex[np.ndarray, "..."]:
    """The array of a .cfl/.hdr pair as a read-only memory map of complex64.

    Args:
        path: Either file of the pair, or its name without an ending; the result has
            the header's dimensions, first index fastest.

    Raises:
        FileNotFoundError: One of the two files is missing.
        ValueError: The header has no "# Dimensions", or the .cfl is of another size.
    """
    data, header = (path.with_name(_stem(path) + suffix) for suffix in (".cfl", ".hdr"))
    for file in (data, header):
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file; expected a .cfl/.hdr pair")
    lines = header.read_text("utf-8", errors="replace").splitlines()
    after = [b for a, b in zip(lines, lines[1:], strict=False) if a == "# Dimensions"]
    sizes = after[0].split() if after else []
    if not sizes or not all(n.isdigit() and int(n) for n in sizes):
        raise ValueError(
            f"{header}: expected a line '# Dimensions' and sizes below it, found "
            f"{lines[:3]}"
        )
    shape = tuple(map(int, sizes))
    expected, size = 8 * math.prod(shape), data.stat().st_size
    if expected != size:
        raise ValueError(
            f"{data}: {size} bytes; expected {expected} for the dimensions {shape} of "
            f"{header.name}: the file is cut short or the pair does not belong together"
        )
    return np.memmap(data, np.dtype("<c8"), "r", shape=shape, order="F")


def open_cfl(
    path: Path,
    *,
    times: Sequence[float] | None,
    contrast: str | None,
    voxel_mm: Sequence[float] | None,
    own_sens: bool,
) -> Scan:
    """k-space [READ, PHASE1, 1, COIL, 1, TE, ..., SLICE] as BART stores it.

    A .cfl holds neither times nor a voxel size.

    Args:
        path: Either file of the pair NAME.cfl and NAME.hdr, or NAME itself.
        times: The E times of the TE dimension in s (radians for "vfa"); needed.
        contrast: What they are: "t2" (echo times), "t1" (inversion times) or "vfa"
            (flip angles); needed.
        voxel_mm: Sizes along H, along W and between slices in mm; None stands for 1.
        own_sens: Whether the sensitivities NAME_sens (`bart ecalib -m1`) are taken,
            where that pair lies beside NAME.

    Raises:
        FileNotFoundError: A file of a pair is missing.
        ValueError: There are no times, or other dimensions are in use, which the
            message names with the way out.
    """
    kspace = _dimensions(path, read_cfl(path), ("PHASE2", "MAPS"))
    beside = path.with_name(f"{_stem(path)}_sens.cfl")
    maps = read_maps(beside) if own_sens and beside.exists() else None
    if maps is not None and len(maps) not in (1, kspace.shape[4]):
        raise ValueError(
            f"{beside}: {len(maps)} slices; expected 1 or {kspace.shape[4]}"
        )
    height, width, _, echoes, slices = kspace.shape
    contrast, series = choose_times(
        {}, path.name, count=echoes, times=times, contrast=contrast
    )
    voxel = check_voxel(voxel_mm or (1, 1, 1), path.name)

    def read(index: int) -> ScanSlice:
        part = None
        if maps is not None:
            part = np.ascontiguousarray(maps[index if len(maps) > 1 else 0])
        lines = kspace[..., index].transpose(3, 2, 0, 1)
        return ScanSlice(kspace=np.ascontiguousarray(lines), sens=part)

    return Scan(
        path=path,
        kind="kspace",
        contrast=contrast,
        times=series,
        num_slices=slices,
        shape=(height, width),
        voxel_mm=voxel,
        affine=centred_affine(voxel, (height, width, slices)),
        read=read,
    )


def read_maps(path: Path) -> Complex[np.ndarray, "Z C H W"]:
    """One set of sensitivities, for all slices or one each; a view of a memory map.

    Args:
        path: Either file of a pair, or its name without an ending.

    Raises:
        FileNotFoundError: A file of the pair is missing.
        ValueError: Other dimensions are in use, which the message names.
    """
    maps = _dimensions(path, read_cfl(path), ("PHASE2", "MAPS", "TE"))
    return maps[:, :, :, 0].transpose(3, 2, 0, 1)


def _dimensions(
    path: Path, array: np.ndarray, single: Sequence[str]
) -> Complex[np.ndarray, "H W C E Z"]:
    """The five dimensions we use; a view, nothing is read."""
    sizes: dict[str, int] = dict(zip(DIMENSIONS, array.shape, strict=False))
    used = [n for n, size in sizes.items() if size > 1 and n not in _OURS]
    used += [n for n in single if sizes.get(n, 1) > 1 and n not in used]
    if used or array.ndim > len(DIMENSIONS):
        fix = {
            "PHASE2": "three-dimensional k-space: `bart fft -i -u 4 IN TMP` and "
            "`bart transpose 2 13 TMP OUT` make slices of it",
            "MAPS": "keep one set of maps: `bart slice 4 0 IN OUT`",
            "TE": "sensitivities are the same at every time: `bart slice 5 0 IN OUT`",
        }
        raise ValueError(
            f"{path}: dimensions { ({n: s for n, s in sizes.items() if s > 1}) }; "
            f"expected sizes above 1 in {', '.join(n for n in _OURS)} only. "
            + "; ".join(
                fix.get(n, f"move or take out {n}, such as by `bart transpose`")
                for n in used
            )
        )
    shape = [sizes.get(name, 1) for name in _OURS]
    return array.reshape(shape, order="F")


def _stem(path: Path) -> str:
    return path.stem if path.suffix in (".cfl", ".hdr") else path.name
