"""A map of the transmit field B1+ on the grid of a scan."""

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from medjax.data.scans.grid import check_grid, one_volume
from medjax.data.scans.scan import Scan, reading

_RATIOS = (0.2, 3.0)  # between which the median of any ratio lies
_PERCENT = 10.0  # a median above it is one of percent


def read_b1(path: Path, scan: Scan) -> Float[np.ndarray, "Z H W"]:
    """B1+ as the ratio of the actual flip angle to the nominal one.

    BIDS's TB1map: actual angle = B1+ x nominal angle, so 1 is a nominal pulse.

    Args:
        path: A NIfTI file of one volume, [H, W, Z] or [H, W, Z, 1], under the scan's
            affine; or an .npz file with `b1` [Z, H, W] ([H, W] of one slice), whose
            `affine` [4, 4], in mm, is compared where there is one.
        scan: Its grid is the map's.

    Returns:
        Ratios above 0; NaN where the map has no value: 0, negative or not finite.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another format or grid, has no value above 0, or its values
            are no ratios: the median is that of percent, of degrees or of a difference.
    """
    if not path.exists():
        raise FileNotFoundError(f"predict.b1: {path}: no such file")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        values, affine = one_volume(path, option="predict.b1")
    elif name.endswith(".npz"):
        values, affine = _npz(path)
    else:
        raise ValueError(
            f"predict.b1: {path}: expected a map of B1+ as .nii, .nii.gz or .npz"
        )
    check_grid(values, affine, scan, f"predict.b1: {path}", what="map")
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        raise ValueError(f"predict.b1: {path}: no value is above 0")
    middle = float(np.median(values[known]))
    low, high = _RATIOS
    if not low <= middle <= high:
        way = (
            "this looks like percent: divide the map by 100 (degrees: by the nominal "
            "angle)"
            if middle > _PERCENT
            else "divide actual flip angles by the nominal one, and add 1 to a relative"
            " difference"
        )
        raise ValueError(
            f"predict.b1: {path}: the median of its values above 0 is {middle:.4g}; "
            f"expected the ratio of actual to nominal flip angle, about 1; {way}"
        )
    return np.where(known, values, np.nan).astype(np.float32)


def _npz(
    path: Path,
) -> tuple[Float[np.ndarray, "Z H W"], Float[np.ndarray, "4 4"] | None]:
    with reading(path), zipfile.ZipFile(path), np.load(path) as file:
        found = {k: np.asarray(file[k]) for k in ("b1", "affine") if k in file.files}
        keys = ", ".join(file.files)
    if "b1" not in found or found["b1"].dtype.kind not in "fiu":
        raise ValueError(
            f"predict.b1: {path}: expected real numbers by the key b1; found {keys}"
        )
    values, affine = found["b1"], found.get("affine")
    if affine is not None and affine.shape != (4, 4):
        raise ValueError(
            f"predict.b1: {path}: affine {affine.shape}; expected [4, 4] in mm"
        )
    return values[None] if values.ndim == 2 else values, affine
