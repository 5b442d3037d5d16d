"""Joint total variation: edges that all contrasts or coefficients have in common."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import check_arrays, check_integers
from medjax.mri.normal import carry_for
from medjax.mri.problem import (
    check_weight,
    largest_eigenvalue,
    pixelwise,
    reconstruction_problem,
    scaled_basis,
)
from medjax.mri.restarted import restarted_fista
from medjax.mri.subspace import expand

_LARGEST = 8.0  # eigenvalue of divergence and differences, in two dimensions


class Differences(NamedTuple):
    """One number a pixel for either direction."""

    rows: Inexact[Array, "*N H W"]  # to the next row
    cols: Inexact[Array, "*N H W"]  # to the next column


class JointTvProx(NamedTuple):
    """The denoised images, and the field that made them, where a next call starts."""

    images: Inexact[Array, "*N K H W"]
    dual: Differences


def image_differences(images: Inexact[Array, "*N H W"]) -> Differences:
    """D x: the next row and the next column minus this one; the last is before the 1st.

        rows[i, j] = x[i + 1, j] - x[i, j],   cols[i, j] = x[i, j + 1] - x[i, j]

    Args:
        images: Real or complex, in any unit, which the differences get; periodic, so
            that along a side of length 1 they are 0. A pixel that is not finite spoils
            the four differences it is part of.

    Returns:
        Two arrays of the shape and dtype of the images; each sums to 0 over an image.

    Raises:
        ValueError: fewer than two axes, or images of integers.
    """
    check_arrays("image_differences", images=(images, "*N H W", (float, complex)))
    return _differences(jnp.asarray(images))


def divergence(field: Differences) -> Inexact[Array, "*N H W"]:
    """-D^T p, minus the adjoint of `image_differences`: what flows out of each pixel.

        rows[i, j] - rows[i - 1, j] + cols[i, j] - cols[i, j - 1]

    Args:
        field: Two arrays of one shape and dtype, real or complex, in any unit, which
            the result keeps; periodic. A number that is not finite spoils two pixels.

    Returns:
        Of the shape and dtype of either array; it sums to 0 over an image.

    Raises:
        ValueError: arrays of different shapes or dtypes, of integers, or of fewer than
            two axes.
    """
    rows, cols = (jnp.asarray(x) for x in field)
    check_arrays(
        "divergence",
        rows=(rows, "*N H W", (float, complex)),
        cols=(cols, "*N H W", rows.dtype),
    )
    return _divergence(rows, cols)


def joint_total_variation(
    images: Inexact[Array, "*N K H W"],
) -> Float[Array, "*N"]:
    """sum over pixels of sqrt(sum_k |rows_k|^2 + |cols_k|^2), of `image_differences`.

    Isotropic, and joint: one length of all K differences in both directions.

    Args:
        images: Real or complex, in any unit, which the result gets; periodic. A pixel
            that is not finite makes its own result so. Differences are squared: in
            single precision those above 1e19 give infinity and those below 1e-19 count
            as 0, in float16 those above 255 and below 2e-4.

    Returns:
        Real, at least 0, in the precision of the images; 0 for constants and for an
        empty image.

    Raises:
        ValueError: fewer than three axes, or images of integers.
    """
    check_arrays("joint_total_variation", images=(images, "*N K H W", (float, complex)))
    return jnp.squeeze(_length(jnp.asarray(images)), (-3, -2, -1))


def joint_tv_prox(
    images: Inexact[Array, "*N K H W"],
    weight: float | Float[Array, "*N"],
    *,
    iterations: int,
    dual: Differences | None = None,
) -> JointTvProx:
    """argmin_u |u - x|^2 / 2 + weight TV(u), TV the `joint_total_variation`.

    u = x + div p, p the field with sqrt(sum_k |p_k|^2) <= weight at every pixel that
    makes |x + div p| least: by accelerated projected gradient steps of 1 / 8 on p.

    Args:
        images: x, real or complex, in any unit, periodic; NaN spreads by one pixel in a
            step. Of any size: axes of length 0 give what they are given.
        weight: In the unit of the images, a scalar or one for each of the axes N, at
            least 0. 0 returns x, infinity tends to the mean of each image. An entry of
            an array that is negative or NaN makes its images NaN.
        iterations: How many steps, at least 1. Differences spread by one pixel a step:
            some tens for a map of its own, 3 or so where a loop calls again and hands
            `dual` on. Static.
        dual: Where p starts, as an earlier call returned it, of the shape and dtype of
            the images; None is 0.

    Returns:
        The images u and the field p that belongs to them. u has the mean of x.

    Raises:
        ValueError: fewer than three axes, images of integers, a plain weight below 0 or
            NaN, a weight or a field of another shape, fewer than 1 iteration.

    Source: Beck and Teboulle, IEEE TIP 18 (2009), algorithm FGP; joint over channels as
    Bresson and Chan, Inverse Probl. Imaging 2 (2008).
    """
    name = "joint_tv_prox"
    images = jnp.asarray(images)
    check_weight(name, "images", images, weight=weight)
    check_integers(name, iterations=(iterations, 1, None))
    if dual is None:
        dual = Differences(jnp.zeros_like(images), jnp.zeros_like(images))
    check_arrays(
        name,
        images=(images, "*N K H W", None),
        rows=(dual.rows, "*N K H W", images.dtype),
        cols=(dual.cols, "*N K H W", images.dtype),
    )
    radius = pixelwise(weight, images)
    return _prox(images, radius, dual, iterations)


def joint_tv_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    *,
    weight: float | Float[Array, "*B"],
    iterations: int,
    inner: int = 3,
    basis: Float[Array, "E K"] | None = None,
    scales: Float[Array, "K"] | None = None,
    constraint: str = "complex",
    phase: Float[Array, "*B #E H W"] | None = None,
) -> Inexact[Array, "*B E H W"]:
    """argmin |A x - y|^2 / 2 + weight TV(x), TV the `joint_total_variation` of all x.

    y is the sampled k-space and A = M F S (`sense_forward`): sensitivities, the centred
    orthonormal Fourier transform, sampling. With a `basis` x = basis diag(scales) a,
    and the penalty is TV(a): a smaller scale makes a coefficient's edges dearer.

    By FISTA from A^H y (of the coefficients where there are any), each of its proximal
    maps by `inner` steps of `joint_tv_prox` from the field at which the last one ended.
    Its momentum starts again wherever the objective of a slice rose, as few steps lag
    behind. The step is 1 / L, L the largest sum_c |S_c|^2 of the slice times the
    largest eigenvalue of the basis, so that maps of any sum do not make it diverge.

    Args:
        kspace: Its origin is at [H // 2, W // 2]; read where the mask is not 0.
            `weight` is relative to it: scale k-space so that images are about 1, or the
            weight as the images. A number that is not finite spoils its own slice only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object. Another sum is not refused:
            the problem is solved as it stands, in more steps where the sum varies. A
            number that is not finite spoils its slice.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples is filled in from the
            others with a `basis`, and gives 0 without.
        weight: At least 0 in the unit of the images, a scalar or one for each slice;
            0.1 to 0.5 of the noise of a k-space sample is usual, and `held_out_weight`
            finds it. 0 is least squares, infinity tends to constants. An entry of an
            array that is negative or NaN makes its slice NaN.
        iterations: How many, at least 0; there is no other stop, and 0 returns the
            start: the zero-filled images, with a `basis` projected on it. About 100.
            Static.
        inner: Steps of each proximal map, at least 1; 12 reach the same as 3. Static.
        basis: Orthonormal columns of a temporal subspace, which is not checked; None =
            the contrasts themselves.
        scales: A number above 0 for each column of the basis, without a unit; None = 1
            each. (1, 0.7, 0.5) suits three exponentials: later coefficients are
            smaller, and noisier. Values of an array of JAX are not checked.
        constraint: "complex" returns any images; "real" the real images that fit best;
            "phase" the real factor, signed, of images r exp(i `phase`). With a `basis`
            the real ones are the coefficients a. Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all contrasts or one for each. One for each takes as many transforms with a
            `basis` as without.

    Returns:
        Images in the unit of k-space and the dtype to which k-space and `sens` are
        promoted; complex, or real ones with the constraints "real" and "phase".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a phase
            without its constraint or the other way round, scales without a basis,
            options outside their range.

    Source: Rudin, Osher and Fatemi, Physica D 60 (1992); joint over the images of one
    scan as Huang, Chen and Axel, Magn. Reson. Med. 72 (2014).
    """
    name = "joint_tv_sense"
    check_integers(name, iterations=(iterations, 0, None), inner=(inner, 1, None))
    basis = scaled_basis(name, basis, scales)
    problem = reconstruction_problem(name, kspace, sens, mask, basis, constraint, phase)
    check_weight(name, "kspace", problem.adjoint, weight=weight)
    largest = largest_eigenvalue(sens, basis, problem.adjoint)
    radius = pixelwise(weight, problem.adjoint) / largest

    def prox(x, dual):
        return _prox(x, radius, dual, inner)

    def penalty(x):
        return largest * radius * _length(x)

    start = carry_for(
        lambda x: prox(x - problem.normal_fn(x), Differences(x, x)).images,
        problem.adjoint,
    )
    zero = jnp.zeros_like(start)
    solution = restarted_fista(
        problem,
        prox,
        penalty,
        largest,
        start,
        Differences(zero, zero),
        iterations=iterations,
    )
    return solution if basis is None else expand(solution, basis)


def _prox(
    images: Array, radius: Float[Array, "*N 1 1 1"], dual: Differences, iterations: int
) -> JointTvProx:
    point, t = dual, 1.0
    for _ in range(iterations):  # few: as one program they are half as slow
        change = _differences(images + _divergence(*point))
        new = _projected(
            Differences(
                point.rows + change.rows / _LARGEST, point.cols + change.cols / _LARGEST
            ),
            radius,
        )
        t_next = (1 + math.sqrt(1 + 4 * t**2)) / 2
        momentum = (t - 1) / t_next
        point = Differences(
            new.rows + momentum * (new.rows - dual.rows),
            new.cols + momentum * (new.cols - dual.cols),
        )
        dual, t = new, t_next
    return JointTvProx(images + _divergence(*dual), dual)


def _length(images: Array) -> Float[Array, "*N 1 1 1"]:
    rows, cols = _differences(images)
    power = jnp.sum(_power(rows) + _power(cols), axis=-3, keepdims=True)
    flat = power == 0
    length = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, power)))
    return jnp.sum(length, axis=(-2, -1), keepdims=True)


def _projected(field: Differences, radius: Float[Array, "*N 1 1 1"]) -> Differences:
    """To a joint length of at most `radius` at every pixel."""
    power = _power(field.rows) + _power(field.cols)
    power = jnp.sum(power, axis=-3, keepdims=True)
    # Shorter than the root of the least number is as short as 0, with a derivative.
    inverse = jax.lax.rsqrt(jnp.maximum(power, jnp.finfo(power.dtype).tiny))
    kept = jnp.minimum(radius * inverse, 1).astype(field.rows.dtype)
    return Differences(field.rows * kept, field.cols * kept)


def _differences(images: Array) -> Differences:
    return Differences(
        jnp.roll(images, -1, -2) - images, jnp.roll(images, -1, -1) - images
    )


def _divergence(rows: Array, cols: Array) -> Array:
    return rows - jnp.roll(rows, 1, -2) + cols - jnp.roll(cols, 1, -1)


def _power(x: Array) -> Array:
    if jnp.iscomplexobj(x):
        return jnp.real(x) ** 2 + jnp.imag(x) ** 2
    return x**2
