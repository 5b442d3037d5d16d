"""Per-voxel fits of relaxation models, with error bars and a status for each voxel."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int

from medjax.mri.epg_fit import fit_train
from medjax.mri.fit_arguments import (
    check_options,
    fit_arrays,
    fit_bounds,
    known_angle,
    numbered,
)
from medjax.mri.fit_numbers import Numbers, fit_numbers
from medjax.mri.model import SignalModel, check_functions
from medjax.mri.newton import implicit_root, newton_move
from medjax.mri.polarity import restore_sign, search_polarity
from medjax.mri.samples import FitStatus, Samples, prepare_samples
from medjax.mri.start import log_linear_rate, refine_rate, search_rate
from medjax.mri.times import Times
from medjax.mri.varpro import gate, square_root


class FitResult(NamedTuple):
    """Maps of a fit. Sigma of a complex parameter is that of its modulus.

    Numbers that a voxel's status rules out are NaN: see `FitStatus`.
    """

    params: dict[str, Inexact[Array, "*N"]]
    sigma: dict[str, Float[Array, "*N"]]  # sd of each parameter, in its unit
    residual: Float[Array, "*N"]  # RMS over contrasts, in the unit of the image
    r_squared: Float[Array, "*N"]  # 1 - weighted cost / that of a constant; NaN for one
    status: Int[Array, "*N"]  # FitStatus


def fit_map(
    images: Inexact[Array, "E *N"],
    times: Times,
    *,
    model: SignalModel,
    weights: Float[Array, "E *#N"] | None = None,
    angle: Float[Array, "*#N"] | float | None = None,
    noise: str = "estimated",
    magnitude: bool = False,
    bounds: tuple[float, float] | None = None,
    skip: Sequence[int] = (),
    start: str = "grid",
    points: int = 24,
    iterations: int = 4,
) -> FitResult:
    """Weighted least squares of a signal model in every voxel, by variable projection.

        minimise over a, R   sum_e w_e |y_e - sum_k a_k phi_k(t_e, R)|^2

    The amplitudes are eliminated in closed form, log R (R in 1/s) is found on a
    grid and by Newton's method: the global minimum within the bounds. Sigma is the
    delta method on (J^T W J)^-1. Compiled, once for a shape and options.

    Differentiable to any order by images, times and weights, forward and in reverse:
    the rate is an implicit function of them, whatever search has found it. At a bound
    the derivative of the rate is 0. An entry that is NaN has the derivative 0, and so
    has one by a sample that is not read or by its weight of 0; no voxel spoils the
    derivative of another.

    Args:
        images: Contrasts first, then any axes of voxels (or none), float or complex, in
            any unit: real and signed, complex (complex amplitudes, one real rate), or
            magnitudes. A voxel with a sample that is not finite becomes INVALID, one of
            zeros NO_SIGNAL; no voxel changes another. Integers are refused: convert
            them.
        times: Echo or inversion times in seconds, flip angles in radians, at least 0
            and in any order; the same [E] for all voxels, or one list for each. As many
            different ones as the model has parameters, at least. `check_times` refuses
            others by name. Of traced times the values are not known then: a voxel with
            one that is negative, not finite or above `model.longest` becomes INVALID,
            and too few different ones make it UNDETERMINED.
        model: As `signal_model("t2")` gives it, or a `SignalModel` of your own; static.
        weights: How much each sample counts, at least 0 and finite (or the voxel is
            INVALID), the same [E] for all voxels or for each. A sample of weight 0 is
            not read: it may be NaN. Integers and bool will do. None = equal.
        angle: For t2_epg alone: the actual refocusing angle in radians, for all voxels
            or for each, such as nominal angle times B1+; one that is not finite and
            above 0 makes its voxel INVALID. It is a result then as it is, without a
            sigma; three samples are needed all the same. None = fitted.
        noise: "estimated" scales sigma by the residual, with E - P degrees of freedom
            (P parameters), so that weights are relative. "known" takes weights as
            inverse variances in 1 / unit^2 of the image (of the real and of the
            imaginary part), refuses to do without weights, and sigma is absolute.
        magnitude: The images are absolute values; a negative one makes a voxel INVALID.
            For inversion recovery every null index is tried. The Rician floor is not
            modelled; t2_offset absorbs some. Static.
        bounds: Shortest and longest time constant in seconds, 0 < low < high, finite,
            low below the upper bound of the model: two Python numbers, static for the
            caller though other ones are no new compilation. A voxel that leaves them
            gets the bound, AT_BOUND and no sigma. None = `model.bounds`.
        skip: A tuple of the contrasts to leave out, 0 to E - 1 (negative indices are
            refused); (0,) for the first of a spin-echo train. Static.
        start: "grid" (global), or "log-linear" (cheaper, for t2 and t2star only, and
            not global where noise is large).
        points: Rates on the grid, at least 8, evenly spaced in log R between the
            bounds. Static.
        iterations: Newton steps, at least 0. 4 reach rounding error from the grid;
            the status says where they did not (NOT_CONVERGED). Static.

    Returns:
        Maps of the voxels' shape: parameters and sigma in their units (seconds, that of
        the image, or none), and what became of each voxel: 0 CONVERGED, 1 EXACT (as
        many samples as parameters), 2 AT_BOUND (no sigma); from 3 on maps hold NaN: 3
        NOT_CONVERGED, 4 UNDETERMINED, 5 TOO_FEW, 6 NO_SIGNAL, 7 INVALID. In the dtype
        to which JAX promotes images and weights, float32 at least; times are converted
        to it. Amplitudes of complex images are complex, all else is real.

    Raises:
        ValueError: times in another unit, negative or too few; a name in place of a
            model, or one whose fields do not fit each other; shapes, dtypes or options
            that do not fit, or static ones that are traced.

    Source: Golub and Pereyra 1973 for variable projection; Barral et al. 2010 for its
    use on inversion recovery, there on a grid alone, without weights and errors.
    """
    model = numbered("fit_map", model, times, skip)
    images, times, weights, model = fit_arrays(
        "fit_map", images, times, weights, model, skip
    )
    angle = known_angle("fit_map", angle, model, images)
    check_options(
        images,
        weights,
        model,
        noise=noise,
        magnitude=magnitude,
        start=start,
        points=points,
        iterations=iterations,
    )
    return _fit(
        images,
        times,
        weights,
        angle,
        fit_bounds("fit_map", bounds, model),
        model=model,
        known=noise == "known",
        magnitude=magnitude,
        grid=start == "grid",
        points=points,
        iterations=iterations,
    )


@functools.partial(
    jax.jit,
    static_argnames=("model", "known", "magnitude", "grid", "points", "iterations"),
)
def _fit(
    images: Inexact[Array, "E *N"],
    times: Float[Array, "E *#N"],
    weights: Float[Array, "E *#N"] | None,
    angle: Float[Array, "*#N"] | None,
    bounds: tuple[float, float],
    *,
    model: SignalModel,
    known: bool,
    magnitude: bool,
    grid: bool,
    points: int,
    iterations: int,
) -> FitResult:
    check_functions("fit_map", model)
    low, high = (jnp.asarray(b).astype(times.dtype) for b in bounds)
    limits = (-jnp.log(high), -jnp.log(low))
    samples = prepare_samples(
        images, times, weights, limits, model=model, magnitude=magnitude
    )
    if model.train:
        samples, numbers, status, free = fit_train(
            model, samples, angle, limits, points=points, iterations=iterations
        )
        found = _result(model, samples, numbers, status, known)
        sd = jnp.where(free, found.sigma["angle"], jnp.nan)
        return found._replace(sigma=found.sigma | {"angle": sd})
    data, fixed = samples.data, jax.lax.stop_gradient(samples.data)
    width = limits[1] - limits[0]
    # The minimum lies between the neighbours of the grid's best point.
    radius = 1.5 * width / (points - 1) if grid else width
    if magnitude and model.crosses_zero:
        u, negative = search_polarity(
            model, fixed, limits, points=points, radius=radius, iterations=iterations
        )
        data = restore_sign(data, negative)
    else:
        if grid:
            u = search_rate(model, fixed, limits, points=points)
        else:
            u = log_linear_rate(fixed, limits)
        u = refine_rate(model, fixed, u, limits, radius=radius, iterations=iterations)
    move = newton_move(model, u, jax.lax.stop_gradient(data))
    slack = jnp.sqrt(jnp.finfo(u.dtype).eps)
    below = (u + move <= limits[0]) & (u <= limits[0] + slack)
    above = (u + move >= limits[1]) & (u >= limits[1] - slack)
    # Newton squares the error: what is left after such a step is eps^0.8.
    done = jnp.abs(move) < jnp.finfo(u.dtype).eps ** 0.4
    ended = (samples.status == 0) & (done | below | above)
    # The derivative of the fit is that of a root of the gradient; a bound has none.
    inside = (u + move > limits[0]) & (u + move < limits[1])
    found = ended & inside
    # JAX 0.10 drops the rule of `implicit_root` where a scan is differentiated in
    # reverse, and then takes the last step of Newton's method in its place.
    u = u + newton_move(model, gate(found, u), gate(found, data))
    root = implicit_root(model, found, u, data)
    u = jnp.where(inside, root, jnp.clip(u, *limits))
    u = jax.lax.optimization_barrier(u)  # XLA would make it again for every map
    # The sign of the whole curve is lost too: it is the one that rises.
    rising = magnitude and model.crosses_zero
    numbers = fit_numbers(model, rising, ended, u, data)
    status = jnp.where(done, FitStatus.CONVERGED, FitStatus.NOT_CONVERGED)
    status = jnp.where(below | above, FitStatus.AT_BOUND, status)
    status = jnp.where(numbers.determined, status, FitStatus.UNDETERMINED)
    exact = (status == FitStatus.CONVERGED) & (samples.freedom == 0)
    status = jnp.where(exact, FitStatus.EXACT, status)
    status = jnp.where(samples.status == 0, status, samples.status)
    return _result(model, samples, numbers, status, known)


def _result(
    model: SignalModel, samples: Samples, numbers: Numbers, status: Array, known: bool
) -> FitResult:
    scale, cost = samples.scale, numbers.cost
    good = status <= FitStatus.AT_BOUND
    if known:
        sure = status <= FitStatus.EXACT
        sd = 1 / (samples.root_scale * scale)
    else:
        sure = status == FitStatus.CONVERGED
        sd = cost / jnp.sqrt(jnp.maximum(samples.freedom, 1).astype(scale.dtype))
    params, sigma = {}, {}
    for name, unit, value, error in zip(
        model.parameters, model.units, numbers.values, numbers.errors, strict=True
    ):
        factor = scale if unit == "image" else jnp.ones_like(scale)
        params[name] = jnp.where(good, value * factor.astype(value.dtype), jnp.nan)
        sigma[name] = jnp.where(sure, error * sd * factor, jnp.nan)
    square = numbers.square / jnp.maximum(samples.count, 1).astype(scale.dtype)
    share = numbers.share
    return FitResult(
        params,
        sigma,
        jnp.where(good, scale * square_root(square), jnp.nan),
        jnp.where(good & (share > 0), 1 - cost**2 * share, jnp.nan),
        status.astype(jnp.int8),
    )
