"""Noise of the receiver coils, and what becomes of it in an image.

Complex noise n has covariance Psi = E[n n^H] over the coils; its variance counts both
parts, so the real part of white noise of variance 1 has variance 1/2. With the
orthonormal transform a fully sampled image of normalised sensitivities has the noise
variance of one k-space sample, everywhere.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import check_arrays, check_integers, check_key, check_ranges
from medjax.mri.moments import zero_moment
from medjax.mri.sense import mix_coils, normalize_sensitivities, root_sum_of_squares
from medjax.types import Key


def noise_covariance(
    samples: Complex[Array, "*B C N"],
) -> Complex[Array, "*B C C"]:
    """Psi = sum_n x_n x_n^H / N of N samples taken without a signal.

    Noise has the mean 0; the mean of the samples is not subtracted.

    Args:
        samples: Complex samples of all coils at once, in the unit of k-space: at least
            as many as coils, better 100 times as many. A number that is not finite
            spoils the row and the column of its coil.

    Returns:
        One Hermitian covariance a slice, in the dtype of the samples and in the unit of
        k-space squared. Without coils it is empty.

    Raises:
        ValueError: fewer samples than coils, which give a singular matrix; a wrong
            shape or dtype.
    """
    check_arrays("noise_covariance", samples=(samples, "*B C N", complex))
    coils, count = samples.shape[-2:]
    if count < max(coils, 1):
        raise ValueError(
            "noise_covariance: samples: expected [.., C, N] with N >= max(C, 1), found "
            f"{samples.shape}: {coils} coils need at least {max(coils, 1)} samples, "
            "better 100 times as many"
        )
    return jnp.einsum("...cn,...dn->...cd", samples, samples.conj()) / count


def whitening_matrix(
    covariance: Complex[Array, "*B C C"],
) -> Complex[Array, "*B C C"]:
    """L^-1 with Psi = L L^H (Cholesky): `mix_coils` by it makes the covariance 1.

    y = L^-1 x of coil samples x of covariance Psi has the covariance 1.

    Args:
        covariance: Hermitian and positive definite, as `noise_covariance` gives it, in
            the unit of k-space squared. One that is not positive definite (of a dead
            coil) gives NaN in its slice, and so do its derivatives.

    Returns:
        One lower triangular matrix a slice, in the dtype of the covariance and in the
        inverse unit of k-space.

    Raises:
        ValueError: a matrix that is not square or not complex.
    """
    check_arrays("whitening_matrix", covariance=(covariance, "*B C C", complex))
    if covariance.ndim > 2:  # each alone: JAX's Cholesky fails on a sharded batch
        return jax.vmap(whitening_matrix)(covariance)
    lower = jnp.linalg.cholesky(covariance)
    # Of a sharded batch both sides have to be sharded: so made of the other.
    identity = jnp.eye(covariance.shape[-1], dtype=covariance.dtype) + 0 * lower
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
        kspace: Samples in the unit of the covariance's root, 0 where not sampled. One
            that is not finite spoils all coils at its own point.
        sens: Maps of the coils as measured, sum_c |S_c|^2 = 1, or 0 outside the object,
            where the new maps and the scale are 0 as well. That they are normalised is
            not checked. A NaN makes the maps and the scale NaN at its pixel.
        covariance: Hermitian and positive definite, one a slice, in the unit of k-space
            squared. One that is not positive definite makes the k-space, the maps and
            the scale of its slice NaN; of one that is not Hermitian the Hermitian part
            (R + R^H) / 2 is taken.

    Returns:
        k-space with noise of variance 1 in every coil, without a unit; maps with
        sum_c |S_c|^2 = 1, or 0 outside; and the scale, at least 0, in the inverse unit
        of k-space.

    Raises:
        ValueError: shapes that do not fit each other, numbers that are not complex.
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
    """S^H Psi S, the noise variance of the fully sampled `sense_adjoint`.

    It holds for noise that is white over k-space and correlated between coils.

    Args:
        sens: Maps with sum_c |S_c|^2 = 1; 0 outside the object, where the result is 0.
            Other maps are not refused: the result grows with the square of their size.
            NaN at a pixel makes that pixel NaN.
        covariance: Psi, the covariance of k-space samples over the coils, one matrix a
            slice, in the unit of k-space squared, which the result gets. It has to be
            Hermitian and must not have negative eigenvalues, neither of which is
            checked: the real part of the formula is returned. NaN makes its slice NaN.

    Returns:
        The variance of each pixel's complex noise, both parts together: at least 0 for
        the matrices above.

    Raises:
        ValueError: shapes that do not fit each other, numbers that are not complex.
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

    The minimiser of |A x - y|^2 + damping |x|^2, A being `sense_forward`, has the
    covariance M^-1 - damping M^-2, M = A^H A + damping. Whole columns are sampled, so
    every row is a problem of its own, with a dense matrix of W x W: it is inverted, one
    row of the image at a time. The g-factor is sqrt(variance / (W / sampled columns))
    for damping = 0.

    Args:
        sens: Maps of whitened coils, sum_c |S_c|^2 = 1, or 0 outside the object, where
            the result is 0. They are not normalised here; one that is not finite spoils
            its row of the image in every contrast.
        mask: The sampled columns of centred k-space, boolean or integers of which all
            but 0 count as 1. For any other mask see `replica_variance`. A contrast
            without samples has the variance 0 where damping is above 0.
        damping: One number for all, without a unit, as A^H A is at most 1: finite and
            at least 0; infinity gives NaN, as does an array below 0. Above 0 where
            coils and columns do not determine the image: there 0 gives NaN or a number
            above 1 / rounding.

    Returns:
        The variance of each pixel's complex noise, both parts together, for k-space
        noise of variance 1 a sample; real, in the precision of `sens`.

    Raises:
        ValueError: a mask that is not of whole columns, or of floats; shapes that do
            not fit; maps that are not complex; a plain damping that is below 0 or
            NaN.
    """
    check_arrays(
        "sense_variance",
        sens=(sens, "*B C H W", complex),
        mask=(mask, "*B E _ W", (bool, int)),
        damping=(damping, "", (float, int)),
    )
    check_ranges("sense_variance", damping=(damping, 0, math.inf))
    if mask.shape[-2] != 1:
        raise ValueError(
            "sense_variance: mask: expected whole columns [.., E, 1, W], found "
            f"{mask.shape}; replica_variance takes any"
        )
    if sens.ndim > 3:
        one = functools.partial(sense_variance, damping=damping)
        return jax.vmap(one)(sens, mask)
    width = mask.shape[-1]
    columns = jnp.fft.ifftshift(mask[:, 0].astype(bool), -1)
    kernel = jnp.fft.ifft(columns.astype(sens.dtype))
    index = jnp.arange(width, dtype=jnp.int32)
    toeplitz = kernel[:, (index[:, None] - index[None]) % width]  # [E, W, W]
    inside = jnp.any(sens != 0, axis=0)  # [H, W]
    dtype = jnp.result_type(jnp.finfo(sens.dtype).dtype, damping)
    damping = jnp.asarray(damping, dtype)
    damping = jnp.where((damping >= 0) & (damping < jnp.inf), damping, jnp.nan)

    def row_variance(
        row: tuple[Complex[Array, "C W"], Bool[Array, "W"]],
    ) -> Float[Array, "E W"]:
        coils, kept = row
        gram = jnp.einsum("cv,cw->vw", coils.conj(), coils)
        normal = toeplitz * gram[None]
        # Outside, where a row of the matrix is 0, any pivot will do.
        pivot = jnp.where(kept, damping, 1).astype(normal.dtype)[None, :, None]
        # Of a sharded batch both sides have to be sharded: so made of the other.
        identity = jnp.eye(width, dtype=normal.dtype)[None] + 0 * normal
        factor = jax.scipy.linalg.cho_factor(normal + pivot * identity, lower=True)
        inverse = jax.scipy.linalg.cho_solve(factor, identity)
        power = jnp.sum(jnp.real(inverse * inverse.conj()), axis=-1)
        diagonal = jnp.real(jnp.diagonal(inverse, axis1=-2, axis2=-1))
        variance = jnp.maximum(diagonal - damping * power, 0)  # rounding may be below
        return jnp.where(kept[None], variance, 0)

    rows = (jnp.moveaxis(sens, -2, 0), inside)
    return jnp.moveaxis(jax.lax.map(row_variance, rows), 0, -2)


def replica_variance(
    reconstruct_fn: Callable[[Complex[Array, "*K"]], Inexact[Array, "*N"]],
    kspace: Complex[Array, "*K"],
    key: Key,
    *,
    replicas: int,
) -> Float[Array, "*N"]:
    """Variance over reconstructions of k-space with white noise of variance 1 added.

    The noise is complex: E |n|^2 = 1, each part has the variance 1/2. For a linear
    reconstruction give zeros as k-space: the result holds for any image. Otherwise
    scale k-space so that its own noise has variance 1. One replica is computed at a
    time and merged into running moments, so that memory does not grow with `replicas`.

    Args:
        reconstruct_fn: A pure function from k-space to one array of images, real or
            complex. It must apply the mask itself, because noise is added to every
            point. It may close over arrays that are sharded or mapped by `shard_map`.
        kspace: What noise is added to, complex, of any shape; in units of its noise
            deviation. Inside `shard_map` every device draws the same noise from the
            same key: fold its index in.
        key: One typed key (`jax.random.key`); replica i draws its noise from
            jax.random.split(key, replicas)[i]. Do not use it again.
        replicas: How many reconstructions, a static integer of at least 2. They take as
            long as that many calls; the standard error of the result is at most the
            result * sqrt(2 / replicas).

    Returns:
        The sample variance (divided by replicas - 1) of every pixel, that of both parts
        together where images are complex, in units of the noise variance of a k-space
        sample. It is real, in the precision of the images, at least float32. A pixel
        that is not finite in one replica is NaN.

    Raises:
        ValueError: fewer than 2 replicas or a traced number of them, k-space that is
            not complex, an old key or several keys, a reconstruction that does not
            return one array of real or complex numbers.

    Source: Robson et al., pseudo multiple replicas, MRM 60 (2008).
    """
    check_arrays("replica_variance", kspace=(kspace, "*K", complex))
    check_key("replica_variance", key=key)
    check_integers("replica_variance", replicas=(replicas, 2, None))

    def replica(key: Key) -> Inexact[Array, "*N"]:
        noise = jax.random.normal(key, kspace.shape, kspace.dtype)
        return reconstruct_fn(kspace + noise)

    def add(moments, item):
        mean, power = moments
        count, image = item[0], replica(item[1]).astype(mean.dtype)
        change = image - mean
        mean = mean + change / count.astype(mean.dtype)
        power = power + jnp.real(change * jnp.conj(image - mean))
        return (mean, power), None

    keys = jax.random.split(key, replicas)
    image = jax.eval_shape(replica, key)
    check_arrays("replica_variance", reconstruct_fn=(image, "*N", (float, complex)))
    zero = zero_moment(image)
    counts = jnp.arange(1, replicas + 1, dtype=jnp.int32)
    (_, power), _ = jax.lax.scan(add, (zero, jnp.real(zero)), (counts, keys))
    return power / (replicas - 1)
