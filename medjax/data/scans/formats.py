"""Open what a scanner, a phantom or another program left, whatever its format.

===============  ===================================================================
.npz .h5 .npy    our own layout, see `arrays`
.h5              fastMRI: one file a contrast, or their folder
.h5 .mrd         ISMRMRD: a measurement in one group or several, in one file or several
.cfl .hdr        BART; give times and contrast; NAME_sens beside NAME is taken
.nii .nii.gz     images with BIDS sidecars: one 4-D file, 3-D files, or their folder
===============  ===================================================================

What is in a folder of .nii files and is no measured magnitude of one series is left out
and named in the scan's notes. Times are seconds everywhere (flip angles radians); what
looks like milliseconds is refused. A slice is read when it is asked for.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from medjax.data.scans.arrays import TIMES, open_layout
from medjax.data.scans.cfl import open_cfl
from medjax.data.scans.coils import with_noise, with_sens, without_dead_coils
from medjax.data.scans.fastmri import open_fastmri
from medjax.data.scans.foreign import foreign_image
from medjax.data.scans.ismrmrd import open_ismrmrd
from medjax.data.scans.ismrmrd_lines import is_measurement
from medjax.data.scans.nifti import open_nifti
from medjax.data.scans.orientation import check_orientation, oriented
from medjax.data.scans.raw import vendor_raw
from medjax.data.scans.scan import (
    Scan,
    ScanSlice,
    first_filled,
    make_scan,
    middle_filled,
    reading,
    require,
)
from medjax.data.scans.stored import check_links

__all__ = ["Scan", "ScanSlice", "first_filled", "middle_filled", "open_scan"]

_LATEST = 1.0  # s: of an echo
_HDF5 = (".h5", ".hdf5", ".hdf", ".mrd")
_KINDS = {
    "nifti": (".nii", ".nii.gz"),
    "hdf5": _HDF5,
    "cfl": (".cfl", ".hdr"),
    "array": (".npz", ".npy"),
}


def open_scan(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    times: Sequence[float] | None = None,
    contrast: str | None = None,
    sens: str | os.PathLike[str] | None = None,
    noise: str | os.PathLike[str] | None = None,
    orientation: str = "vendor",
    voxel_mm: Sequence[float] | None = None,
) -> Scan:
    """A scan whose `read(index)` gives one checked slice.

    Args:
        path: A file, a folder of files of one kind, or a list of files, one for each
            time; of a BART pair either file or their name without an ending.
        times: E of them in s (radians for "vfa"), one for each image or
            k-space, which win over the file's own; None takes those of the file.
        contrast: "t2" (echo times), "t1" (inversion times) or "vfa" (flip angles);
            needed where the file leaves it open.
        sens: A file of sensitivities, see `coils.with_sens`; None takes those that lie
            beside a .cfl or in the file, if any.
        noise: A file of noise samples, see `coils.with_noise`; None takes those of the
            scan's own files, if any.
        orientation: "vendor" conjugates k-space of an ISMRMRD file that says Siemens,
            "stored" none, "conjugate" any; see `orientation.oriented`.
        voxel_mm: Sizes along H, along W and between slices in mm, for files that do
            not say; a NIfTI file does.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: The format's package is missing; the message says which extra
            brings it.
        ValueError: Anything is wrong with the file or its times; the message names the
            file, what was expected, what it holds and the way out.
    """
    one = isinstance(path, str | os.PathLike)
    paths = _files(Path(path)) if one else [Path(p) for p in path]
    if not paths:
        raise ValueError("no files to open; expected at least one")
    for file in paths:
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file")
    kinds = {_kind(file) for file in paths}
    kind = kinds.pop()
    if kinds:
        raise ValueError(
            f"{paths[0]} and {len(paths) - 1} more: files of several kinds; expected "
            "those of one scan, name them"
        )
    check_orientation(orientation)
    if voxel_mm is not None and kind == "nifti":
        raise ValueError(f"{paths[0]}: a NIfTI file says its voxel size itself")
    given = [None if f is None else Path(f) for f in (sens, noise)]
    if kind == "nifti":
        whole = one and Path(path).is_dir()
        scan = open_nifti(paths, times=times, contrast=contrast, folder=whole)
    else:
        if kind == "hdf5":
            kind = _inside(paths[0])
        scan = _open_kspace(
            kind, paths, times, contrast, voxel_mm, orientation, own_sens=sens is None
        )
    if given[0] is not None:
        scan = with_sens(scan, given[0])
    if given[1] is not None:
        scan = with_noise(scan, given[1])
    scan = _in_seconds(oriented(scan, orientation), given=times is not None)
    if scan.kind == "images":
        return make_scan(scan)
    return make_scan(without_dead_coils(scan))


def _in_seconds(scan: Scan, *, given: bool) -> Scan:
    """Echo times above a second are none of tissue: those of ultrashort echoes in ms.

    Raises:
        ValueError: The times are the file's; those of the caller are doubted.
    """
    if scan.contrast != "t2" or scan.times.max() <= _LATEST:
        return scan
    said = f"echo times up to {scan.times.max():g} s"
    if not given:
        raise ValueError(
            f"{scan.path}: {said}; expected seconds, these look like milliseconds: "
            "divide by 1000. Where they are right, give them as times="
        )
    return scan._replace(
        notes=(*scan.notes, f"doubt: {said} are long; are they in milliseconds?")
    )


def _open_kspace(
    kind: str,
    paths: Sequence[Path],
    times: Sequence[float] | None,
    contrast: str | None,
    voxel_mm: Sequence[float] | None,
    orientation: str,
    *,
    own_sens: bool,
) -> Scan:
    """What may be k-space, as its reader finds it."""
    if kind == "ismrmrd":
        return open_ismrmrd(
            paths, times=times, contrast=contrast, orientation=orientation
        )
    if kind == "fastmri":
        return open_fastmri(paths, times=times, contrast=contrast, voxel_mm=voxel_mm)
    if len(paths) > 1:
        raise ValueError(
            f"{paths[0]} and {len(paths) - 1} more: expected one file, which holds all "
            f"times, of the format {kind!r}"
        )
    if kind == "cfl":
        return open_cfl(
            paths[0],
            times=times,
            contrast=contrast,
            voxel_mm=voxel_mm,
            own_sens=own_sens,
        )
    return open_layout(paths[0], times=times, contrast=contrast, voxel_mm=voxel_mm)


def _files(path: Path) -> list[Path]:
    """The path itself, the .cfl it is the stem of, or the files of a folder."""
    if path.is_dir():
        whole = sorted(path.iterdir(), key=_counted)
        files = [f for f in whole if _suffix(f) and f.is_file()]
        files = [f for f in files if _suffix(f) != ".hdr"]
        if not files:
            inside = sorted({f.parent.name for f in path.glob("*/*") if _suffix(f)})
            way = f"; name one of those below it: {', '.join(inside)}" if inside else ""
            raise ValueError(
                foreign_image(path)
                or vendor_raw(path)
                or f"{path}: no files of a known format in the folder{way}"
            )
        return files
    pair = path.with_name(f"{path.name}.cfl")
    return [pair] if not path.exists() and pair.exists() else [path]


def _counted(path: Path) -> list[tuple[int, str]]:
    """What sorts e2.nii before e10.nii: times that are given come in this order."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(p), "") if n % 2 else (-1, p) for n, p in enumerate(parts)]


def _suffix(path: Path) -> str | None:
    """The known suffix that the name ends with."""
    name = path.name.lower()
    return next((s for e in _KINDS.values() for s in e if name.endswith(s)), None)


def _kind(path: Path) -> str:
    suffix = _suffix(path)
    foreign = vendor_raw(path) if path.is_file() else None
    if suffix in (None, ".hdr"):
        foreign = foreign_image(path) or foreign
    if foreign:
        raise ValueError(foreign)
    for kind, suffixes in _KINDS.items():
        if suffix in suffixes:
            return kind
    known = ", ".join(s for e in _KINDS.values() for s in e)
    raise ValueError(f"{path}: unknown format; expected a name ending in {known}")


def _inside(path: Path) -> str:
    """Which of the formats that are HDF5."""
    with reading(path), require("h5py", path).File(path) as file:
        check_links(file, path)
        if any(is_measurement(file[name]) for name in file):
            return "ismrmrd"
        axes = getattr(file["kspace"], "ndim", 0) if "kspace" in file else 0
        if axes in (3, 4) and not any(key in file for key in ("images", *TIMES)):
            return "fastmri"
    return "layout"
