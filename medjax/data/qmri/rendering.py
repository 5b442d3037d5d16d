"""Slices of simulated subjects: the template bent, sharpened and filled anew.

A slice is a function of (subject, height): the same anatomy at every pixel size, in
training and in evaluation, and neighbours in a subject fit together.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from medjax.data.qmri.brains import Template
from medjax.data.qmri.fields import smooth_field
from medjax.data.qmri.relaxation import TISSUES, Mixture
from medjax.data.qmri.subjects import Subject

_WARP, _BORDERS, _TISSUE = 1, 2, 3  # streams of random numbers; 0 drew the subject
_ODDS = np.array([0.8, 0.5], np.float32)  # how much borders move: grey matter, fluid
_FINE = 1.2  # mm: points are at most so far apart before pixels are averaged


class BrainSlice(NamedTuple):
    """One axial slice in radiological view: face up, the subject's right at the left.

    `mixture` has the axis R of `relaxation.TISSUES`.
    """

    mixture: Mixture
    roi: Bool[np.ndarray, "H W"]  # tissue or fluid in more than half of the pixel
    lesion: Bool[np.ndarray, "H W"]  # lesion in more than half of the pixel


def pixel_axes(
    size: int, field: float
) -> tuple[Float[np.ndarray, "H"], Float[np.ndarray, "W"]]:
    """The rows' (y) and the columns' (x) centres in mm, in radiological view.

    Both fall with the index, and 0 is the middle of the view.

    Args:
        size: How many pixels each side has, 1 or more.
        field: The side of the view in mm, above 0.
    """
    axis = (0.5 * (size - 1) - np.arange(size)) * field / size
    return axis, axis


def render_slice(
    template: Template, subject: Subject, z: float, *, size: int, field: float
) -> BrainSlice:
    """One slice, averaged over the area of its pixels.

    Args:
        template: The one that the subject was drawn from.
        subject: The person whose brain it is, from `draw_subject`.
        z: The slice's height in mm above the middle of the view, see `slice_height`.
        size: How many pixels each side of the picture has, 16 or more.
        field: The side of the view in mm, 100 to 300; a head takes about 200.

    Raises:
        ValueError: The size or field cannot show a brain, or there is no brain at z.
    """
    if size < 16 or not 100 <= field <= 300:
        raise ValueError(
            f"size={size}, field={field}: expected at least 16 pixels and 100 to 300 mm"
        )
    fine = int(np.ceil(field / size / _FINE))
    y, x = pixel_axes(size * fine, field)
    parts = _individual(template, subject, z, y, x)
    parts = np.mean([parts[:, i::fine] for i in range(fine)], axis=0)
    fractions = np.mean([parts[:, :, i::fine] for i in range(fine)], axis=0)
    roi = fractions.sum(axis=0) > 0.5
    if not roi.any():
        raise ValueError(f"subject {subject.key}: no brain {z} mm from the middle")
    y, x = pixel_axes(size, field)
    key, count = (*subject.key, _TISSUE), len(TISSUES)
    change = smooth_field(key, z, y, x, spacing=20.0, channels=2 * count + 1)
    change = np.exp(0.04 * change)
    t1, t2, pd = (
        values.astype(np.float32)[:, None, None]
        for values in (subject.t1, subject.t2, subject.pd)
    )
    mixture = Mixture(
        fractions=fractions,
        t1=t1 * change[:count],
        t2=t2 * change[count:-1],
        pd=pd * change[-1:],
    )
    return BrainSlice(mixture, roi, fractions[TISSUES.index("lesion")] > 0.5)


def sample_maps(
    maps: UInt8[np.ndarray, "X Y Z M"], voxels: Float[np.ndarray, "3 N"]
) -> Float[np.ndarray, "N M"]:
    """All maps between their voxels, linear along each axis.

    Three times as fast as one map after the other: the M bytes of a voxel are
    neighbours in memory.

    Args:
        maps: M maps on one grid, each from 0 to 255, which keep their unit.
        voxels: Where to read them, as N points in voxels along X, Y and Z. Each must
            be inside the grid, 0 <= voxels < shape - 1, which is not checked.

    Returns:
        M values for each of the N points.
    """
    low = voxels.astype(np.int64)
    beyond = (voxels - low)[:, :, None]
    _, rows, planes, count = maps.shape
    flat = maps.reshape(-1, count)
    first = (low[0] * rows + low[1]) * planes + low[2]
    corners = [
        flat.take(first + (dx * rows + dy) * planes + dz, axis=0).astype(voxels.dtype)
        for dx in (0, 1)
        for dy in (0, 1)
        for dz in (0, 1)
    ]
    for share in beyond[::-1]:
        pairs = zip(corners[::2], corners[1::2], strict=True)
        corners = [a + share * (b - a) for a, b in pairs]
    return corners[0]


def _individual(
    template: Template, subject: Subject, z: float, y: np.ndarray, x: np.ndarray
) -> Float[np.ndarray, "R H W"]:
    """Fractions of the subject's own tissues at points of a slice.

    The template is an average over people, so its borders are soft. A subject gets
    sharp ones of its own: p^2 exp(b) over the sum of all four, b random and smooth.
    """
    place = _template_place(subject, z, y, x)
    voxels = (place - template.origin.astype(np.float32)[:, None, None]) / np.float32(
        template.voxel
    )
    last = np.array(template.maps.shape[:3])[:, None, None] - 1
    inside = np.nonzero(((voxels >= 0) & (voxels < last)).all(axis=0))
    parts = sample_maps(template.maps, voxels[:, *inside]) ** 2
    key = (*subject.key, _BORDERS)
    odds = smooth_field(key, z, y, x, spacing=5.0, channels=2)[:, *inside]
    odds = subject.borders.astype(np.float32)[:, None] + _ODDS[:, None] * odds
    parts[:, ::2] *= np.exp(odds.T)  # grey matter and fluid
    parts /= parts.sum(axis=1, keepdims=True)
    parts[:, 3] = _lesion_share(subject, place[:, *inside]) * parts[:, 1]
    parts[:, 1] -= parts[:, 3]
    shares = np.zeros((len(TISSUES), *place.shape[1:]), np.float32)
    shares[:, *inside] = parts.T
    return shares


def _template_place(
    subject: Subject, z: float, y: np.ndarray, x: np.ndarray
) -> Float[np.ndarray, "3 H W"]:
    """Where in the template, in mm, each point of a slice lies."""
    key = (*subject.key, _WARP)
    place = 2.5 * smooth_field(key, z, y, x, spacing=40.0, channels=3)
    moved = np.array([0.0, 0.0, z]) - subject.shift
    m = subject.matrix.astype(np.float32)
    start = (subject.matrix @ moved).astype(np.float32)
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    for axis in range(3):
        place[axis] += start[axis] + m[axis, 0] * x32 + (m[axis, 1] * y32)[:, None]
    return place


def _lesion_share(
    subject: Subject, place: Float[np.ndarray, "3 N"]
) -> Float[np.ndarray, "N"]:
    """0 to 1: how far white matter is lesion; the border is about 1 mm wide."""
    share = np.zeros(place.shape[1], np.float32)
    for centre, shape in zip(subject.lesions, subject.shapes, strict=True):
        stretch = np.linalg.norm(shape, axis=1)  # 1 / mm along its own axes
        away = place - centre.astype(np.float32)[:, None]
        near = np.flatnonzero((np.abs(away) < 1 / stretch.min() + 1).all(axis=0))
        radius = np.linalg.norm(shape @ away[:, near], axis=0)
        mean = np.prod(stretch) ** (-1 / 3)  # mm
        share[near] = np.maximum(share[near], np.clip(0.5 + (1 - radius) * mean, 0, 1))
    return share
