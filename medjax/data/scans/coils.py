"""What belongs to a scan's coils and lies in a file of its own; coils that are dead."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Complex

from medjax.data.scans.arrays import open_arrays
from medjax.data.scans.cfl import read_maps
from medjax.data.scans.ismrmrd_lines import find_measurements, read_noise
from medjax.data.scans.scan import Scan, ScanSlice, reading, require
from medjax.data.scans.stored import checked_array

_NIFTI = (".nii", ".nii.gz")


def with_sens(scan: Scan, path: Path) -> Scan:
    """The scan with sensitivities of a file, in place of its own.

    Args:
        scan: Of k-space, not checked yet.
        path: `sens` [Z, C, H, W] or [C, H, W] of an .npz or HDF5 file, the same as
            .npy, [H, W, Z, C] of a NIfTI file (complex, or real pairs on a fifth axis),
            or a BART pair. They are those of the scan's k-space as it is stored.

    Raises:
        ValueError: The scan is of images, or the file has other axes or another number
            of slices.
    """
    _check_kspace(scan, "predict.sens")
    if scan.conjugated == 3:
        raise ValueError(
            f"{scan.path}: predict.sens beside three-dimensional k-space that is "
            "conjugated; say predict.orientation=stored, where the file's slices are "
            "those of the sensitivities"
        )
    maps = _maps(path)
    slices = maps.shape[0] if len(maps.shape) == 4 else 1
    if len(maps.shape) not in (3, 4) or slices not in (1, scan.num_slices):
        raise ValueError(
            f"{path}: sensitivities {maps.shape}; expected [Z, C, H, W] with "
            f"{scan.num_slices} slices, or [C, H, W] for all of them"
        )

    def read(index: int) -> ScanSlice:
        with reading(path):
            whole = len(maps.shape) == 3
            part = maps[()] if whole else maps[index if slices > 1 else 0]
        return scan.read(index)._replace(sens=np.asarray(part))

    return scan._replace(read=read)


def with_noise(scan: Scan, path: Path) -> Scan:
    """The scan with the noise samples of a file, in place of its own.

    Args:
        scan: Of k-space, not checked yet.
        path: An ISMRMRD file of noise scans (all its acquisitions, where none is
            marked), `noise` [C, N] of an .npz or HDF5 file, the same as .npy, or a BART
            pair of [N, 1, 1, C]. Only ISMRMRD says the bandwidth, and only where the
            scan is one as well is the noise scaled to that of the images.

    Raises:
        ValueError: The scan is of images, or the file has no noise samples.
    """
    _check_kspace(scan, "predict.noise_scan")
    noise = _noise(path, scan.dwell_us)
    noise = noise.conj() if scan.conjugated else noise
    return scan._replace(read=lambda n: scan.read(n)._replace(noise=noise))


def without_dead_coils(scan: Scan) -> Scan:
    """The scan without coils that are 0 everywhere, and a note which ones those are.

    The first slice with a signal tells them; a later slice in which one of them is
    alive is refused. Sensitivities that are given lose the coil and are normalised.

    Args:
        scan: Of k-space, not checked yet.
    """
    dead = _dead(scan)
    if not dead:
        return scan
    names = ", ".join(map(str, dead))

    def read(index: int) -> ScanSlice:
        found = scan.read(index)
        kspace = np.asarray(found.kspace)
        if kspace[:, dead].any():
            raise ValueError(
                f"{scan.path}, slice {index}: coils {names} are 0 in the first slice "
                "with a signal, but not here; expected coils that are switched on, or "
                "off, in all slices. Leave them out of k-space"
            )

        def alive(array: np.ndarray | None, axis: int) -> np.ndarray | None:
            if array is None or array.shape[axis] == 1:
                return array
            return np.delete(array, dead, axis)

        sens = alive(found.sens, 0)
        if sens is not None and sens is not found.sens:
            power = np.sqrt((np.abs(sens) ** 2).sum(0))
            sens = np.where(power > 0.1, sens / np.maximum(power, 0.1), 0)
        return found._replace(
            kspace=np.delete(kspace, dead, 1),
            sens=sens,
            mask=alive(found.mask, 1) if np.ndim(found.mask) == 4 else found.mask,
            noise=alive(found.noise, 0),
            calibration=alive(found.calibration, 1),
        )

    note = f"coils left out, since they are 0 everywhere: {names}"
    return scan._replace(read=read, notes=(*scan.notes, note))


def _dead(scan: Scan) -> list[int]:
    """Coils that are 0 in the first slice that is not, while others are alive."""
    for index in range(scan.num_slices):
        with reading(scan.path):
            kspace = np.asarray(scan.read(index).kspace)
        if kspace.ndim == 4 and kspace.any():
            return np.flatnonzero(~kspace.any((0, 2, 3))).tolist()
    return []


def _check_kspace(scan: Scan, option: str) -> None:
    if scan.kind != "kspace":
        raise ValueError(f"{scan.path}: {option} is for k-space; this is of images")


def _maps(path: Path) -> Any:
    """Sensitivities with `shape` [Z, C, H, W] or [C, H, W], read by index."""
    if path.name.lower().endswith(_NIFTI):
        with reading(path):
            array = np.asanyarray(require("nibabel", path).load(path).dataobj)
        if array.ndim == 5 and array.shape[-1] == 2 and not np.iscomplexobj(array):
            array = array[..., 0] + 1j * array[..., 1]
        if array.ndim != 4 or not np.iscomplexobj(array):
            raise ValueError(
                f"{path}: sensitivities {array.shape} of {array.dtype}; expected "
                "complex [H, W, Z, C], or real pairs on a fifth axis"
            )
        return np.moveaxis(array, (2, 3), (0, 1))
    if _bart(path):
        return read_maps(path)
    return _array(path, "sens")


def _noise(path: Path, dwell_us: float) -> Complex[np.ndarray, "C N"]:
    if path.suffix.lower() in (".h5", ".hdf5", ".hdf", ".mrd"):
        measured = find_measurements([path])
        if measured:
            noise = read_noise(measured, dwell_us, every=True)
            if noise is None:
                raise ValueError(f"{path}: holds no acquisitions; expected noise scans")
            return noise
    if _bart(path):
        maps = read_maps(path)
        return maps.transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
    return np.asarray(_array(path, "noise")[()])


def _bart(path: Path) -> bool:
    pair = path.with_name(f"{path.name}.cfl")
    return path.suffix in (".cfl", ".hdr") or (not path.exists() and pair.exists())


def _array(path: Path, key: str) -> Any:
    """One array of a file, the only one of an .npy."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    with reading(path), open_arrays(path) as arrays:
        name = "kspace" if path.suffix == ".npy" else key
        if name not in arrays:
            raise ValueError(f"{path}: holds {sorted(arrays)}; expected {key!r}")
        return np.asarray(checked_array(arrays[name], key, path)[()])
