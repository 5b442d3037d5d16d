"""Shares of slices, measured from labels: what ordinal tasks grade."""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from medjax.data.volumes.anatomy import Structure
from medjax.data.volumes.atlas import PLANES, TEMPLATE, brain_mask
from medjax.data.volumes.ct import CHEST, LUNGS, body_mask, label_names, read_scan
from medjax.data.volumes.derived import derived
from medjax.data.volumes.packs import fetch_pack, say

_VERSION = 1  # of the derived files
_DEPTH = 15  # voxels below the brain's surface, deeper than any sulcus's opening
_LEAST = 0.15  # of the largest slice: smaller ones are not shown


class Shares(NamedTuple):
    """How much of each of n slices of a volume something takes."""

    plane: Int[np.ndarray, "n"]  # index into PLANES
    position: Int[np.ndarray, "n"]  # voxel index across the plane
    share: Float[np.ndarray, "n"]  # 0-1


def measure_slices(
    measured: Bool[np.ndarray, "X Y Z"],
    whole: Bool[np.ndarray, "X Y Z"],
    *,
    least: float,
) -> Shares:
    """Share of `whole` that `measured` takes in each slice of all three planes.

    Args:
        measured: Only voxels that are in `whole` too count.
        whole: What 1 stands for, such as the brain; slices without it are left out.
        least: Slices where `whole` is smaller than this share, 0 to 1, of its largest
            in that plane are left out.
    """
    plane, position, share = [], [], []
    for p in range(len(PLANES)):
        axes = tuple(a for a in range(3) if a != 2 - p)
        area = np.count_nonzero(whole, axis=axes)
        part = np.count_nonzero(measured & whole, axis=axes)
        kept = np.flatnonzero(area >= max(least * area.max(), 1))
        plane.append(np.full(len(kept), p, np.int32))
        position.append(kept.astype(np.int32))
        share.append(part[kept] / area[kept])
    return Shares(*map(np.concatenate, (plane, position, share)))


def grade_values(
    values: Float[np.ndarray, "n"],
    train: Bool[np.ndarray, "n"],
    *,
    grades: int,
    zero: float | None,
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "grades-1"]]:
    """Grades of equal size by quantiles of the training part, and their thresholds.

    The grade of a value is the number of thresholds that it reaches.

    Args:
        values: What was measured, in any unit, training and test part together.
        train: The quantiles are those of the values where this is True.
        grades: How many grades there are, counted from 0.
        zero: Values of at most this have grade 0, and quantiles of those above it give
            the other thresholds; None takes quantiles of all.

    Raises:
        ValueError: Two thresholds are equal, so that a grade would have no values.
    """
    known = values[train]
    if zero is None:
        cuts = np.quantile(known, np.arange(1, grades) / grades)
    else:
        above = known[known > zero]
        steps = np.quantile(above, np.arange(1, grades - 1) / (grades - 1))
        cuts = np.concatenate([[np.nextafter(zero, np.inf)], steps])
    if len(np.unique(cuts)) < grades - 1:
        raise ValueError(
            f"{grades} grades of {len(known)} training values: thresholds {cuts} are "
            "not all different; ask for fewer grades"
        )
    return np.searchsorted(cuts, values, side="right").astype(np.int32), cuts


def find_ventricles(
    tissue: Float[np.ndarray, "X Y Z"],
    inside: Bool[np.ndarray, "X Y Z"],
    *,
    depth: int,
) -> Bool[np.ndarray, "X Y Z"]:
    """The lateral ventricles: the largest fluid space that lies wholly deep inside.

    Fluid is less than half grey or white matter; thin connections are cut by an
    opening. The third and the fourth ventricle and the cisterns hang together with the
    spaces at the surface and are left out.

    Args:
        tissue: The share of grey and white matter in each voxel, 0 to 1.
        inside: The brain and its fluid, see `brain_mask`.
        depth: How many voxels below the surface of `inside` the whole space must lie.

    Raises:
        ValueError: No fluid space lies so deep.
    """
    from scipy import ndimage

    fluid = ndimage.binary_opening(inside & (tissue < 0.5))
    pieces = np.empty(inside.shape, np.int32)
    ndimage.label(fluid, output=pieces)
    deep = np.asarray(ndimage.binary_erosion(inside, iterations=depth), bool)
    sizes = np.bincount(pieces.ravel())
    sizes[np.unique(pieces[~deep])] = 0
    sizes[0] = 0
    if not sizes.max():
        raise ValueError(f"no fluid space lies {depth} voxels inside the brain")
    return pieces == sizes.argmax()


def load_ventricle_shares(
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Shares:
    """Lateral ventricles in slices of the MNI152 template, as share of the brain.

    Args:
        cache: The folder that packs are kept in; None is the usual one (`cache_dir`).
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: The pack is not there, and neither is a network.
        ValueError: A pack is not the expected file.
    """
    paths = fetch_pack(TEMPLATE, cache, progress=progress)

    def make() -> dict[str, Shaped[np.ndarray, "n"]]:
        import nibabel

        t1, grey, white = (
            np.asarray(
                nibabel.as_closest_canonical(
                    nibabel.load(
                        paths[f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"]
                    )
                ).dataobj
            )
            for kind in ("t1", "gm", "wm")
        )
        inside = brain_mask(t1)
        tissue = (grey.astype(np.float32) + white) / 255
        ventricles = find_ventricles(tissue, inside, depth=_DEPTH)
        return measure_slices(ventricles, inside, least=_LEAST)._asdict()

    recipe = (_VERSION, _DEPTH, _LEAST, TEMPLATE.sha256)
    return Shares(**derived("ventricles", recipe, make, cache=cache))


def load_lung_shares(
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Shares:
    """Lungs in slices of the chest CT, as share of the body.

    Args:
        cache: The folder that packs are kept in; None is the usual one (`cache_dir`).
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: The pack is not there, and neither is a network.
        ValueError: A pack is not the expected file.
    """
    paths = fetch_pack(CHEST, cache, progress=progress)

    def make() -> dict[str, Shaped[np.ndarray, "n"]]:
        hounsfield, labels = read_scan(paths["cxr.nii.gz"], paths["mask.nii.gz"])
        lungs = label_mask(labels, label_names(paths["structures.csv"]), LUNGS)
        return measure_slices(lungs, body_mask(hounsfield), least=_LEAST)._asdict()

    recipe = (_VERSION, LUNGS, _LEAST, CHEST.sha256)
    return Shares(**derived("lungs", recipe, make, cache=cache))


def label_mask(
    labels: Int[np.ndarray, "X Y Z"],
    names: dict[int, str],
    structures: tuple[Structure, ...],
) -> Bool[np.ndarray, "X Y Z"]:
    """Where any of the structures is.

    Args:
        labels: The label of each voxel, 0 to the largest in `names`.
        names: The name of each label.
        structures: What is looked for; a name that no label has is nowhere.
    """
    wanted = {label for structure in structures for label in structure.labels}
    values = [value for value, name in names.items() if name in wanted]
    return np.isin(np.arange(max(names) + 1), values)[labels]
