"""A scan as it is read, one checked slice after the other.

Each format's reader gives what it finds of a slice; `make_scan` wraps it so that what
leaves has one form, or one error that names file and slice. k-space is centred (the
zero frequency at H // 2, W // 2), phase encoding runs along W, and the zero-filled
points of undersampled data are exact zeros: where a file has no mask, they are it.
"""

import contextlib
import importlib
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float

from medjax.data.scans.centre import check_centre
from medjax.mri.checks import check_acquisition, sampled_points


class ScanSlice(NamedTuple):
    """One slice of a scan; None stands for what the file does not hold."""

    kspace: Complex[np.ndarray, "E C H W"] | None = None  # 0 where not sampled
    mask: Bool[np.ndarray, "E H W"] | None = None  # or [E 1 W], whole lines
    sens: Complex[np.ndarray, "C H W"] | None = None  # sum_c |S_c|^2 = 1, or 0
    noise: Complex[np.ndarray, "C N"] | None = None  # samples without signal
    # k-space measured for the sensitivities alone, 0 where not sampled
    calibration: Complex[np.ndarray, "K C H W"] | None = None
    images: Float[np.ndarray, "E H W"] | None = None  # in the place of k-space

    @property
    def empty(self) -> bool:
        """Whether the slice holds only zeros, or its sensitivities are all 0."""
        data = self.images if self.kspace is None else self.kspace
        hidden = self.sens is not None and not self.sens.any()
        return hidden or data is None or not any(part.any() for part in data)


# Spin echoes one by one, in a train; gradient echoes, likewise; inversion recovery, by
# gradient echoes of which it is not known whether they follow one inversion; saturation
# recovery; kinds with several readouts after one inversion; several flip angles.
SEQUENCES = (
    "", "SE", "MESE", "GRE", "MEGRE", "IR", "IRGRE", "SR", "LL", "MOLLI", "MP2RAGE",
    "VFA",
)  # fmt: skip


class Protocol(NamedTuple):
    """What a file says of its measurement and what changes the signal.

    A tuple holds one number for all contrasts or one for each, in the order of the
    scan's times; () and None stand for what is not known.
    """

    repetition: tuple[float, ...] = ()  # TR, s
    flip_angle: tuple[float, ...] = ()  # of the excitation, radians
    echo_time: tuple[float, ...] = ()  # s
    inversion_time: tuple[float, ...] = ()  # s
    refocusing_angle: float | None = None  # radians
    sequence: str = ""  # one of `SEQUENCES`
    manufacturer: str = ""


class Frames(NamedTuple):
    """How a NIfTI file places its voxels: both of its affines in mm, and their codes.

    Code 0 is no affine, 1 the scanner's, 2 aligned to another image, 3 Talairach, 4
    MNI, 5 another template.
    """

    qform: Float[np.ndarray, "4 4"]
    qform_code: int
    sform: Float[np.ndarray, "4 4"]
    sform_code: int


class Scan(NamedTuple):
    """A volume on disk. Images and maps of it are [H, W, slice] under `affine`."""

    path: Path
    kind: str  # "kspace" or "images"
    contrast: str  # what `times` are: see `times.CONTRASTS`
    times: Float[np.ndarray, "E"]  # s; flip angles in radians
    num_slices: int
    shape: tuple[int, int]  # H, W
    voxel_mm: tuple[float, float, float]  # along H, along W, between slices
    affine: Float[np.ndarray, "4 4"]  # (row, column, slice) -> RAS mm
    read: Callable[[int], ScanSlice]  # only the slice's own data enter memory
    repetition: float | None = None  # s, where the file says one for all contrasts
    frames: Frames | None = None  # what maps keep beside `affine`
    protocol: Protocol = Protocol()
    slice_times: Float[np.ndarray, "Z E"] | None = None  # s, where slices differ
    files: tuple[Path, ...] = ()  # what is read, in the order of the times
    conjugated: int = 0  # axes that are turned against the file's k-space: 0, 2 or 3
    dwell_us: float = 0.0  # of a sample of k-space, 0 where it is not known
    notes: tuple[str, ...] = ()  # what a person must know; "doubt: " the maps may err

    @property
    def placed(self) -> bool:
        """Whether the file says where it lies: `affine` holds more than sizes."""
        size = (*self.shape, self.num_slices)
        return not np.allclose(self.affine, centred_affine(self.voxel_mm, size))


def make_scan(scan: Scan) -> Scan:
    """The scan with `read` checked: index, shapes, numbers, masks, coils.

    Its `read` raises IndexError for an index outside 0 to num_slices - 1, and
    ValueError, naming file and slice, for what `check_slice` and `check_centre` refuse.
    `files` holds at least the scan's own path.

    Raises:
        ValueError: The protocol has another number of values than one, or one a
            contrast, or an unknown sequence; or times by slice have another shape.
    """
    _check_protocol(scan)

    def read(index: int) -> ScanSlice:
        if not 0 <= index < scan.num_slices:
            raise IndexError(
                f"{scan.path}: slice {index}; expected 0 to {scan.num_slices - 1}"
            )
        with reading(scan.path):
            content = scan.read(index)
        origin = f"{scan.path.name}, slice {index}"
        found = check_slice(content, origin, echoes=len(scan.times), shape=scan.shape)
        if found.kspace is not None and found.mask is not None and not found.empty:
            check_centre(
                found.kspace,
                found.mask,
                origin,
                contrast=scan.contrast,
                times=scan.times.tolist(),
            )
        return found

    return scan._replace(read=read, files=scan.files or (scan.path,))


def _check_protocol(scan: Scan) -> None:
    protocol, count = scan.protocol, len(scan.times)
    for name in ("repetition", "flip_angle", "echo_time", "inversion_time"):
        found = len(getattr(protocol, name))
        if found not in (0, 1, count):
            raise ValueError(
                f"{scan.path}: {found} values of {name}; expected one, or one for each "
                f"of {count} contrasts"
            )
    if protocol.sequence not in SEQUENCES:
        raise ValueError(
            f"{scan.path}: sequence {protocol.sequence!r}; expected one of {SEQUENCES}"
        )
    size = (scan.num_slices, count)
    if scan.slice_times is not None and scan.slice_times.shape != size:
        raise ValueError(
            f"{scan.path}: times by slice {scan.slice_times.shape}; expected [Z, E] = "
            f"{size}"
        )


def middle_filled(scan: Scan) -> ScanSlice:
    """The middle slice, or the first one that is not empty where that one is.

    Raises:
        ValueError: Of `first_filled`.
    """
    middle = scan.read(scan.num_slices // 2)
    return first_filled(scan) if middle.empty else middle


def first_filled(scan: Scan) -> ScanSlice:
    """The first slice that is not empty; a stack's ends often are.

    Raises:
        ValueError: All slices are empty, or one before the first filled one is damaged.
    """
    for index in range(scan.num_slices):
        content = scan.read(index)
        if not content.empty:
            return content
    what = "images are" if scan.kind == "images" else "k-space (or sens) is"
    raise ValueError(
        f"{scan.path}: {what} 0 everywhere, in all of {scan.num_slices} slices; "
        "expected measured values in one at least. Export the file again"
    )


def check_slice(
    found: ScanSlice, origin: str, *, echoes: int, shape: tuple[int, int]
) -> ScanSlice:
    """What a reader found, in single precision, its mask as [E, H, W] or [E, 1, W].

    Args:
        found: k-space or images, and what lies beside them. A reader may give the mask
            as [E or 1, C or 1, H or 1, W]; without one it is where k-space is not 0.
            k-space outside the mask is set to 0. An empty slice passes: no mask and no
            sensitivities can be told from it.
        origin: What errors call the slice.
        echoes: E, the number of times.
        shape: H and W of every slice, in voxels.

    Raises:
        ValueError: Axes are wrong, images are complex, or
            `mri.checks.check_acquisition` refuses the slice.
    """
    if found.images is not None:
        return ScanSlice(images=_images(found.images, origin, (echoes, *shape)))
    kspace, mask = _native(np.asarray(found.kspace)), None
    sens = None if found.sens is None else _native(np.asarray(found.sens))
    if kspace.ndim != 4 or (kspace.shape[0], *kspace.shape[2:]) != (echoes, *shape):
        raise ValueError(
            f"{origin}: k-space {kspace.shape}; expected [E, C, H, W] with E = "
            f"{echoes} times, H, W = {shape}"
        )
    if found.empty:
        return ScanSlice(
            kspace=np.zeros(kspace.shape, np.complex64),
            mask=np.zeros((echoes, 1, shape[1]), bool),
        )
    if found.mask is not None:
        mask = _without_coils(np.asarray(found.mask), origin, kspace.shape)
        kspace = kspace * mask[:, None]
    try:
        check_acquisition(kspace, sens, mask)
        mask = sampled_points(kspace) if mask is None else mask
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from error
    coils, noise = kspace.shape[1], found.noise
    if noise is not None and not np.isfinite(noise).all():
        raise ValueError(f"{origin}: noise holds NaN or Inf; leave those samples out")
    if noise is not None and (noise.ndim != 2 or len(noise) != coils):
        raise ValueError(
            f"{origin}: noise {noise.shape}; expected [C, N] with C = {coils}"
        )
    return ScanSlice(
        kspace=kspace.astype(np.complex64),
        mask=mask,
        sens=None if sens is None else sens.astype(np.complex64),
        noise=None if noise is None else noise.astype(np.complex64),
        calibration=_calibration(found.calibration, origin, kspace.shape[1:]),
    )


def _native(array: np.ndarray) -> np.ndarray:
    """Complex numbers of any width and byte order in native single precision."""
    return array if array.dtype.kind != "c" else array.astype(np.complex64, copy=False)


def _calibration(
    kspace: np.ndarray | None, origin: str, shape: tuple[int, ...]
) -> Complex[np.ndarray, "K C H W"] | None:
    if kspace is None or not kspace.any():
        return None
    if kspace.shape[1:] != shape or not np.isfinite(kspace).all():
        raise ValueError(
            f"{origin}: calibration lines {kspace.shape}; expected finite numbers as "
            f"[K, C, H, W] with C, H, W = {shape}"
        )
    return kspace.astype(np.complex64)


def _images(images: np.ndarray, origin: str, shape: tuple[int, ...]) -> np.ndarray:
    images = np.asarray(images)
    if images.shape != shape:
        raise ValueError(f"{origin}: images {images.shape}; expected E, H, W = {shape}")
    if np.iscomplexobj(images):
        raise ValueError(
            f"{origin}: images are complex; expected magnitudes, or real signed values "
            "after an inversion. Take np.abs, or hand in k-space"
        )
    filled = (np.isfinite(images) & (images != 0)).any((1, 2))
    for e in np.flatnonzero(~filled).tolist():
        if filled.any():  # a slice outside the head is empty in all of them
            raise ValueError(
                f"{origin}: the image of phase {e} of {len(images)} is empty; take the "
                "phase and its time out"
            )
    return images.astype(np.float32)  # NaN in a voxel is the fit's to report


def _without_coils(
    mask: np.ndarray, origin: str, shape: tuple[int, ...]
) -> Bool[np.ndarray, "E H W"]:
    """A reader's mask without its axis of coils; [E, 1, W] for whole lines."""
    fits = mask.ndim == 4 and all(
        n in (1, size) for n, size in zip(mask.shape, shape, strict=True)
    )
    if not fits or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"{origin}: mask {mask.shape}; expected 0 and 1 (or booleans) as [E, C, H, "
            f"W] = {shape}, an axis of 1 standing for all"
        )
    differs = np.argwhere((mask != mask[:, :1]).any((2, 3)))
    if len(differs):
        e, c = differs[0].tolist()
        raise ValueError(
            f"{origin}: the mask differs between coils, in contrast {e} coil {c} from "
            "the first; expected one mask for all coils"
        )
    mask = mask[:, 0].astype(bool)
    if (mask == mask[:, :1]).all():
        mask = mask[:, :1]
    return np.broadcast_to(mask, (shape[0], mask.shape[1], shape[3])).copy()


def centred_affine(
    voxel_mm: Sequence[float], size: tuple[int, int, int]
) -> Float[np.ndarray, "4 4"]:
    """The affine from voxel indices to mm: axes along RAS, the centre at the origin.

    Args:
        voxel_mm: The three sizes of a voxel in mm, above 0.
        size: How many voxels each axis has; the centre is index size // 2 on each.
    """
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = [-v * (n // 2) for v, n in zip(voxel_mm, size, strict=True)]
    return affine


def check_voxel(voxel_mm: Sequence[float], origin: str) -> tuple[float, float, float]:
    """The three sizes of a voxel as floats.

    Args:
        voxel_mm: Sizes in mm, between 0.02 and 500: smaller ones were meant in metres.
        origin: What errors call the file.

    Raises:
        ValueError: There is another number of sizes, or one is outside that range.
    """
    sizes = [float(v) for v in voxel_mm]
    if len(sizes) != 3 or not all(math.isfinite(v) and 0.02 < v < 500 for v in sizes):
        raise ValueError(f"{origin}: voxel_mm {sizes}; expected three sizes in mm")
    return sizes[0], sizes[1], sizes[2]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise on a damaged file into one error that names it.

    Raises:
        ValueError: In place of an OSError, or of what a truncated or damaged archive
            raises within the block.
    """
    try:
        yield
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); the file is cut short or damaged: copy "
            "or export it again"
        ) from error


def require(name: str, path: Path) -> ModuleType:
    """Import a format's package, or say how to install it.

    Args:
        name: The name that the module is imported by, such as "h5py".
        path: The file that needs it, which the error names.

    Raises:
        ImportError: The package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{path}: reading it needs {name}; pip install "medjax[mri]"'
        ) from error
