"""The smooth phase of a scan's images, from the centre of k-space: shared, or not."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Complex, Float

from medjax.checks import FLAGS, check_arrays, check_integers
from medjax.mri.sense import sense_adjoint

_BRIGHT = 0.1  # of the brightest pixel: fainter ones have no phase worth a test
_OUTER = 0.7  # of the sampled extent: beyond it k-space is mostly noise


def smooth_phase(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    *,
    width: int,
    contrast: int | None = None,
) -> Float[Array, "*B 1 H W"]:
    """Phase of the low-resolution image, rad, for `constraint="phase"`.

        phase = arg A^H (h y), summed over contrasts; h a Hann window over k-space

    A^H is `sense_adjoint`, y the k-space. At k points from the origin the window is
    cos(pi k / width)^2 along each axis, and 0 from k = width / 2 on.

    Args:
        kspace: k-space in any unit, its origin at [H // 2, W // 2]. Its middle `width`
            rows and columns must be fully sampled, which is not checked. A number that
            is not finite makes the phase of its slice NaN, also where the window is 0;
            in a contrast that is not taken it does nothing.
        sens: Maps with sum_c |S_c|^2 = 1, or 0 outside the object. Their own phase is
            not part of the result. A pixel at which a coil is not finite is NaN.
        width: Width of the window in points of k-space, a static integer of at least 1
            (the mean of the image alone): the fewer, the smoother. Wider than the
            image, it only tapers.
        contrast: The index of one contrast, to take it alone: a static integer from -E
            to E - 1. Signs of inversion recovery differ between contrasts; that of the
            longest inversion time, where all signals have recovered, leaves the others
            signed. None takes the sum over contrasts, for signals of one sign.

    Returns:
        The phase in rad, -pi to pi, real, in the precision of k-space. It is 0, with
        the derivative 0, where the low-resolution image is 0, as it is where all
        sensitivities are 0.

    Raises:
        ValueError: shapes that do not fit each other, numbers that are not complex, a
            width or a contrast out of its range or traced.

    Phases that differ between contrasts (gradient echoes off resonance) are not shared:
    `phase_misfit` tells.
    Source: homodyne detection, Noll, Nishimura and Macovski, IEEE TMI 10 (1991).
    """
    check_arrays(
        "smooth_phase",
        kspace=(kspace, "*B E C H W", complex),
        sens=(sens, "*B C H W", complex),
    )
    check_integers("smooth_phase", width=(width, 1, None))
    if contrast is not None:
        contrasts = kspace.shape[-4]
        check_integers("smooth_phase", contrast=(contrast, -contrasts, contrasts - 1))
        kspace = kspace[..., contrast, :, :, :][..., None, :, :, :]
    images, _ = _low_resolution(kspace, sens, width)
    total = jnp.sum(images, axis=-3, keepdims=True)
    # The angle of 0 is 0 or pi by the zeros' signs, and its derivative is NaN.
    return jnp.angle(jnp.where(total == 0, 1, total))


class PhaseMisfit(NamedTuple):
    """What of each contrast does not have the phase inside the sensitivities."""

    share: Float[Array, "*B E"]  # of its energy, 0 to 1: about the mean of sin^2 angle
    noise: Float[Array, "*B E"]  # what noise alone makes of it, 5 standard errors more


def phase_misfit(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    *,
    width: int,
    signed: bool,
) -> PhaseMisfit:
    """How much real images would lose, as a share of each contrast's energy.

        share_e = sum |x_e - r_e|^2 / sum |x_e|^2,   x = A^H (h y)

    over the bright pixels (|x| of the brightest contrast above 0.1 of the slice's
    largest), A^H being `sense_adjoint`, h a Hann window, r_e the real part of x_e,
    without the negative one where signals have one sign. A shared angle d leaves
    sin(d)^2. The window is that of `smooth_phase`: cos(pi k / width)^2 along each axis,
    0 from k = width / 2 on.

    Args:
        kspace: k-space in any unit, its origin at [H // 2, W // 2], 0 where not
            sampled; its middle `width` rows and columns must be fully sampled, which is
            not checked. A number that is not finite makes its slice NaN.
        sens: Maps with sum_c |S_c|^2 = 1, or 0 outside the object, with the shared
            phase inside. A number that is not finite makes its slice NaN.
        mask: bool or integers, not 0 where sampled, [.., E, 1, W] for whole columns.
            Noise is taken from the outermost sampled points, where it is overestimated
            rather than missed; without a sampled point it is 0.
        width: Width of the window in points of k-space, a static integer of at least 1,
            as in `smooth_phase`.
        signed: Whether contrasts may be negative (inversion recovery): a contrast that
            is turned by pi is then no misfit. Static.

    Returns:
        `share` as above, and `noise`: what noise alone would make of it, and 5 standard
        errors more. Both are 0 for a contrast without signal.

    Raises:
        ValueError: shapes or dtypes that do not fit, a width below 1 or traced.
    """
    check_arrays(
        "phase_misfit",
        kspace=(kspace, "*B E C H W", complex),
        sens=(sens, "*B C H W", complex),
        mask=(mask, "*B E #H #W", FLAGS),
    )
    check_integers("phase_misfit", width=(width, 1, None))
    every = tuple(range(-4, 0))
    size = jnp.max(jnp.abs(kspace), every, keepdims=True)
    scaled = kspace / jnp.where(size > 0, size, 1).astype(kspace.dtype)
    images, gain = _low_resolution(scaled, sens, width)
    power = jnp.real(images) ** 2 + jnp.imag(images) ** 2
    reference = jnp.max(power, axis=-3, keepdims=True)
    limit = _BRIGHT**2 * jnp.max(reference, axis=(-2, -1), keepdims=True)
    bright = reference > limit
    real = jnp.real(images)
    kept = real if signed else jnp.maximum(real, 0)
    lost = jnp.where(bright, jnp.maximum(power - kept**2, 0), 0)

    def total(x):
        return jnp.sum(x, axis=(-2, -1))

    energy = total(jnp.where(bright, power, 0))
    energy = jnp.where(energy > 0, energy, jnp.inf)
    broken = ~jnp.isfinite(limit[..., 0, 0])  # no pixel is brighter than NaN
    # Of a pixel's noise the imaginary half is lost; without a signal half of the real
    # one as well; and the phase that was removed has noise of its own.
    each = _noise_power(scaled, mask)[..., None] * gain
    pixels = total(bright.astype(power.dtype))
    free = jnp.maximum(pixels * gain, 1)  # pixels that have noise of their own
    noise = 1.25 * each * pixels / energy * (1 + 5 * jnp.sqrt(2 / free))
    share = total(lost) / energy
    return PhaseMisfit(*(jnp.where(broken, jnp.nan, x) for x in (share, noise)))


def _low_resolution(
    kspace: Complex[Array, "*B E C H W"], sens: Complex[Array, "*B C H W"], width: int
) -> tuple[Complex[Array, "*B E H W"], float]:
    """Images of the centre, and the share of the noise's power that they keep."""
    rows, cols = (_hann(size, width, kspace.dtype) for size in kspace.shape[-2:])
    window = jnp.expand_dims(jnp.outer(rows, cols), range(kspace.ndim - 2))
    gain = np.prod([(_taper(size, width) ** 2).mean() for size in kspace.shape[-2:]])
    return sense_adjoint(kspace * window, sens), float(gain)


def _noise_power(
    kspace: Complex[Array, "*B E C H W"], mask: Bool[Array, "*B E #H #W"]
) -> Float[Array, "*B"]:
    """E |n|^2 of a sample, by the median of the outermost sampled ones."""
    kept = jnp.broadcast_to(mask, (*mask.shape[:-2], *kspace.shape[-2:])).astype(bool)
    outer = kept & False
    for axis in (-2, -1):
        shape = [1] * kept.ndim
        shape[axis] = kept.shape[axis]
        offset = np.abs(np.arange(shape[axis]) - shape[axis] // 2).reshape(shape)
        offset = jnp.asarray(offset, jnp.real(kspace).dtype)
        extent = jnp.max(jnp.where(kept, offset, 0), axis=(-3, -2, -1), keepdims=True)
        outer |= offset > _OUTER * extent
    power = jnp.real(kspace) ** 2 + jnp.imag(kspace) ** 2
    outer = jnp.broadcast_to((outer & kept)[..., None, :, :], power.shape)
    count = jnp.sum(outer, axis=(-4, -3, -2, -1), dtype=jnp.int32)
    ordered = jnp.where(outer, power, jnp.inf).reshape(*power.shape[:-4], -1)
    ordered = jnp.sort(ordered, axis=-1)
    place = jax.lax.broadcasted_iota(jnp.int32, ordered.shape, ordered.ndim - 1)
    middle = (place == (count[..., None] - 1) // 2) & (count[..., None] > 0)
    median = jnp.sum(jnp.where(middle, ordered, 0), axis=-1)
    return median / math.log(2)  # that of an exponential


def _hann(size: int, width: int, dtype: DTypeLike) -> Complex[Array, "size"]:
    return jnp.asarray(_taper(size, width), dtype)


def _taper(size: int, width: int) -> Float[np.ndarray, "size"]:
    offset = np.arange(size) - size // 2
    inside = np.abs(offset) < width / 2
    return np.where(inside, np.cos(np.pi * offset / width) ** 2, 0)
