"""What a fit leaves of each contrast, added up over the voxels that have a signal."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from medjax.checks import check_arrays
from medjax.mri.fit import FitResult
from medjax.mri.magnitude import expected_magnitude
from medjax.mri.model import SignalModel
from medjax.mri.samples import FitStatus
from medjax.mri.signals import model_signal
from medjax.mri.times import Times

FAINT = 0.1  # of a slice's brightest voxels
# Residuals that a bright voxel is above: of noise alone, whose fit leaves about 0.65 of
# its level, the largest of eight magnitudes is then bright in 1 of 5,000 voxels.
_NOISE = 7.0
_LARGEST = 0.3  # of the brightest: what noise may raise the limit to
_HALF = 0.5  # likewise, a floor
_PLACES = 4096  # voxels that quantiles are taken of: sorting all would be slow


class ContrastSums(NamedTuple):
    """Sums over the bright voxels of a slice; sums of slices are those of all of them.

    `residual / signal` is the mean residual of a contrast as a share of its signal.
    """

    count: Float[Array, "*B"]  # bright voxels with a fit
    signal: Float[Array, "*B E"]  # sum of |S|, S the fitted signal
    residual: Float[Array, "*B E"]  # sum of y - S
    square: Float[Array, "*B E"]  # sum of (y - S)^2
    faint: Float[Array, "*B E"]  # how many |S| are below two noise levels


def bright_voxels(
    images: Float[Array, "E *B H W"],
    fit: FitResult,
    *,
    floor: Float[Array, ""] | float = 0.0,
) -> Bool[Array, "*B H W"]:
    """Where there is an object: the largest sample stands out of the slice's.

        max_e |y_e| > max(0.1 q, min(7 r, 0.3 q), min(f, 0.5 q))

    q is the 99th percentile of the left side over the voxels with a signal, r the
    median of the fit's residual, by which voxels of noise alone are left out. Large
    slices take both from 4096 voxels or a few more, evenly spread.

    Args:
        images: Contrasts first, real, in any unit.
        fit: Of these images. A voxel without a signal is not bright; one that could not
            be fitted is judged by its samples, and one with a sample that is not finite
            is bright: it counts as failed wherever it lies.
        floor: f, what magnitudes of noise alone reach, in the unit of the images, a
            number or a scalar; 0 or less asks for nothing, NaN finds no bright voxel
            but those with a sample that is not finite.

    Returns:
        One flag a voxel.

    Raises:
        ValueError: images that are not [E, .., H, W] of floats, E at least 1, a fit of
            other voxels, or a floor that is no scalar.
    """
    check_arrays(
        "bright_voxels",
        images=(images, "E *B H W", float),
        floor=(floor, "", (float, int)),
        **{
            "fit.status": (fit.status, "*B H W", int),
            "fit.residual": (fit.residual, "*B H W", float),
        },
    )
    if not images.shape[0]:
        raise ValueError("bright_voxels: images: expected E >= 1 contrasts, found 0")
    peak = jnp.max(jnp.abs(images), axis=0)
    empty = fit.status == FitStatus.NO_SIGNAL
    top = _quantile(jnp.where(empty, jnp.nan, peak), 0.99)
    noise = _NOISE * _quantile(fit.residual, 0.5)
    noise = jnp.where(jnp.isnan(noise), 0, noise)
    limit = jnp.maximum(FAINT * top, jnp.minimum(noise, _LARGEST * top))
    floor = jnp.asarray(floor, images.dtype)
    limit = jnp.maximum(limit, jnp.minimum(floor, _HALF * top))
    return ~empty & ((peak > limit[..., None, None]) | jnp.isnan(peak))


def _quantile(maps: Float[Array, "*B H W"], share: float) -> Float[Array, "*B"]:
    """Of the finite ones; NaN where there are none."""
    flat = maps.reshape(*maps.shape[:-2], -1)
    flat = jnp.sort(flat[..., :: max(flat.shape[-1] // _PLACES, 1)])  # NaN comes last
    count = jnp.sum(~jnp.isnan(flat), axis=-1, keepdims=True, dtype=flat.dtype)
    place = jnp.maximum(jnp.asarray(share, flat.dtype) * (count - 1), 0)
    # By hand: `jnp.nanquantile` does not run on a mesh whose axes are Explicit.
    low, high = (
        jnp.take_along_axis(flat, rounded(place).astype(jnp.int32), axis=-1)
        for rounded in (jnp.floor, jnp.ceil)
    )
    part = place - jnp.floor(place)
    return (low * (1 - part) + high * part)[..., 0]


def residual_by_contrast(
    images: Float[Array, "E *B H W"],
    times: Times,
    fit: FitResult,
    model: SignalModel,
    bright: Bool[Array, "*B H W"],
    *,
    level: Float[Array, "*B #H #W"] | None = None,
    coils: int | None = None,
) -> ContrastSums:
    """Sums over bright voxels, from which means and standard errors follow.

    A model that is right leaves a mean residual of about 0 in every contrast: what is
    more than its standard error, std / sqrt(count), is the model's.

    Args:
        images: What was fitted, contrasts first, real, in any unit. A sample that is
            not finite is left out of its own contrast.
        times: Those of the fit, in seconds (flip angles: radians), one a contrast;
            their values are not checked again: NaN leaves its contrast out.
        fit: Of these images; voxels without a value (NaN by their status) are left out.
        model: The one that was fitted; another one is not noticed if its parameters
            have the same names.
        bright: The voxels to count, bool, see `bright_voxels`. Without one all sums are
            0.
        level: Standard deviation of the noise in the images' unit, 0 or more, which is
            not checked: `faint` counts by it, and with `coils` the other sums go by it
            too, of which NaN leaves its voxels out and a negative one counts as 0. None
            takes it from the residual of each voxel, r sqrt(E / (E - P)) of E contrasts
            and P parameters, E - P being 1 at least.
        coils: The channels of absolute values, 1 to 64, static: they are compared with
            their mean at that level, `expected_magnitude`. None compares with the
            signal itself.

    Returns:
        Sums over each slice's H x W voxels, in the unit of the images (squares in its
        square); those of several slices may be added up. `count` is the voxels with a
        fit, also of a contrast of which samples are left out.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_arrays(
        "residual_by_contrast",
        images=(images, "E *B H W", float),
        bright=(bright, "*B H W", bool),
        level=(level, "*B #H #W", float),
    )
    fitted = model_signal("residual_by_contrast", model, fit.params, times)
    check_arrays(
        "residual_by_contrast",
        images=(images, "E *B H W", float),
        **{"signal of fit and times": (fitted, "E *B H W", float)},
    )
    fitted = fitted.astype(images.dtype)
    size = jnp.abs(fitted)
    if level is None:
        count, unknowns = images.shape[0], len(model.parameters)
        level = fit.residual * (count / max(count - unknowns, 1)) ** 0.5
    noise = jnp.asarray(level, size.dtype)[None]
    left = images - fitted
    if coils is not None:
        least = jnp.finfo(size.dtype).eps * jnp.max(size, axis=0, keepdims=True)
        noise = jnp.maximum(noise, jnp.where(least > 0, least, 1))
        left = images - expected_magnitude(size, noise=noise, coils=coils)
    faint = size < 2 * noise
    known = bright & (fit.status <= FitStatus.AT_BOUND)

    def total(x: Inexact[Array, "E *B H W"]) -> Float[Array, "*B E"]:
        kept = jnp.where(known[None] & jnp.isfinite(left), x.astype(size.dtype), 0)
        return jnp.moveaxis(jnp.sum(kept, axis=(-2, -1)), 0, -1)

    return ContrastSums(
        jnp.sum(known, axis=(-2, -1), dtype=size.dtype),
        total(size),
        total(left),
        total(jnp.square(left)),
        total(faint),
    )


def even_odd_misfit(
    sums: ContrastSums,
) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """How far the residual alternates from echo to echo, and its standard error.

        sum_e (-1)^e residual_e / sum_e signal_e,   e = 0 for the first echo

    Below 0 where odd echoes (the first, the third) are too low: stimulated echoes do
    that to a decay. Refocusing at 150 degrees gives -3 %, at 165 -1 %, for T2 of 80 ms
    and echoes 10 ms apart.

    Args:
        sums: Of `residual_by_contrast`, contrasts in the order of their times.

    Returns:
        The share of the signal, and its standard error if voxels are independent, the
        root of the sum of all (y - S)^2 over the same signal; NaN without a voxel.

    Raises:
        ValueError: sums whose shapes differ.
    """
    check_arrays(
        "even_odd_misfit",
        **{
            "sums.signal": (sums.signal, "*B E", float),
            "sums.residual": (sums.residual, "*B E", float),
            "sums.square": (sums.square, "*B E", float),
        },
    )
    signs = jnp.where(jnp.arange(sums.signal.shape[-1]) % 2 == 0, 1, -1)
    total = jnp.sum(sums.signal, axis=-1)
    share = sums.residual @ signs.astype(total.dtype) / total
    return share, jnp.sqrt(jnp.sum(sums.square, axis=-1)) / total
