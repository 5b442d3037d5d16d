"""A small head of ellipsoids: what the atlas's code is tested on without a network."""

import numpy as np

from medjax.data.boxes.slices import Look, atlas_views
from medjax.data.prompting.layout import Geometry
from medjax.data.volumes.anatomy import STRUCTURES, UNIONS, select_structures
from medjax.data.volumes.atlas import MR, build_atlas

SHAPE = (72, 80, 68)  # x to the right, y to the front, z upwards
# AAL name without side: centre (for the right side), radii, in voxels.
BLOBS = {
    "Thalamus": ((46, 36, 36), (7, 9, 7)),
    "Insula": ((56, 50, 32), (4, 12, 8)),
    "Putamen": ((46, 56, 30), (5, 8, 6)),
    "Pallidum": ((46, 46, 22), (5, 6, 5)),
    "Hippocampus": ((54, 28, 24), (6, 9, 5)),
}
GEOMETRY = Geometry(
    patch=7, merge=2, temporal=2, window=28, min_pixels=14 * 14, max_pixels=112 * 112
)
LOOK = Look(size=(70, 70), field=84.0, min_side=4, phrasings=3)


def ellipsoid(centre, radii):
    grid = np.indices(SHAPE) - np.array(centre)[:, None, None, None]
    return ((grid / np.array(radii)[:, None, None, None]) ** 2).sum(axis=0) <= 1


def make_volumes():
    """Image and labels; the right side's labels are even, as AAL's are."""
    volume = np.where(ellipsoid((36, 40, 34), (33, 38, 32)), 90, 0)
    labels = np.zeros(SHAPE, np.uint8)
    names = {}
    for value, (name, ((x, y, z), radii)) in enumerate(BLOBS.items()):
        sides = (("L", 2 * SHAPE[0] // 2 - 1 - x), ("R", x))
        for side, (letter, centre) in enumerate(sides):
            number = 2 * value + 1 + side
            inside = ellipsoid((centre, y, z), radii)
            labels[inside] = number
            names[number] = f"{name}_{letter}"
            volume[inside] = 120 + 10 * number
    return volume.astype(np.uint8), labels, names


def make_atlas():
    volume, labels, names = make_volumes()
    have = set(names.values())
    structures = tuple(s for s in STRUCTURES + UNIONS if set(s.labels) <= have)
    return build_atlas(volume, labels, names, structures)


def structure_names(atlas):
    return tuple(name for name in atlas.names if "lentiform" not in name)


def mr_views(atlas, *, structures, **options):
    """Views of structures chosen by a word or listed, asked for in MR's words."""
    names = select_structures(structures)
    return atlas_views(atlas, names=names, modality=MR, **options)
