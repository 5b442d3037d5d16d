"""How wrong a reconstruction may be: what tells it, and one deviation u of each voxel.

A feature is a map (or one number a slice) in the unit of the images that is large where
their error is large. None of them is an error by itself; `error_sd` makes one deviation
of several, with exponents that a calibration has found. The squares of all contrasts
are averaged: a regulariser that joins contrasts spreads an error over all of them, and
one u a voxel guides a fit better than one for each contrast.

==============  ====================================================================
gradient        `gradient_level`: an edge that is slightly off
change          `change_level` of the images at a weight and at twice the weight, or
                of two methods: what is not determined moves
held-out lines  `held_out_level`: one number a slice, of samples that were not used
replicas        `replica_level`: noise alone
deviation       `rms_level` of Monte-Carlo passes with dropout
residual        `residual_level`: what a signal model leaves
==============  ====================================================================
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Inexact

from medjax.checks import check_arrays, check_positive, check_ranges, check_static
from medjax.mri.noise import replica_variance
from medjax.types import Key

_WIDEST = 100.0  # pixels of a deviation: wider ones take memory and say no more
_REACH = 4.0  # deviations after which a Gaussian is cut, as scipy.ndimage does
FAINT = 1e-3  # of a feature's own root mean square over the slice: no voxel has less


def gradient_level(
    images: Float[Array, "*B E H W"], *, width: float = 0.7
) -> Float[Array, "*B H W"]:
    """sqrt(mean_e |grad (G * x_e)|^2), G a Gaussian: how steep the images are.

    Args:
        images: Real, signed or not, in any unit, at least one contrast and pixel. A
            pixel that is not finite makes its slice NaN.
        width: Deviation of G in pixels, 0.5 to 100, static: at 0.5 a slope comes out 14
            % too small, from 0.7 on right to 0.3 %. It is cut after 4 deviations and
            the images are mirrored at their edges, half a pixel outside.

    Returns:
        The unit of the images per pixel, 0 or more. It depends on the pixel's size: a
        calibration holds for pixels like those that it was made with.

    Raises:
        ValueError: images that are not real, without a contrast or pixel, or a width
            that is out of its range or traced.
    """
    _check_images("gradient_level", images=images)
    check_static("gradient_level", width=width)
    check_ranges("gradient_level", width=(width, 0.5, _WIDEST))
    down, across = (_filtered(images, width, orders) for orders in ((1, 0), (0, 1)))
    return jnp.sqrt((jnp.square(down) + jnp.square(across)).mean(-3))


def change_level(
    images: Float[Array, "*B E H W"],
    other: Float[Array, "*B E H W"],
    *,
    width: float = 1.0,
) -> Float[Array, "*B H W"]:
    """sqrt(G * mean_e (x_e - z_e)^2), G a Gaussian: how far two reconstructions differ.

    With x at the weight that was chosen for a regulariser and z at twice that weight
    ("doubling") it is large where the regulariser decides and the samples do not.

    Args:
        images: x, real, in any unit, at least one contrast and pixel. A pixel that is
            not finite makes its slice NaN.
        other: z, as many images of the same size in the same unit; a pixel that is not
            finite makes its slice NaN too.
        width: Deviation of G in pixels, above 0 to 100; static. It is cut after 4
            deviations and the squares are mirrored at the edges, half a pixel outside.

    Returns:
        In the unit of the images, 0 or more; 0 where both are equal all around.

    Raises:
        ValueError: images that are not real, of different shapes, without a contrast or
            pixel, or a width that is out of its range or traced.
    """
    _check_images("change_level", images=images, other=other)
    _check_width("change_level", width)
    return _smooth_level(jnp.square(images - other).mean(-3), width)


def residual_level(
    residual: Float[Array, "*B H W"], *, width: float = 1.0
) -> Float[Array, "*B H W"]:
    """sqrt(G * r^2), G a Gaussian: what a fit leaves, smoothed as a power.

    Args:
        residual: r of each voxel, such as `FitResult.residual`: 0 or more, in the unit
            of the images. A voxel without a fit (NaN) counts as 0.
        width: Deviation of G in pixels, above 0 to 100; static. It is cut after 4
            deviations and the squares are mirrored at the edges, half a pixel outside.

    Returns:
        In the unit of the residual, 0 or more.

    Raises:
        ValueError: a residual that is not real, or a width that is out of its range or
            traced.
    """
    check_arrays("residual_level", residual=(residual, "*B H W", float))
    _check_width("residual_level", width)
    return _smooth_level(jnp.square(jnp.where(jnp.isnan(residual), 0, residual)), width)


def rms_level(deviation: Float[Array, "*B E H W"]) -> Float[Array, "*B H W"]:
    """sqrt(mean_e d_e^2): one deviation for all contrasts.

    Args:
        deviation: d of each contrast, such as the second result of
            `monte_carlo_moments`, in the unit of the images; its sign does not count.
            At least one contrast. One that is not finite spoils its own voxel.

    Returns:
        In the unit of the images, 0 or more, and in the precision of `deviation`.

    Raises:
        ValueError: deviations that are not real, or no contrast.
    """
    check_arrays("rms_level", deviation=(deviation, "*B E H W", float))
    if deviation.shape[-3] == 0:
        raise ValueError(
            "rms_level: deviation: expected at least one contrast, found "
            f"{deviation.shape}"
        )
    return jnp.sqrt(jnp.square(deviation).mean(-3))


def replica_level(
    reconstruct_fn: Callable[
        [Complex[Array, "*B E C H W"]], Inexact[Array, "*B E H W"]
    ],
    kspace: Complex[Array, "*B E C H W"],
    key: Key,
    *,
    noise: Float[Array, "*B"] | float,
    replicas: int,
) -> Float[Array, "*B H W"]:
    """The deviation that noise alone gives the images, by pseudo replicas.

    sqrt(mean_e var_e) over reconstructions of k-space with noise of its own level added
    once more. Errors that no noise makes, such as lost edges, are not in it.

    Args:
        reconstruct_fn: A pure function from k-space to real or complex images; it has
            to apply the mask itself, because noise is added to every point.
        kspace: As measured, in any unit. A number that is not finite makes NaN of the
            pixels that the reconstruction spreads it to.
        key: One typed key (`jax.random.key`), not to be used again.
        noise: Deviation of the real and of the imaginary part of k-space's noise in its
            unit, for each slice or for all; above 0 and finite. An array is not
            checked: 0, NaN and infinity give its slice NaN, a negative entry counts as
            its absolute value.
        replicas: How many reconstructions, a static integer of at least 2.

    Returns:
        In the unit of the images, that of both parts together where they are complex;
        NaN where there is no contrast (E of 0).

    Raises:
        ValueError: a noise that is not above 0, fewer than 2 replicas, k-space that is
            not complex, or a reconstruction that does not return one array [.., E, H,
            W].

    Source: Robson et al., pseudo multiple replicas, MRM 60 (2008).
    """
    check_arrays(
        "replica_level",
        kspace=(kspace, "*B E C H W", complex),
        noise=(noise, "..." if jnp.ndim(noise) == 0 else "*B", float),
    )
    check_positive("replica_level", noise=noise)
    dtype = jnp.real(kspace).dtype
    level = math.sqrt(2) * jnp.asarray(noise, dtype)
    axes = [1] * (kspace.ndim - level.ndim)
    scale = level.reshape(*level.shape, *axes).astype(kspace.dtype)

    def from_units(samples: Complex[Array, "*B E C H W"]) -> Inexact[Array, "*B E H W"]:
        return reconstruct_fn(samples * scale)

    variance = replica_variance(from_units, kspace / scale, key, replicas=replicas)
    check_arrays(
        "replica_level",
        kspace=(kspace, "*B E C H W", complex),
        reconstruct_fn=(variance, "*B E H W", float),
    )
    return jnp.sqrt(variance.mean(-3))


def held_out_level(
    misfit: Float[Array, "*B"],
    *,
    noise: Float[Array, "*B"] | float,
    coils: int,
    least: float = 0.02,
) -> Float[Array, "*B"]:
    """h = sqrt(C max(m - 2 s^2, least s^2)): the error that held-out samples show.

    A sample that was not used is wrong by its own noise, 2 s^2, and by the error of the
    images, whose power C coils share.

    Args:
        misfit: m, mean |residual|^2 of the held-out samples of one coil, in the unit of
            k-space squared. Below 2 s^2, at 0 or less too, it counts as noise alone.
        noise: s, deviation of the real and of the imaginary part of k-space's noise, in
            its unit: of each slice or of all, 0 or more. 0 where it is not known: then
            h holds the noise as well. An array's values are not checked: NaN makes h
            NaN, and the sign does not count.
        coils: C, the number of coils with sum_c |S_c|^2 = 1; 1 or more. As `least` it
            may be traced, and is then not looked at.
        least: What is left at least where the misfit is no more than noise, in units of
            s^2; from 0 to 1.

    Returns:
        In the unit of k-space, which is that of the images; NaN where the misfit is.

    Raises:
        ValueError: shapes that do not fit, or a number outside its range.
    """
    check_arrays(
        "held_out_level",
        misfit=(misfit, "*B", float),
        noise=(noise, "..." if jnp.ndim(noise) == 0 else "*B", float),
    )
    if not isinstance(noise, np.ndarray):
        check_ranges("held_out_level", noise=(noise, 0, math.inf))
    check_ranges("held_out_level", coils=(coils, 1, math.inf), least=(least, 0, 1))
    power = jnp.square(jnp.asarray(noise, misfit.dtype))
    return jnp.sqrt(coils * jnp.maximum(misfit - 2 * power, least * power))


def error_sd(
    features: Float[Array, "F *B H W"],
    *,
    exponents: Float[Array, "F"],
    level: float | Float[Array, ""] | Float[Array, "*B"],
) -> Float[Array, "*B H W"]:
    """u = exp(level) prod_f features_f^exponents_f: one deviation a voxel.

    With exponents that sum to 1 images of twice the size have twice the u, whatever
    their unit is, so that no noise level has to be known.

    Args:
        features: In the unit of the images, 0 or more. One that is constant over a
            slice is broadcast by the caller. A feature counts as at least 1e-3 of its
            own root mean square over the slice, so that one flat voxel is not sure.
            A NaN makes u NaN at its own voxel alone.
        exponents: One for each feature, of either sign, without a unit: an array, not a
            list. They sum to 1 within 1e-4: of NumPy's that is checked, of JAX's not.
        level: The logarithm of a factor, without a unit: one for all, or of each slice,
            of either sign. NaN makes its slices NaN, infinity infinite.

    Returns:
        u in the unit of the images: 0 in a slice where a feature of a positive exponent
        is 0 everywhere (a fit by u then flags its voxels), infinite for a negative one.

    Raises:
        ValueError: shapes that do not fit, or exponents that do not sum to 1.
    """
    check_arrays(
        "error_sd",
        features=(features, "F *B H W", float),
        exponents=(exponents, "F", float),
        level=(level, "...", float),
    )
    plain = not isinstance(exponents, jax.Array)
    if plain and not abs(np.sum(exponents) - 1) <= 1e-4:  # NaN is no sum
        raise ValueError(
            "error_sd: exponents: expected a sum of 1, so that u has the unit of the "
            f"images; found {np.sum(exponents):.6g}"
        )
    dtype = features.dtype
    power = jnp.nanmean(jnp.square(features), axis=(-2, -1), keepdims=True)
    floored = jnp.maximum(features, FAINT * jnp.sqrt(power).astype(dtype))
    weights = jnp.asarray(exponents, dtype).reshape(-1, *[1] * (features.ndim - 1))
    logs = jnp.where(weights == 0, 0, jnp.log(floored) * weights)
    level = jnp.asarray(level, dtype)
    axes = [1] * (features.ndim - 1 - level.ndim)
    return jnp.exp(logs.sum(0) + level.reshape(*level.shape, *axes))


def _check_images(function: str, **images: Float[Array, "*B E H W"]) -> None:
    check_arrays(function, **{k: (x, "*B E H W", float) for k, x in images.items()})
    for name, array in images.items():
        if 0 in array.shape[-3:]:
            raise ValueError(
                f"{function}: {name}: expected at least one contrast and pixel, found "
                f"{array.shape}"
            )


def _check_width(function: str, width: float) -> None:
    check_static(function, width=width)
    check_positive(function, width=width)
    check_ranges(function, width=(width, 0, _WIDEST))


def _smooth_level(power: Float[Array, "*B H W"], width: float) -> Array:
    """The root of a power that a Gaussian has spread."""
    return jnp.sqrt(jnp.maximum(_filtered(power, width, (0, 0)), 0))


def _filtered(x: Float[Array, "*B H W"], width: float, orders: tuple[int, int]):
    """A Gaussian, or its derivative, along rows and columns."""
    rows, cols = (
        jnp.asarray(_matrix(size, width, order), x.dtype)
        for size, order in zip(x.shape[-2:], orders, strict=True)
    )
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("ih,...hw,jw->...ij", rows, x, cols, precision=exact)


def _matrix(size: int, width: float, order: int) -> Float[np.ndarray, "N N"]:
    """The filter of scipy.ndimage, mode "reflect", as a matrix on one axis."""
    radius = int(_REACH * width + 0.5)
    places = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (places / width) ** 2)
    taps = taps / taps.sum()
    if order == 1:
        taps = taps * places / width**2  # of a correlation: the sign is turned
    target = np.arange(size)[:, None] + np.zeros_like(places)
    source = (np.arange(size)[:, None] + places) % (2 * size)
    source = np.where(source < size, source, 2 * size - 1 - source)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (target, source), np.broadcast_to(taps, source.shape))
    return matrix
