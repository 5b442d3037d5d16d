"""The noise floor of magnitudes: their mean, and a fit that takes it for what it is."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e
from jaxtyping import Array, Float

from medjax.checks import check_arrays, check_integers, check_positive
from medjax.mri.fit import FitResult, fit_map
from medjax.mri.fit_arguments import (
    fit_arrays,
    fit_bounds,
    known_angle,
    numbered,
)
from medjax.mri.model import SignalModel, check_functions, smooth_at_zero
from medjax.mri.normal import carry_for
from medjax.mri.parameters import series
from medjax.mri.signals import model_signal
from medjax.mri.times import Times, plausible

MOST_COILS = 64  # more overflow single precision in the series
_ROUNDS = 5  # fits after the first: the last changes T2 by less than 0.1 %
_FLAT = 1e-2  # slope of the mean: below it a sample says nothing of the signal


def expected_magnitude(
    signal: Float[Array, "*N"], *, noise: Float[Array, "*#N"] | float, coils: int = 1
) -> Float[Array, "*N"]:
    """E |m| of a magnitude, Rician or non-central chi.

        m^2 = sum_c |A_c + n_c|^2,   sum_c |A_c|^2 = A^2
        E m = s sqrt(2) Gamma(C + 1/2) / Gamma(C) M(-1/2, C, -A^2 / (2 s^2))

    M is Kummer's function: by Bessel functions for C = 1, by its recurrence in C where
    A^2 / (2 s^2) is above C, where all of its terms are positive, and by the series of
    positive terms below. Relative error below 1e-5 in single precision. Differentiable
    to any order, also at 0.

    Args:
        signal: A, the magnitude without noise, of any sign, in the unit of the image; 0
            to 1e9 times the noise in single precision, 250 times in half precision: a
            larger one, an infinite one and NaN give NaN.
        noise: s, the standard deviation of the real and of the imaginary part of each
            coil, above 0, in the unit of the image: a float, or an array of floats that
            broadcasts with `signal`. The values of an array are not checked: 0 gives
            NaN, a negative one a negative mean.
        coils: C, a static integer from 1 to 64: 1 for one coil and for coils that were
            combined by their sensitivities (Rician), the number of channels for a root
            of the sum of their squares.

    Returns:
        The mean in the unit of the image: s sqrt(pi / 2) for no signal and one coil.

    Raises:
        ValueError: signals or noise that are not of floats, a float of noise that is
            not above 0, a number of coils out of its range or traced.

    Source: Constantinides, Atalar and McVeigh, MRM 38 (1997), equation 3; recurrence
    and series as in the DLMF, 13.3.2 and 13.2.39.
    """
    check_arrays(
        "expected_magnitude", signal=(signal, "*N", float), noise=(noise, "...", float)
    )
    check_positive("expected_magnitude", noise=noise)
    check_integers("expected_magnitude", coils=(coils, 1, MOST_COILS))
    x = jnp.square(signal / noise) / 2
    factor = math.sqrt(2) * math.exp(math.lgamma(coils + 0.5) - math.lgamma(coils))
    return noise * factor * _kummer(x, coils)


def _kummer(x: Float[Array, "*N"], coils: int) -> Float[Array, "*N"]:
    """M(-1/2, C, -x), 0 <= x."""
    many = x > coils
    high = jnp.where(many, x, coils)  # no branch sees what would overflow it
    before = _kummer_1(high)
    last = before if coils == 1 else _kummer_2(high)
    for b in range(2, coils):
        first, second = b * (b - 1) * before, b * (1 - b + high) * last
        before, last = last, (first + second) / (high * (b + 0.5))
    low = jnp.where(many, coils, x)
    terms = coils + math.ceil(8 * math.sqrt(coils)) + 20
    n = np.arange(1, terms)
    ratios = (coils + n - 0.5) / ((coils + n - 1) * n)
    series = jnp.ones_like(x)
    for ratio in ratios[::-1].tolist():
        series = 1 + ratio * low * series
    return jnp.where(many, last, jnp.exp(-low) * series)


def _kummer_1(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """M(-1/2, 1, -x)."""
    return (1 + x) * i0e(x / 2) + x * i1e(x / 2)


def _kummer_2(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """M(-1/2, 2, -x)."""
    return ((3 + 2 * x) * i0e(x / 2) + (1 + 2 * x) * i1e(x / 2)) / 3


def fit_magnitudes(
    images: Float[Array, "E *N"],
    times: Times,
    *,
    model: SignalModel,
    noise: Float[Array, "*#N"] | float,
    coils: int = 1,
    weights: Float[Array, "E *#N"] | None = None,
    bounds: tuple[float, float] | None = None,
    angle: Float[Array, "*#N"] | float | None = None,
) -> FitResult:
    """`fit_map` of magnitudes whose noise level is known: without the floor's bias.

        minimise over the parameters   sum_e w_e (m_e - E m(S_e))^2

    by fits to y_e = S_e + (m_e - E m(S_e)) / d_e with the weights w_e d_e^2, where d_e
    is the slope of E m at the fit before: where they come to rest the gradient of the
    sum above is 0. The first fit is one to sqrt(m^2 - 2 C s^2), or 0 below the root;
    five more follow, whatever they change. A sample whose mean hardly depends on the
    signal (a slope of 0.01 or less) has the weight 0.

    Bias of the median T2 of 6,000 draws, 8 echoes from 15 to 120 ms, by `fit_map` and
    by this fit, in per cent. Where it stays large, too few samples are above the floor
    to tell a rate:

        C  T2, ms   SNR 3        5            10           20
        1  40       294 -> 40    105 -> 3     25 -> -0.4   6 -> 0.1
        1  80       80 -> 0.4    25 -> -1.5   5.8 -> 0.4   1.4 -> 0.1
        8  40       2467 -> 190  892 -> 33    238 -> -1.2  65 -> -0.2
        8  80       788 -> 32    285 -> 1.1   74 -> 0.0    18 -> -0.2

    Args:
        images: Magnitudes, contrasts first, 0 or more, in any unit; a negative one, or
            one that is not finite, makes its voxel INVALID where it counts. Signs after
            an inversion are those of the first fit, which looks for them.
        times: Echo or inversion times in seconds, flip angles in radians, at least 0
            and in any order, as many as contrasts: one list [E] for all voxels or one
            for each. As many different ones as the model has parameters, at least;
            `check_times` refuses others, and traced ones out of range make a voxel
            INVALID.
        model: Any `SignalModel`; static.
        noise: s, the standard deviation of the two parts of each coil, above 0, in the
            unit of the images; one number, or one a voxel. A voxel whose noise is not
            above 0 and finite is not fitted: its status is TOO_FEW.
        coils: C of `expected_magnitude`, a static integer from 1 to 64: 1 for a phased
            combination, the number of coils for a root of the sum of squares.
        weights: w, how much each sample counts, at least 0 and finite (or the voxel is
            INVALID), [E] for all voxels or for each. A sample of weight 0 is not read.
            None = equal.
        bounds: Shortest and longest time constant in seconds, 0 < low < high, finite:
            two Python numbers, static. A voxel that leaves them gets the bound and
            AT_BOUND. None = `model.bounds`.
        angle: For t2_epg alone: the actual refocusing angle in radians, above 0, for
            all voxels or for each; another one makes its voxel INVALID. None = fitted.

    Returns:
        As `fit_map`. The residual is that of the magnitudes to their mean, RMS over
        contrasts, and R^2 that of the last fit, by its weights. Derivatives by images,
        noise and weights are those of all six fits, first and second ones.

    Raises:
        ValueError: as `fit_map`; images that are not of floats, a number of noise that
            is not above 0, a number of coils out of its range.
    """
    check_arrays("fit_magnitudes", images=(images, "E *N", float))
    check_positive("fit_magnitudes", noise=noise)
    check_integers("fit_magnitudes", coils=(coils, 1, MOST_COILS))
    model = numbered("fit_magnitudes", model, times, ())
    images, times, weights, model = fit_arrays(
        "fit_magnitudes", images, times, weights, model, ()
    )
    known_angle("fit_magnitudes", angle, model, images)
    given = jnp.ones(len(images)) if weights is None else weights
    given = series(given.astype(images.dtype), images.ndim - 1)
    return _fit_magnitudes(
        images,
        jnp.asarray(times),
        jnp.broadcast_to(given, images.shape),
        jnp.broadcast_to(jnp.asarray(noise, images.dtype), images.shape[1:]),
        angle,
        model=model,
        coils=coils,
        bounds=fit_bounds("fit_magnitudes", bounds, model),
    )


@partial(jax.jit, static_argnames=("model", "coils", "bounds"))
def _fit_magnitudes(
    images: Float[Array, "E *N"],
    times: Float[Array, "E *#N"],
    given: Float[Array, "E *N"],
    noise: Float[Array, "*N"],
    angle: Float[Array, "*#N"] | float | None,
    *,
    model: SignalModel,
    coils: int,
    bounds: tuple[float, float],
) -> FitResult:
    check_functions("fit_magnitudes", model)
    if not smooth_at_zero(model):  # a time that does not count is not read
        clocks = series(times, images.ndim - 1)
        read = (given > 0) | ~plausible(model, clocks)
        times = jnp.where(read, clocks, math.sqrt(math.prod(model.bounds)))
    options = {"model": model, "bounds": bounds, "angle": angle}
    sound = jnp.where(images >= 0, images, jnp.nan)  # what no magnitude is, is INVALID
    # E m^2 = A^2 + 2 C s^2: far from the truth only where the floor is all there is.
    finite = jnp.isfinite(sound)
    square = jnp.square(jnp.where(finite, images, 0))  # NaN would be its derivative
    square = square - 2 * coils * jnp.square(noise)[None]
    above = square > 0  # the root of 0 has no derivative
    data = jnp.where(above, jnp.sqrt(jnp.where(above, square, 1)), 0)
    data = jnp.where(finite, data, sound)
    data = jnp.where(jnp.any(data > 0, axis=0, keepdims=True), data, sound)
    if model.crosses_zero:
        first = fit_map(data, times, weights=given, magnitude=True, **options)
        data = data * _mean(first, images, times, model, noise, coils).sign

    def again(fit: FitResult) -> tuple[Array, Array]:
        """Data and weights whose least squares are those of the magnitudes."""
        mean = _mean(fit, images, times, model, noise, coils)
        usable = mean.slope > _FLAT
        moved = (sound - mean.value) / jnp.where(usable, mean.slope, 1)
        data = mean.sign * (mean.size + jnp.where(usable, moved, 0))
        each = jnp.where(usable, jnp.square(mean.slope), 0)
        # What could not be fitted stays as it is, for the status to say why.
        data = jnp.where(mean.known & ~jnp.isnan(sound), data, sound)
        return data, given * jnp.where(mean.known, each, 1)

    def step(_: int | Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        return again(fit_map(carry[0], times, weights=carry[1], **options))

    start = carry_for(lambda carry: step(0, carry), (data, given))
    data, each = jax.lax.fori_loop(0, _ROUNDS, step, start)
    fit = fit_map(data, times, weights=each, **options)
    mean = _mean(fit, images, times, model, noise, coils)
    counted = given > 0
    square = jnp.where(counted, jnp.square(images - mean.value), 0)
    count = jnp.maximum(jnp.sum(counted, axis=0, dtype=images.dtype), 1)
    residual = jnp.sqrt(jnp.sum(square, axis=0) / count)
    residual = jnp.where(jnp.isnan(fit.residual), jnp.nan, residual)
    return fit._replace(residual=residual)


class _Mean(NamedTuple):
    """E m at a fit's signal, which is 0 where there is no fit."""

    value: Array
    slope: Array
    size: Array  # |S|
    sign: Array  # of S, 1 for 0
    known: Array


def _mean(
    fit: FitResult,
    images: Float[Array, "E *N"],
    times: Times,
    model: SignalModel,
    noise: Float[Array, "*N"],
    coils: int,
) -> _Mean:
    known = jnp.all(jnp.isfinite(jnp.stack(list(fit.params.values()))), axis=0)
    # 1 where there is no fit: what is computed of NaN has derivatives of NaN.
    params = {name: jnp.where(known, x, 1) for name, x in fit.params.items()}
    fitted = model_signal("fit_magnitudes", model, params, times).astype(images.dtype)
    known = known[None] & jnp.isfinite(fitted)
    fitted = jnp.where(known, fitted, 0)

    def mean(size: Array) -> Array:
        return expected_magnitude(size, noise=noise[None], coils=coils)

    size = jnp.abs(fitted)
    value, slope = jax.jvp(mean, (size,), (jnp.ones_like(size),))
    return _Mean(
        value, slope, size, jnp.where(fitted < 0, -1, 1).astype(size.dtype), known
    )
