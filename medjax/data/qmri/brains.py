"""Tissue-probability maps of one brain, from which simulated subjects are made.

`brains`: the ICBM152 grey- and white-matter maps of a data pack, with the fluid around
and between them. It is one averaged brain: subjects drawn from it differ by warps and
details that a generator made up, so results are those of a simulation. `synthetic`: a
head of ellipsoids that needs no file, for smoke runs and tests.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from medjax.data.volumes.atlas import TEMPLATE, brain_mask
from medjax.data.volumes.derived import derived
from medjax.data.volumes.packs import fetch_pack, say

SOURCES = ("brains", "synthetic")
MAPS = ("gm", "wm", "csf", "outside")  # the last axis of `Template.maps`
_VERSION = 1  # of the derived file
_RIM = 1.0  # mm of fluid on the brain's surface, to where half of it is left
_SITES = 4096  # places a lesion may have, at most


class Template(NamedTuple):
    """Tissue probabilities on a grid with axes towards right, anterior, superior."""

    maps: UInt8[np.ndarray, "X Y Z 4"]  # parts of 255
    origin: Float[np.ndarray, "3"]  # mm from the middle of the view to voxel (0, 0, 0)
    voxel: float  # mm
    slices: Int[np.ndarray, "M"]  # voxel index of the axial slices in use
    first: int  # what is added to a slice's index for its name: voxels cut away below
    sites: Float[np.ndarray, "K 3"]  # mm; of white matter; may be none


def load_template(
    source: str,
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Template:
    """The template of a source, from which subjects are drawn.

    Args:
        source: "brains", which fetches its pack where needed and keeps what is derived
            from it beside it, or "synthetic", which needs no file.
        cache: The folder that packs are kept in; None is the usual one.
        progress: Called with a line of text before what takes seconds.

    Raises:
        ValueError: The source is another one, or its pack is broken.
        ConnectionError: The pack is not there, and neither is a network.
    """
    if source not in SOURCES:
        raise ValueError(f"source {source!r}: expected one of {SOURCES}")
    if source == "synthetic":
        return synthetic_template()

    def make() -> dict[str, np.ndarray]:
        members = fetch_pack(TEMPLATE, cache, progress=progress)
        progress("MNI152 tissues: preparing the maps, a few seconds")
        template = _from_pack(members)._asdict()
        return {name: np.asarray(value) for name, value in template.items()}

    recipe = (_VERSION, _RIM, TEMPLATE.sha256)
    kept = derived("mni152-tissues", recipe, make, cache=cache)
    return Template(
        **{**kept, "voxel": float(kept["voxel"]), "first": int(kept["first"])}
    )


def build_template(
    gm: UInt8[np.ndarray, "X Y Z"],
    wm: UInt8[np.ndarray, "X Y Z"],
    brain: Bool[np.ndarray, "X Y Z"],
    *,
    voxel: float,
    slices: Int[np.ndarray, "M"],
) -> Template:
    """Cut the maps to the brain, and find the fluid: csf = brain - gm - wm.

    The brain gets a soft rim of fluid, about 1 mm thick: the subarachnoid space, which
    the template has not. The middle of the view is the middle of the brain's extent;
    its z = 0 is the middle of the slices in use.

    Args:
        gm: Grey matter in parts of 255, on axes towards right, anterior, superior.
        wm: White matter in parts of 255; where both sum to more than 255, it gives way.
        brain: True inside the brain, fluid included; at least one voxel.
        voxel: The side of a cubic voxel in mm.
        slices: Indices along Z of the axial slices in use, rising, at least one.
    """
    from scipy import ndimage

    away = np.asarray(ndimage.distance_transform_edt(~brain, sampling=voxel))
    inside = np.clip(1 - away / (2 * _RIM), 0, 1)
    total = np.round(255 * inside).astype(np.int16)
    gm16 = np.minimum(gm, total)
    wm16 = np.minimum(wm, total - gm16)
    parts = (gm16, wm16, total - gm16 - wm16, 255 - total)
    filled = np.argwhere(total > 0)
    # With a border of nothing: what lies beyond the grid is what is at its edge.
    low, high = filled.min(axis=0) - 1, filled.max(axis=0) + 2
    start, stop = np.maximum(low, 0), np.minimum(high, brain.shape)
    maps = np.zeros((*(high - low), 4), np.uint8)
    maps[..., 3] = 255
    window = tuple(slice(a, b) for a, b in zip(start - low, stop - low, strict=True))
    cut = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    maps[window] = np.stack([part[cut] for part in parts], axis=-1)
    extent = np.argwhere(brain)
    middle = (extent.min(axis=0) + extent.max(axis=0)) / 2
    middle[2] = (slices[0] + slices[-1]) / 2
    origin = voxel * (low - middle)
    return Template(
        maps=maps,
        origin=origin.astype(np.float64),
        voxel=voxel,
        slices=(slices - low[2]).astype(np.int32),
        first=int(low[2]),
        sites=_lesion_sites(maps, voxel) * voxel + origin,
    )


def slice_height(template: Template, index: int) -> float:
    """The height in mm of one of the template's slices above the middle of the view.

    Args:
        index: The number of the slice among `template.slices`, from 0.
    """
    return float(template.origin[2] + template.voxel * int(template.slices[index]))


def slice_name(template: Template, index: int) -> int:
    """The voxel index of one of the template's slices in the source's own grid.

    Args:
        index: The number of the slice among `template.slices`, from 0.
    """
    return template.first + int(template.slices[index])


def _lesion_sites(
    maps: UInt8[np.ndarray, "X Y Z 4"], voxel: float
) -> Float[np.ndarray, "K 3"]:
    """Voxels of white matter within 20 mm of deep fluid, evenly thinned.

    Deep, 25 mm from the surface, are the ventricles, and a few sulci.
    """
    from scipy import ndimage

    brain = maps[..., MAPS.index("outside")] < 128
    depth = np.asarray(ndimage.distance_transform_edt(brain, sampling=voxel))
    ventricles = (depth > 25) & (maps[..., MAPS.index("csf")] > 200)
    if not ventricles.any():
        return np.zeros((0, 3), np.float64)
    away = np.asarray(ndimage.distance_transform_edt(~ventricles, sampling=voxel))
    sites = np.argwhere((away < 20) & (maps[..., MAPS.index("wm")] > 230))
    return sites[:: max(1, -(-len(sites) // _SITES))].astype(np.float64)


def _from_pack(members: dict[str, Path]) -> Template:
    import nibabel

    volumes = []
    for name in ("t1", "gm", "wm"):
        path = members[f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"]
        image = nibabel.as_closest_canonical(nibabel.load(path))
        volumes.append(np.asarray(image.dataobj))
    t1, gm, wm = volumes
    brain = brain_mask(t1) | (gm.astype(np.int16) + wm > 127)
    return build_template(gm, wm, brain, voxel=1.0, slices=np.arange(40, 140, 4))


def synthetic_template() -> Template:
    """A head of ellipsoids in voxels of 2 mm: folded cortex, ventricles, thalami.

    It needs no file and is the same at every call.
    """
    from scipy import ndimage

    voxel, shape = 2.0, (72, 92, 76)
    middle = np.array(shape)[:, None, None, None] / 2 - 0.5
    x, y, z = voxel * (np.indices(shape) - middle)
    # Waves in the depth of white matter stand for the folds of the cortex.
    around, up = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    folds = 0.07 * np.cos(14 * around) * np.cos(8 * up)

    def ball(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        parts = zip((x, y, z), centre, radii, strict=True)
        return np.sqrt(sum(((a - c) / r) ** 2 for a, c, r in parts))

    brain = ball((0, 0, 0), (62, 80, 64)) <= 1
    cortex = brain & (ball((0, 0, 0), (60, 78, 62)) + 0.4 * folds <= 1)
    white = ball((0, 0, 0), (50, 68, 52)) + folds <= 1
    ventricles, thalami = (
        sum((ball((s * c[0], *c[1:]), radii) <= 1 for s in (-1, 1)), np.zeros((), bool))
        for c, radii in (((9, 4, 6), (6, 26, 12)), ((14, -6, -8), (9, 14, 9)))
    )
    cleft = (np.abs(x) < 1.5) & (np.abs(y) > 40)
    fluid = ventricles | (cleft & ~white)
    wm = white & ~fluid & ~thalami
    gm = cortex & ~fluid & ~wm
    soft = [
        np.round(255 * ndimage.gaussian_filter(m.astype(np.float32), 0.6))
        for m in (gm, wm)
    ]
    gm8, wm8 = (np.clip(m, 0, 255).astype(np.uint8) for m in soft)
    slices = np.arange(22, 54, 2)
    return build_template(gm8, wm8, brain, voxel=voxel, slices=slices)
