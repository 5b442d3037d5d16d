"""Proximal maps: the sparsity and low rank that a reconstruction may ask for."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from medjax.checks import check_arrays
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
            modulus shrinks and the phase stays. NaN stays NaN, infinity itself.
        threshold: In the unit of x, at least 0 (which returns x): a scalar, or an array
            of as many axes as x, each of its length or of length 1.
    """
    magnitude = jnp.abs(x)
    above = magnitude > threshold
    kept = jnp.where(above, 1 - threshold / jnp.where(above, magnitude, 1), 0)
    return x * kept.astype(x.dtype)


def wavelet_prox(
    images: Inexact[Array, "*N H W"],
    threshold: float | Array,
    *,
    levels: int,
    order: int = 4,
    shift: tuple[Array, Array] | None = None,
) -> Inexact[Array, "*N H W"]:
    """argmin_u |u - x|^2 / 2 + threshold |D u|_1, D the details of db`order` wavelets.

    The coarse image is not penalised. Where H or W is no multiple of 2^levels, images
    are padded with zeros, and the result is cropped: T is then a tight frame instead of
    a basis, and the map is firmly non-expansive still, but the proximal map of a
    slightly different penalty.

    Args:
        images: Real or complex, in any unit; NaN spreads over all of its own image.
        threshold: A scalar of at least 0 in the unit of the images; 0 returns them, but
            for rounding.
        levels: How often the coarse image is split, at least 0 (nothing is penalised).
        order: Vanishing moments of the Daubechies wavelet; 1 is Haar, 4 the usual db4.
        shift: Rows and columns to move the wavelets' grid by, in pixels, of any sign;
            multiples of 2^levels change nothing but at padded edges. None = no shift.

    Raises:
        ValueError: a negative number of levels.
    """
    rows, cols = images.shape[-2:]
    padded = pad_to_multiple(images, 2**levels)
    coefficients = wavelet_transform(_roll(padded, shift), levels=levels, order=order)
    details = detail_mask(padded.shape[-2:], levels=levels)
    coefficients = jnp.where(
        details, soft_threshold(coefficients, threshold), coefficients
    )
    result = inverse_wavelet_transform(coefficients, levels=levels, order=order)
    return _roll(result, shift, back=True)[..., :rows, :cols]


def low_rank_prox(
    images: Inexact[Array, "*N E H W"],
    threshold: float | Array,
    *,
    block: int,
    shift: tuple[Array, Array] | None = None,
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
        threshold: A scalar of at least 0 in the unit of the images; a singular value is
            up to `block` sqrt(E) times a pixel.
        block: Side of the blocks in pixels, at least 1; blocks are cut at the image's
            edge.
        shift: Rows and columns to move the blocks' grid by, in pixels, of any sign.
            None = no shift.

    Raises:
        ValueError: fewer than three axes, or a dtype that is neither real nor complex.
    """
    check_arrays("low_rank_prox", images=(images, "*N E H W", (float, complex)))
    *batch, contrasts, _, _ = images.shape
    rows, cols = images.shape[-2:]
    padded = _roll(pad_to_multiple(images, block), shift)
    h, w = (n // block for n in padded.shape[-2:])
    blocks = padded.reshape(*batch, contrasts, h, block, w, block)
    gram = jnp.einsum(
        "...eaibj,...faibj->...abef", jnp.conj(blocks), blocks, precision="highest"
    )
    power, vectors = jnp.linalg.eigh(gram)
    singular = jnp.sqrt(jnp.maximum(power, 0))
    above = singular > threshold
    kept = jnp.where(above, 1 - threshold / jnp.where(above, singular, 1), 0)
    kept = kept[..., None, :].astype(vectors.dtype)
    shrink = (vectors * kept) @ jnp.conj(jnp.swapaxes(vectors, -1, -2))
    blocks = jnp.einsum(
        "...eaibj,...abef->...faibj", blocks, shrink, precision="highest"
    )
    result = _roll(blocks.reshape(padded.shape), shift, back=True)
    return result[..., :rows, :cols]


def random_shift(key: Key, size: int) -> tuple[Array, Array]:
    """Rows and columns, uniform in 0 .. size - 1, for the `shift` of a proximal map.

    A new shift in every iteration averages over the positions of a grid, whose edges
    would show otherwise (cycle spinning: Figueiredo and Nowak, IEEE TIP 12, 2003).

    Args:
        key: Consumed: do not use it again.
        size: Period of the grid in pixels, at least 1 (no shift): 2^levels for
            wavelets, `block` for blocks.
    """
    rows, cols = jax.random.randint(key, (2,), 0, size)
    return rows, cols


def _roll(
    images: Array, shift: tuple[Array, Array] | None, *, back: bool = False
) -> Array:
    if shift is None:
        return images
    rows, cols = shift
    return jnp.roll(images, (-rows, -cols) if back else (rows, cols), (-2, -1))
