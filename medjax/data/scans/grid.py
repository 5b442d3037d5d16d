"""Volumes that lie beside a scan on its grid: maps of B1+, labels of regions."""

import itertools
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from medjax.data.scans.scan import Scan
from medjax.data.scans.volumes import open_volume, readers

APART = 0.1  # of a voxel: how far two grids may lie apart


def one_volume(
    path: Path, *, option: str
) -> tuple[Float[np.ndarray, "Z H W"], Float[np.ndarray, "4 4"]]:
    """The volume of a NIfTI file, slices first, and its affine in mm.

    Args:
        path: A file of one volume: [H, W], [H, W, Z] or [H, W, Z, 1].
        option: What names the file, for the message.

    Raises:
        ValueError: It is no NIfTI file, or holds several volumes.
    """
    volume = open_volume(path)
    size = volume.shape
    if len(size) not in (2, 3) and (len(size) != 4 or size[3] != 1):
        raise ValueError(
            f"{option}: {path}: shape {size}; expected one volume [H, W, slices]"
        )
    (read,) = readers([volume])
    values = read((...,)).reshape((*size[:3], 1)[:3])
    return np.moveaxis(values, 2, 0), volume.affine


def check_grid(
    values: Num[np.ndarray, "Z H W"],
    affine: Float[np.ndarray, "4 4"] | None,
    scan: Scan,
    name: str,
    *,
    what: str,
) -> None:
    """Refuse a volume of another size than a scan, or of another place.

    Args:
        values: The volume, slices first.
        affine: From (row, column, slice) to RAS mm; None where the file has none, and
            then sizes alone are compared.
        scan: Its grid is the one that counts.
        name: The option and the file, with which the message begins.
        what: The volume in a word, for the message.

    Raises:
        ValueError: Sizes differ, or voxels lie more than a tenth of one apart.
    """
    way = (
        f"Resample the {what} to the scan's grid, such as by "
        "nibabel.processing.resample_from_to"
    )
    shape = (scan.num_slices, *scan.shape)
    if values.shape != shape:
        raise ValueError(
            f"{name}: {values.shape} (slices, rows, columns); expected the scan's "
            f"{shape}. {way}"
        )
    far = 0.0 if affine is None else _distance(affine, scan)
    if far > APART * min(scan.voxel_mm):
        raise ValueError(
            f"{name}: its voxels lie up to {far:.3g} mm from those of "
            f"{scan.path.name}; expected one grid and affine, {_rows(scan.affine)}, "
            f"but its own is {_rows(np.asarray(affine, float))}. {way}"
        )


def _rows(affine: Float[np.ndarray, "4 4"]) -> str:
    """`[2 0 0 -90; 0 2 0 -126; 0 0 2 -72]`, in mm."""
    return f"[{'; '.join(' '.join(f'{x:.4g}' for x in row) for row in affine[:3])}]"


def _distance(affine: Float[np.ndarray, "4 4"], scan: Scan) -> float:
    """The largest distance of two corners of the grid, in mm; inf where it has none."""
    size = (*scan.shape, scan.num_slices)
    corners = np.array(list(itertools.product(*((0, n - 1, n) for n in size))))
    difference = np.asarray(affine, float)[:3] - scan.affine[:3]
    far = np.linalg.norm(corners @ difference[:, :3].T + difference[:, 3], axis=1)
    largest = float(far.max())
    return largest if math.isfinite(largest) else math.inf
