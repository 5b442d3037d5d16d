"""Noise of the receiver coils, and what becomes of it in an image.

Complex noise n has covariance Psi = E[n n^H] over the coils; its variance counts both
parts, so the real part of white noise of variance 1 has variance 1/2. With the
orthonormal transform a fully sampled image of normalised sensitivities has the noise
variance of one k-space sample, everywhere.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import check_arrays
from medjax.mri.sense import mix_coils, normalize_sensitivities, root_sum_of_squares
from medjax.types import Key


def noise_covariance(
    samples: Complex[Array, "*B C N"],
) -> Complex[Array, "*B C C"]:
    """Psi = sum_n x_n x_n^H / N of N samples taken without a signal; noise has mean 0.

    Args:
        samples: Complex samples of all coils at once, in the unit of k-space; at least
            as many as coils, better 100 times. NaN makes its coil's row and column NaN.

    Returns:
        The Hermitian covariance, in the unit of k-space squared.

    Raises:
        ValueError: fewer samples than coils, which give a singular matrix; a wrong
            shape or dtype.
    """
    check_arrays("noise_covariance", samples=(samples, "*B C N", complex))
    coils, count = samples.shape[-2:]
    if count < coils:
        raise ValueError(
            f"expected noise samples [.., C, N] with N >= C, found {samples.shape}: "
            f"{coils} coils need at least {coils} samples, better 100 times as many"
        )
    return jnp.einsum("...cn,...dn->...cd", samples, samples.conj()) / count


def whitening_matrix(
    covariance: Complex[Array, "*B C C"],
) -> Complex[Array, "*B C C"]:
    """L^-1 with Psi = L L^H (Cholesky): `mix_coils` by it makes the covariance 1.

    Args:
        covariance: Hermitian and positive definite, as `noise_covariance` gives it; one
            that is not (a dead coil) gives NaN, in all of its slice.

    Returns:
        A lower triangular matrix, in the inverse unit of k-space.

    Raises:
        ValueError: a matrix that is not square or not complex.
    """
    check_arrays("whitening_matrix", covariance=(covariance, "*B C C", complex))
    lower = jnp.linalg.cholesky(covariance)
    identity = jnp.broadcast_to(
        jnp.eye(covariance.shape[-1], dtype=covariance.dtype), covariance.shape
    )
    return jax.scipy.linalg.solve_triangular(lower, identity, lower=True)


def prewhiten(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    covariance: Complex[Array, "*B C C"],
) -> tuple[
    Complex[Array, "*B E C H W"], Complex[Array, "*B C H W"], Float[Array, "*B H W"]
]:
    """(k-space, sensitivities, scale) of white coils; images become scale * images.

    Whitened sensitivities are normalised again, by their root sum of squares: the
    scale, the same for every contrast, so that relaxation times do not change. Its
    inverse is the noise deviation of the fully sampled image in the old units. Where
    sensitivities are yet to be estimated, whiten k-space first, by `mix_coils`.

    Args:
        kspace: In the unit of the covariance's root, 0 where not sampled.
        sens: Maps of the coils as measured, sum_c |S_c|^2 = 1, or 0 outside the object,
            where the new maps and the scale are 0 as well.
        covariance: Positive definite, one a slice; with any other k-space and scale are
            NaN and the maps 0.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    check_arrays(
        "prewhiten",
        kspace=(kspace, "*B E C H W", complex),
        sens=(sens, "*B C H W", complex),
        covariance=(covariance, "*B C C", complex),
    )
    whitening = whitening_matrix(covariance)
    white = mix_coils(sens, whitening)
    scale = root_sum_of_squares(white)
    return mix_coils(kspace, whitening), normalize_sensitivities(white, floor=0), scale


def combined_variance(
    sens: Complex[Array, "*B C H W"], covariance: Complex[Array, "*B C C"]
) -> Float[Array, "*B H W"]:
    """S^H Psi S: of the fully sampled `sense_adjoint`, for noise that is not white.

    Args:
        sens: Maps with sum_c |S_c|^2 = 1; 0 outside the object, where the result is 0.
        covariance: Of the k-space samples, one a slice; the result has its unit, that
            of k-space squared.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    check_arrays(
        "combined_variance",
        sens=(sens, "*B C H W", complex),
        covariance=(covariance, "*B C C", complex),
    )
    return jnp.sum(jnp.real(sens.conj() * mix_coils(sens, covariance)), axis=-3)


def sense_variance(
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E 1 W"],
    *,
    damping: float | Float[Array, ""],
) -> Float[Array, "*B E H W"]:
    """Exact noise variance of the solved SENSE image, in units of white k-space noise.

    The minimiser of |A x - y|^2 + damping |x|^2 has the covariance M^-1 - damping M^-2,
    M = A^H A + damping. Whole columns are sampled, so every row is a problem of its
    own, with a dense matrix of W x W: it is inverted, one row of the image at a time.
    The g-factor is sqrt(variance / (W / sampled columns)) for damping = 0.

    Args:
        sens: Of whitened coils, sum_c |S_c|^2 = 1, or 0 outside; there the result is 0.
        mask: Whole columns of centred k-space, for any others see `replica_variance`.
        damping: Without a unit, as A^H A is at most 1; at least 0, and above 0 where
            coils and lines do not determine the image (else NaN).

    Raises:
        ValueError: a mask that is not of whole columns, shapes that do not fit.
    """
    if mask.shape[-2:-1] != (1,):
        raise ValueError(
            "sense_variance: mask: expected whole columns [.., E, 1, W], found "
            f"{mask.shape}; replica_variance takes any"
        )
    check_arrays(
        "sense_variance",
        sens=(sens, "*B C H W", complex),
        mask=(mask, "*B E 1 W", (bool, int, float)),
        damping=(damping, "", (float, int)),
    )
    width = mask.shape[-1]
    real = jnp.finfo(sens.dtype).dtype
    kernel = jnp.fft.ifft(jnp.fft.ifftshift(mask[..., 0, :], -1).astype(sens.dtype))
    index = jnp.arange(width, dtype=jnp.int32)
    toeplitz = kernel[..., (index[:, None] - index[None]) % width]  # [.., E, W, W]
    inside = jnp.any(sens != 0, axis=-3)  # [.., H, W]
    damping = jnp.asarray(damping, real)

    def row_variance(
        row: tuple[Complex[Array, "*B C W"], Bool[Array, "*B W"]],
    ) -> Float[Array, "*B E W"]:
        coils, kept = row
        gram = jnp.einsum("...cv,...cw->...vw", coils.conj(), coils)
        normal = toeplitz * gram[..., None, :, :]
        # Outside, where a row of the matrix is 0, any pivot will do.
        pivot = jnp.where(kept, damping, 1).astype(sens.dtype)[..., None, :, None]
        identity = jnp.broadcast_to(jnp.eye(width, dtype=sens.dtype), normal.shape)
        factor = jax.scipy.linalg.cho_factor(normal + pivot * identity, lower=True)
        inverse = jax.scipy.linalg.cho_solve(factor, identity)
        power = jnp.sum(jnp.real(inverse * inverse.conj()), axis=-1)
        diagonal = jnp.real(jnp.diagonal(inverse, axis1=-2, axis2=-1))
        return jnp.where(kept[..., None, :], diagonal - damping * power, 0)

    rows = (jnp.moveaxis(sens, -2, 0), jnp.moveaxis(inside, -2, 0))
    return jnp.moveaxis(jax.lax.map(row_variance, rows), 0, -2)


def replica_variance(
    reconstruct_fn: Callable[[Complex[Array, "*K"]], Inexact[Array, "*N"]],
    kspace: Complex[Array, "*K"],
    key: Key,
    *,
    replicas: int,
) -> Float[Array, "*N"]:
    """Variance over reconstructions of k-space with white noise of variance 1 added.

    For a linear reconstruction give zeros: the result holds for any image. Otherwise
    scale k-space so that its own noise has variance 1. Moments run: memory does not
    grow with `replicas`; the standard error is variance * sqrt(2 / replicas) at most.

    Args:
        reconstruct_fn: k-space -> images, real or complex; it must apply the mask
            itself, because noise is added to every point.
        kspace: What noise is added to, of any shape; in units of its noise deviation.
        key: Split into one key a replica; do not use it again.
        replicas: How many reconstructions, at least 2 (1 gives NaN); the time is that
            of as many.

    Returns:
        The variance of every pixel, that of both parts together where images are
        complex, in units of the noise variance of a k-space sample.

    Source: Robson et al., pseudo multiple replicas, MRM 60 (2008).
    """

    def replica(key: Key) -> Inexact[Array, "*N"]:
        return reconstruct_fn(kspace + jax.random.normal(key, kspace.shape, dtype))

    def add(moments, item):
        mean, power = moments
        count, image = item[0], replica(item[1])
        change = image - mean
        mean = mean + change / count.astype(mean.dtype)
        power = power + jnp.real(change * jnp.conj(image - mean))
        return (mean, power), None

    dtype = kspace.dtype
    keys = jax.random.split(key, replicas)
    image = jax.eval_shape(replica, key)
    zero = jnp.zeros(image.shape, image.dtype)
    counts = jnp.arange(1, replicas + 1, dtype=jnp.int32)
    (_, power), _ = jax.lax.scan(add, (zero, jnp.real(zero)), (counts, keys))
    return power / (replicas - 1)
