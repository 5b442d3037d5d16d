"""Proximal maps: the sparsity and low rank that a reconstruction may ask for."""

import math
import numbers

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int

from medjax.checks import (
    NUMBERS,
    Kind,
    check_arrays,
    check_flags,
    check_integers,
    check_ranges,
)
from medjax.mri.shrinkage import shrinkage
from medjax.mri.wavelet import (
    detail_mask,
    inverse_wavelet_transform,
    pad_to_multiple,
    wavelet_transform,
)
from medjax.types import Key


def soft_threshold(
    x: Inexact[Array, "*N"], threshold: float | Array
) -> Inexact[Array, "*N"]:
    """argmin_u |u - x|^2 / 2 + threshold |u| = x max(1 - threshold / |x|, 0).

    Args:
        x: Real or complex, in any unit, element by element; of a complex number the
            modulus shrinks and the phase stays. NaN stays NaN, and a real infinity
            itself unless the threshold is infinite too; a complex one gets a NaN part.
        threshold: In the unit of x and read in its precision, at least 0 (a threshold
            of 0 returns x): a scalar, or an array of as many axes as x, each of its
            length or of length 1. An entry of an array that is negative or NaN gives
            NaN.

    Returns:
        Of the shape and dtype of x. The derivative is that of the formula; where x is 0
        and where |x| equals the threshold, it is that of the smaller |x|.

    Raises:
        ValueError: an x of integers, a threshold of other axes, or a Python number that
            is below 0 or NaN.
    """
    threshold = _threshold(
        "soft_threshold",
        threshold,
        "*#N" if jnp.ndim(threshold) else "",
        x=(x, "*N", (float, complex)),
    )
    magnitude = jnp.abs(x)
    kept = _kept(magnitude, threshold.astype(magnitude.dtype))
    return x * kept.astype(x.dtype)


def _kept(
    magnitude: Float[Array, "*N"], threshold: Float[Array, "*#N"]
) -> Float[Array, "*N"]:
    """max(1 - threshold / magnitude, 0), and what `soft_threshold` says of edges."""
    above = magnitude > threshold
    # Below a threshold of 0 there is x = 0 alone: the factor is that of x returned.
    below = jnp.where(
        jnp.isnan(threshold), jnp.nan, jnp.where(threshold == 0, 1.0, 0.0)
    )
    below = below.astype(magnitude.dtype)
    return jnp.where(above, 1 - threshold / jnp.where(above, magnitude, 1), below)


def wavelet_prox(
    images: Inexact[Array, "*N H W"],
    threshold: float | Array,
    *,
    levels: int,
    order: int = 4,
    shift: tuple[Array | int, Array | int] | None = None,
    joint: bool = False,
) -> Inexact[Array, "*N H W"]:
    """argmin_u |u - x|^2 / 2 + threshold |D u|_1, D the details of db`order` wavelets.

    With `joint` |D u|_1 is the sum of the lengths sqrt(sum_k |d_k|^2) over the images k
    of the third axis from the end: all details of a place are kept, or none.

    The coarse image is not penalised. Wavelets are periodic: they go on at the opposite
    edge. Where H or W is no multiple of 2^levels, images are padded with zeros, and the
    result is cropped. The map is then the proximal map of a slightly different penalty;
    it still brings no two images further apart.

    Args:
        images: Real or complex, in any unit; NaN spreads over all of its own image.
        threshold: At least 0 in the unit of the images, read in their precision; 0
            returns them, but for rounding: a scalar, or an array of as many axes as N
            (with `joint` without the last of them), each of its length or of length 1.
            An entry of an array that is negative or NaN makes its images NaN.
        levels: How often the coarse image is split, at least 0 (nothing is penalised).
            Static.
        order: Vanishing moments of the Daubechies wavelet, 1 to 38; 1 is Haar, 4 the
            usual db4. Static.
        shift: Rows and columns to move the wavelets' grid by, in whole pixels, of any
            sign; multiples of 2^levels change nothing but at padded edges. None = no
            shift.
        joint: Whether the images of the third axis from the end share their edges.
            Static.

    Returns:
        Of the shape and dtype of the images.

    Raises:
        ValueError: fewer than two axes (three with `joint`), integers, or options
            outside their range.
    """
    check_integers("wavelet_prox", levels=(levels, 0, None))
    check_flags("wavelet_prox", joint=joint)
    threshold = _threshold(
        "wavelet_prox",
        threshold,
        "*#N" if jnp.ndim(threshold) else "",
        images=(images, "*N K H W" if joint else "*N H W", (float, complex)),
    )
    if threshold.ndim:
        threshold = threshold[(..., *[None] * (images.ndim - threshold.ndim))]
    rows, cols = images.shape[-2:]
    padded = pad_to_multiple(images, 2**levels)
    coefficients = wavelet_transform(_roll(padded, shift), levels=levels, order=order)
    details = detail_mask(padded.shape[-2:], levels=levels)
    if joint:
        power = jnp.sum(_power(coefficients), axis=-3, keepdims=True)
        none = power == 0
        length = jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, power)))
        kept = _kept(length, threshold.astype(length.dtype))
        sparse = coefficients * kept.astype(coefficients.dtype)
    else:
        sparse = soft_threshold(coefficients, threshold)
    coefficients = jnp.where(details, sparse, coefficients)
    result = inverse_wavelet_transform(coefficients, levels=levels, order=order)
    return _roll(result, shift, back=True)[..., :rows, :cols]


def low_rank_prox(
    images: Inexact[Array, "*N E H W"],
    threshold: float | Array,
    *,
    block: int,
    shift: tuple[Array | int, Array | int] | None = None,
) -> Inexact[Array, "*N E H W"]:
    """argmin_u |u - x|^2 / 2 + threshold sum_b |u_b|_*, over blocks of the image.

    u_b [block^2, E] holds the contrasts of one block; the nuclear norm |.|_* is the sum
    of the singular values s, which become max(s - threshold, 0).

    From the E x E Gram matrix x^H x = V s^2 V^H: u = x V max(1 - threshold / s, 0) V^H,
    much cheaper than singular vectors of the blocks. Singular values below sqrt(eps)
    times the block's largest are not resolved (3e-4 in float32): a threshold well below
    that leaves or removes them by chance.

    Args:
        images: Real or complex, in any unit; NaN spreads over all contrasts of its own
            block.
        threshold: At least 0 in the unit of the images, read in their precision: a
            scalar, or an array of as many axes as N, each of its length or of length 1;
            a singular value is up to `block` sqrt(E) times a pixel. An entry of an
            array that is negative or NaN makes its images NaN.
        block: Side of the blocks in pixels, at least 1. Where H or W is no multiple of
            it, the last block is cut at the image's edge; from max(H, W) on the image
            is one block. Static.
        shift: Rows and columns to move the blocks' grid by, in whole pixels, of any
            sign. None = no shift.

    Returns:
        Of the shape and dtype of the images. First derivatives are right where singular
        values are equal or 0 too (at s = threshold, where there is none, that of a
        smaller s); second derivatives are NaN where two singular values of a block are
        equal.

    Raises:
        ValueError: fewer than three axes, integers, or options outside their range.
    """
    threshold = _threshold(
        "low_rank_prox",
        threshold,
        "*#N" if jnp.ndim(threshold) else "",
        images=(images, "*N E H W", (float, complex)),
    )
    check_integers("low_rank_prox", block=(block, 1, None))
    if 0 in images.shape:
        return jnp.asarray(images)
    *batch, contrasts, _, _ = images.shape
    rows, cols = images.shape[-2:]
    padded = _roll(pad_to_multiple(images, block), shift)
    h, w = (n // block for n in padded.shape[-2:])
    # One axis at a time, which keeps the sharding of the others on an explicit mesh.
    lines = padded.reshape(*batch, contrasts, h, block, w * block)
    blocks = lines.reshape(*batch, contrasts, h, block, w, block)
    gram = jnp.einsum(
        "...eaibj,...faibj->...abef", jnp.conj(blocks), blocks, precision="highest"
    )
    lead = threshold.shape or (1,) * len(batch)
    threshold = threshold.reshape(*lead, 1, 1, 1).astype(jnp.real(gram).dtype)
    shrink = shrinkage(gram, threshold)
    blocks = jnp.einsum(
        "...eaibj,...abef->...faibj", blocks, shrink, precision="highest"
    )
    result = blocks.reshape(lines.shape).reshape(padded.shape)
    result = _roll(result, shift, back=True)
    return result[..., :rows, :cols]


def random_shift(key: Key, size: int) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Rows and columns, uniform in 0 .. size - 1, for the `shift` of a proximal map.

    A new shift in every iteration averages over the positions of a grid, whose edges
    would show otherwise (cycle spinning: Figueiredo and Nowak, IEEE TIP 12, 2003).

    Args:
        key: One key, typed or of `jax.random.PRNGKey`; do not use it again.
        size: Period of the grid in pixels, at least 1 (no shift): 2^levels for
            wavelets, `block` for blocks. Static.

    Returns:
        Two scalars in int32, whether JAX has 64 bits or not.

    Raises:
        ValueError: several keys, or a size that is below 1, no integer or traced.
    """
    check_integers("random_shift", size=(size, 1, None))
    rows, cols = jax.random.randint(key, (2,), 0, size, jnp.int32)
    return rows, cols


def _threshold(
    function: str,
    threshold: float | Array,
    axes: str,
    **arrays: tuple[Array, str, Kind | tuple[Kind, ...]],
) -> Float[Array, "..."]:
    """As an array, after the checks of it and of `arrays`, which set its axes."""
    check_arrays(function, **arrays, threshold=(threshold, axes, NUMBERS))
    if isinstance(threshold, numbers.Real):
        check_ranges(function, threshold=(threshold, 0, math.inf))
        return jnp.asarray(threshold)
    threshold = jnp.asarray(threshold)
    if not jnp.issubdtype(threshold.dtype, jnp.floating):
        threshold = threshold.astype(jnp.float32)
    return jnp.where(threshold >= 0, threshold, jnp.nan)


def _power(x: Array) -> Array:
    return jnp.real(x) ** 2 + jnp.imag(x) ** 2 if jnp.iscomplexobj(x) else x**2


def _roll(
    images: Array, shift: tuple[Array | int, Array | int] | None, *, back: bool = False
) -> Array:
    if shift is None:
        return images
    if len(shift) != 2:
        raise ValueError(
            f"shift: expected whole rows and columns, or None; found {shift!r}"
        )
    rows, cols = shift
    check_arrays("shift", rows=(rows, "", int), columns=(cols, "", int))
    return jnp.roll(images, (-rows, -cols) if back else (rows, cols), (-2, -1))
