"""A map of regions on the grid of a scan, and what its regions are called."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int, Num

from medjax.data.scans.grid import check_grid, one_volume
from medjax.data.scans.scan import Scan, reading

LARGEST = 2**31 - 1  # of a label


def read_labels(path: Path, scan: Scan) -> Int[np.ndarray, "Z H W"]:
    """Which region each voxel belongs to: a whole number, 0 for none.

    Args:
        path: A NIfTI file of one volume, [H, W, Z] or [H, W, Z, 1], under the scan's
            affine; or an .npy file [Z, H, W], slices first ([H, W] of one slice), which
            has no affine, so that sizes alone are compared.
        scan: Its grid is the labels'.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another format or grid, its values are not whole numbers of
            0 to 2^31 - 1, or all of them are 0.
    """
    name = f"predict.labels: {path}"
    if not path.exists():
        raise FileNotFoundError(f"{name}: no such file")
    suffix = path.name.lower()
    if suffix.endswith((".nii", ".nii.gz")):
        values, affine = one_volume(path, option="predict.labels")
    elif suffix.endswith(".npy"):
        values, affine = _npy(path), None
    else:
        raise ValueError(f"{name}: expected labels as .nii, .nii.gz or .npy")
    turned, shape = (*scan.shape, scan.num_slices), (scan.num_slices, *scan.shape)
    if affine is None and values.shape == turned != shape:
        raise ValueError(
            f"{name}: {turned} is rows, columns, slices; expected slices first, {shape}"
            ", as np.moveaxis(labels, 2, 0) makes them"
        )
    check_grid(values, affine, scan, name, what="labels")
    whole = np.isfinite(values) & (values == np.floor(values))
    whole &= (values >= 0) & (values <= LARGEST)
    if not whole.all():
        z, row, column = (int(n) for n in np.argwhere(~whole)[0])
        raise ValueError(
            f"{name}: slice {z}, row {row}, column {column}: "
            f"{values[z, row, column]:g}; expected whole numbers from 0, which is no "
            "region. Labels are resampled by the nearest neighbour, and probabilities "
            "are no labels"
        )
    if not values.any():
        raise ValueError(f"{name}: all voxels are 0, which is no region")
    return values.astype(np.int32)


def compare_names(
    labels: Int[np.ndarray, "Z H W"], names: Mapping[int, str], path: Path
) -> tuple[list[int], list[str]]:
    """(labels without a name, names without a voxel) of a map and its table.

    Args:
        labels: Of `read_labels`; 0 is no region.
        names: Of `read_label_names`. A name of the label 0 is of no region.
        path: The table's, for the message.

    Raises:
        ValueError: No label of the map has a name: the table is another map's.
    """
    found = np.unique(labels[labels != 0]).tolist()
    unnamed = [label for label in found if label not in names]
    if len(unnamed) == len(found):
        few = ", ".join(str(label) for label in found[:8])
        raise ValueError(
            f"predict.label_names: {path}: none of its {len(names)} indices is a label "
            f"of the map, which has {few}{' ...' if len(found) > 8 else ''}; expected "
            "the table of this map"
        )
    unfilled = [n for i, n in names.items() if i and i not in set(found)]
    return unnamed, unfilled


def read_label_names(path: Path) -> dict[int, str]:
    """Names of regions by their label, of a BIDS table.

    Args:
        path: A .tsv file whose first line has the columns `index` and `name`, in any
            place; further columns are not read.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing, an index is no whole number or stands twice, or
            a name is empty; the message names the line.
    """
    name = f"predict.label_names: {path}"
    if not path.exists():
        raise FileNotFoundError(f"{name}: no such file")
    names: dict[int, str] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: expected text in UTF-8: {error}") from error
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = rows.fieldnames or []
    if not {"index", "name"} <= set(columns):
        raise ValueError(
            f"{name}: columns {', '.join(columns) or 'none'}; expected a tab-separated "
            "table with index and name, as BIDS has them"
        )
    for row in rows:
        index, label = (row["index"] or "").strip(), (row["name"] or "").strip()
        _check(f"{name}, line {rows.line_num}", index, label, names)
        names[int(index)] = label
    return names


def _check(where: str, index: str, label: str, names: Mapping[int, str]) -> None:
    if not index.isdecimal():
        raise ValueError(f"{where}: index {index!r}; expected a whole number from 0")
    if int(index) in names:
        raise ValueError(f"{where}: index {index} stands there twice")
    if not label:
        raise ValueError(f"{where}: index {index} has no name")


def _npy(path: Path) -> Num[np.ndarray, "Z H W"]:
    try:
        with reading(path):
            values = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"predict.labels: {path}: no .npy array: {error}") from error
    if values.dtype.kind not in "biuf" or values.ndim not in (2, 3):
        raise ValueError(
            f"predict.labels: {path}: {values.dtype} {values.shape}; expected whole "
            "numbers [slices, rows, columns]"
        )
    return values[None] if values.ndim == 2 else values
