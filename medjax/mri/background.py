"""What of an image is no sample of a signal: noise around the object, clipped values.

Host functions (NumPy): they read values.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from medjax.checks import check_arrays, check_integers

_ZEROS = 0.02  # of the samples: more are a mask, or noise that was clipped
_FEW = 0.02  # of the voxels: fewer are no background
_DISTANCE = 0.05  # between the distributions, as Kolmogorov measures it
_UNEVEN = 1.15  # between the contrasts, whose noise is one
_STEPS = 30
_TIED = 8  # voxels at the largest value by chance
_PILE = 5  # times as many as at the values below it
_FILL = 0.01  # of the voxels: as many hold one value in all contrasts


class Background(NamedTuple):
    """The noise of an image's background, or why it can't be told."""

    noise: float | None  # sd of the two parts of each channel, the images' unit
    reason: str  # "" where it is known


class Clipped(NamedTuple):
    """Values that are not samples."""

    low: Bool[np.ndarray, "E H W"]  # the fill of the background
    high: Bool[np.ndarray, "E H W"]  # the largest that the file could hold


def background_noise(
    images: Float[np.ndarray, "E H W"], *, coils: int = 1
) -> Background:
    """The noise level by the voxels that hold no signal in any contrast.

        sum_e m_e^2 / (2 s^2)  is gamma distributed with the shape E C

    Voxels whose sum lies in the middle 99 % of that distribution for a level s, and the
    level s^2 = mean m^2 / (2 C) of these voxels, in turn, from 12 starts; the level of
    most voxels is taken. It is not known where these voxels are not distributed as
    magnitudes of noise are, up to a Kolmogorov distance of 0.05, or differ between
    contrasts by a factor above 1.15: a background that is 0, clipped, filtered or
    interpolated, or of another number of channels. Nor is it known where more than 2 %
    of the samples are 0, or fewer than 2 % of the voxels are background.

    Args:
        images: Magnitudes of one slice, in any unit: NumPy, values are read. Two
            contrasts or more tell noise from signal; one is not refused. A voxel with a
            number that is not finite is left out, a negative one makes the level
            unknown.
        coils: C, the channels of a root of the sum of squares, an integer of 1 or more;
            1 for one coil or a combination by sensitivities, as in
            `expected_magnitude`.

    Returns:
        `noise`, the standard deviation s of the real and of the imaginary part of each
        channel in the unit of the images, and an empty `reason`; or None and the reason
        why it is not known.

    Raises:
        ValueError: images that are not [E, H, W] of floats, or a number of channels
            below 1.

    Source: PIESNO, Koay, Ozarslan and Pierpaoli, J. Magn. Reson. 199 (2009).
    """
    check_arrays("background_noise", images=(images, "E H W", float))
    check_integers("background_noise", coils=(coils, 1, None))
    values = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float64)
    values = values[:, np.isfinite(values).all(0)]
    if not values.size or (values < 0).any():
        return Background(None, "images are not magnitudes")
    zeros = float(np.mean(values == 0))
    if zeros > _ZEROS:
        return Background(None, f"{100 * zeros:.0f} % of the samples are 0")
    power = np.mean(values**2, axis=0)
    best = _most_voxels(power, shape=len(values) * coils, coils=coils)
    if best is None or best[1].mean() < _FEW:
        return Background(None, "no background is in the image")
    level, chosen = best
    each = np.sqrt(np.mean(values[:, chosen] ** 2, axis=1))
    if each.max() > _UNEVEN * each.min():
        return Background(None, "no background is in the image: its level decays")
    distance = _distance(values[:, chosen].ravel(), level, coils)
    if distance > _DISTANCE:
        return Background(
            None,
            f"the background is not that of {coils} channel"
            f"{'s' if coils > 1 else ''}: filtered, clipped, or of another number",
        )
    return Background(level, "")


def _most_voxels(
    power: Float[np.ndarray, "N"], *, shape: int, coils: int
) -> tuple[float, Bool[np.ndarray, "N"]] | None:
    """(level, its voxels) of the level that most voxels fit to."""
    # Wilson and Hilferty's quantiles of a gamma distribution of mean 1, 99 % inside
    spread = 2.58 * math.sqrt(1 / (9 * shape))
    low, high = ((1 - 1 / (9 * shape) + z) ** 3 for z in (-spread, spread))
    best = None
    for share in np.geomspace(0.01, 0.7, 12):
        mean = float(np.quantile(power, share))
        chosen = power < 0
        for _ in range(_STEPS):
            found = (power > low * mean) & (power < high * mean)
            if not found.any() or (found == chosen).all():
                break
            chosen, mean = found, float(power[found].mean())
        if chosen.any() and (best is None or chosen.sum() > best[1].sum()):
            best = math.sqrt(mean / (2 * coils)), chosen
    return best


def _distance(samples: Float[np.ndarray, "N"], level: float, coils: int) -> float:
    """Kolmogorov's, between samples and magnitudes of noise.

    Between neighbouring values, so that rounding to whole numbers is no distance.
    """
    values, counts = np.unique(samples, return_counts=True)
    below = np.cumsum(counts)[:-1] / samples.size
    x = ((values[1:] + values[:-1]) / 2) ** 2 / (2 * level**2)
    terms = [x**k / math.factorial(k) for k in range(coils)]
    expected = 1 - np.exp(-x) * np.sum(terms, axis=0)
    return float(np.abs(below - expected).max()) if below.size else 1.0


def clipped_samples(
    images: Float[np.ndarray, "E H W"], *, zeros: bool = True
) -> Clipped:
    """Which values are the fill of the background, or the top of the file's range.

    Low are zeros, and the smallest value of all where a hundredth of the voxels or more
    hold it in all contrasts. High is the largest value of a contrast that is cut, also
    where other contrasts have it. A contrast counts as cut where more than 8 + 5 n
    voxels hold its largest value, n the mean number of voxels at the five values below,
    and these voxels hold more than a quarter as many different values in another
    contrast: with one contrast nothing is high.

    Args:
        images: One slice, real, in any unit: NumPy, values are read. Numbers that are
            not finite are neither.
        zeros: Whether a 0 is no sample; False for a signal that crosses 0: then a 0 is
            never low, also where it is the smallest value.

    Returns:
        `low` and `high`, flags of the shape of the images; no sample is both. A slice
        of one value has neither, unless the value is a 0 that is no sample.

    Raises:
        ValueError: images that are not [E, H, W] of floats.
    """
    check_arrays("clipped_samples", images=(images, "E H W", float))
    finite = np.isfinite(images)
    if not finite.all():
        images = np.where(finite, images, np.nan)
    low = (images == 0) & zeros
    smallest = np.nanmin(images, initial=np.inf)
    if smallest != 0:
        least = images == smallest
        fill = least.all(axis=0)
        if fill.mean() >= _FILL and not fill.all():
            low |= least
    high = np.zeros(images.shape, bool)
    for e, top in enumerate(np.nanmax(images, axis=(1, 2), initial=-np.inf)):
        if _piled_up(images[e], top, [*images[:e], *images[e + 1 :]]):
            high |= images == top
    return Clipped(low, high & ~low)


def _piled_up(
    image: Float[np.ndarray, "H W"],
    top: float,
    others: Sequence[Float[np.ndarray, "H W"]],
) -> bool:
    """Whether the largest value, `top`, is one that larger ones were cut to."""
    tied = image == top
    count = int(tied.sum())
    if count > _TIED:  # sorting is for the few images that may need it
        values, counts = np.unique(image[np.isfinite(image)], return_counts=True)
        below = counts[-6:-1] if counts.size > 1 else counts
        varied = any(np.unique(other[tied]).size > count // 4 for other in others)
        return values.size > 1 and count > _TIED + _PILE * below.mean() and varied
    return False
