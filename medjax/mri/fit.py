"""Per-voxel fits of relaxation models, with error bars and a status for each voxel."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Inexact, Int

from medjax.checks import check_arrays
from medjax.mri.polarity import restore_sign, search_polarity
from medjax.mri.samples import FitStatus, Samples, prepare_samples
from medjax.mri.signals import SignalModel, Times, check_times
from medjax.mri.start import log_linear_rate, refine_rate, search_rate
from medjax.mri.varpro import (
    Solution,
    Weighted,
    add,
    dot,
    invert,
    newton_move,
    parameters_and_errors,
    solve,
    square_root,
)


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

    The amplitudes are eliminated in closed form (see `varpro`), log R is found on a
    grid and by Newton's method: the global minimum within the bounds. Sigma is the
    delta method on (J^T W J)^-1. Compiled, once for a shape and options. Differentiable
    by images, times and weights through the implicit function theorem: a last Newton
    step carries the derivative, the search none. Computed in float32 at least.

    Args:
        images: Contrasts first, then any axes of voxels, in any unit: real and signed,
            complex (complex amplitudes, one real rate), or magnitudes. A voxel with a
            sample that is not finite becomes INVALID, one of zeros NO_SIGNAL; no voxel
            changes another.
        times: Echo or inversion times in seconds, flip angles in radians, at least 0
            and in any order; the same for all voxels, or one list for each. As many
            different ones as the model has parameters, at least.
        model: As `signal_model("t2")` or `signal_model("t1_ir3")` gives it.
        weights: How much each sample counts, at least 0 and finite (or the voxel is
            INVALID), the same for all voxels or for each. A sample of weight 0 is not
            read: it may be NaN. None = equal.
        noise: "estimated" scales sigma by the residual, with E - P degrees of freedom
            (P parameters), so that weights are relative. "known" takes weights as
            inverse variances in 1 / unit^2 of the image (of the real and of the
            imaginary part), and sigma is absolute.
        magnitude: The images are absolute values; a negative one makes a voxel INVALID.
            For inversion recovery every null index is tried. The Rician floor is not
            modelled; t2_offset absorbs some.
        bounds: Shortest and longest time constant in seconds, above 0. A voxel that
            leaves them gets the bound, AT_BOUND and no sigma. None = `model.bounds`.
        skip: Indices of contrasts to leave out, 0 to E - 1; (0,) for the first of a
            spin-echo train.
        start: "grid" (global), or "log-linear" (cheaper, for t2 and t2star only, and
            not global where noise is large).
        points: Rates on the grid, at least 8, evenly spaced in log R between the
            bounds.
        iterations: Newton steps, at least 0. 4 reach rounding error from the grid;
            the status says where they did not (NOT_CONVERGED).

    Returns:
        Maps of the voxels' shape: parameters and sigma in their units (seconds, that of
        the image, or none), and what became of each voxel.

    Raises:
        ValueError: times in another unit, negative or too few; shapes, dtypes or
            options that do not fit.

    Source: Golub and Pereyra 1973 for variable projection; Barral et al. 2010 for its
    use on inversion recovery, there on a grid alone, without weights and errors.
    """
    images, times, weights = _check(images, times, weights, model, skip)
    low, high = bounds or model.bounds
    if not 0 < low < high or low >= model.bounds[1]:
        raise ValueError(
            f"bounds of {model.time_constant}: expected 0 < low < high in seconds, "
            f"found ({low}, {high})"
        )
    if magnitude and jnp.iscomplexobj(images):
        raise ValueError(
            "magnitude=True, but the images are complex: pass their jnp.abs"
        )
    if noise not in ("estimated", "known"):
        raise ValueError(f"noise {noise!r}: expected 'estimated' or 'known'")
    if noise == "known" and weights is None:
        raise ValueError(
            "noise 'known' needs weights: inverse variances of the samples"
        )
    if start not in ("grid", "log-linear"):
        raise ValueError(f"start {start!r}: expected 'grid' or 'log-linear'")
    if start == "log-linear" and not model.exponential:
        raise ValueError(f"start 'log-linear': log S of {model.name} is no line")
    if points < 8 or iterations < 0:
        raise ValueError("expected at least 8 points and no negative iterations")
    return _fit(
        images,
        times,
        weights,
        (low, high),
        model=model,
        known=noise == "known",
        magnitude=magnitude,
        grid=start == "grid",
        points=points,
        iterations=iterations,
    )


def _check(
    images: Array,
    times: Times,
    weights: Array | None,
    model: SignalModel,
    skip: Sequence[int],
) -> tuple[Array, Array, Array | None]:
    """Arrays of one real dtype, float32 at least, without what is skipped."""
    images = jnp.asarray(images)
    given: Any = times if isinstance(times, Tracer) else np.asarray(times, float)
    weights = None if weights is None else jnp.asarray(weights)
    if images.shape[-1:] == given.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"fit_map: images: expected {len(given)} contrasts, as many as times, on "
            f"the first axis; found shape {images.shape}: contrasts are last, use "
            "jnp.moveaxis(images, -1, 0)"
        )
    check_arrays(
        "fit_map",
        images=(images, "E *N", (float, complex)),
        times=(given, "E" if given.ndim < 2 else "E *N", None),
        weights=(weights, "E" if np.ndim(weights) < 2 else "E *N", None),
    )
    if any(not 0 <= e < len(images) for e in skip):
        raise ValueError(f"skip: expected 0 to {len(images) - 1}, found {tuple(skip)}")
    dtype = images.real.dtype if jnp.finfo(images.dtype).bits >= 32 else jnp.float32
    weights = None if weights is None else weights.astype(dtype)
    if skip:
        keep = np.array([e for e in range(len(images)) if e not in skip], np.int32)
        images, given = images[keep], given[keep]
        weights = None if weights is None else weights[keep]
    check_times(given, model=model)
    return images, jnp.asarray(given).astype(dtype), weights


@functools.partial(
    jax.jit,
    static_argnames=("model", "known", "magnitude", "grid", "points", "iterations"),
)
def _fit(
    images: Inexact[Array, "E *N"],
    times: Float[Array, "E *#N"],
    weights: Float[Array, "E *#N"] | None,
    bounds: tuple[float, float],
    *,
    model: SignalModel,
    known: bool,
    magnitude: bool,
    grid: bool,
    points: int,
    iterations: int,
) -> FitResult:
    low, high = (jnp.asarray(b).astype(times.dtype) for b in bounds)
    limits = (-jnp.log(high), -jnp.log(low))
    samples = prepare_samples(
        images, times, weights, limits, model=model, magnitude=magnitude
    )
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
    # The step that carries the derivative: -g / g', with u and g' constant, is the
    # implicit function theorem at a root of g, whatever search has found u.
    move = newton_move(model, u, data)
    slack = jnp.sqrt(jnp.finfo(u.dtype).eps)
    below = (u + move <= limits[0]) & (u <= limits[0] + slack)
    above = (u + move >= limits[1]) & (u >= limits[1] - slack)
    # Newton squares the error: what is left after such a step is eps^0.8.
    done = jnp.abs(move) < jnp.finfo(u.dtype).eps ** 0.4
    u = jnp.clip(u + move, *limits)
    solution = solve(model, u, data)
    if magnitude and model.crosses_zero:
        # The sign of the whole curve is lost too: it is the one that rises.
        (amplitudes,) = solution.amplitudes
        sign = jnp.where(amplitudes[-1] < 0, -1, 1).astype(u.dtype)
        solution = solution._replace(amplitudes=[[sign * a for a in amplitudes]])

    status = jnp.where(done, FitStatus.CONVERGED, FitStatus.NOT_CONVERGED)
    status = jnp.where(below | above, FitStatus.AT_BOUND, status)
    status = jnp.where(solution.determined, status, FitStatus.UNDETERMINED)
    exact = (status == FitStatus.CONVERGED) & (samples.freedom == 0)
    status = jnp.where(exact, FitStatus.EXACT, status)
    status = jnp.where(samples.status == 0, status, samples.status)
    return _result(model, u, samples, data, solution, status, known)


def _result(
    model: SignalModel,
    u: Array,
    samples: Samples,
    data: Weighted,
    solution: Solution,
    status: Array,
    known: bool,
) -> FitResult:
    scale = samples.scale
    values, errors = parameters_and_errors(model, u, solution)
    good = status <= FitStatus.AT_BOUND
    cost = square_root(sum(dot(left, left) for left in solution.residuals))
    if known:
        sure = status <= FitStatus.EXACT
        sd = 1 / (samples.root_scale * scale)
    else:
        sure = status == FitStatus.CONVERGED
        sd = cost / jnp.sqrt(jnp.maximum(samples.freedom, 1).astype(scale.dtype))
    params, sigma = {}, {}
    for name, unit, value, error in zip(
        model.parameters, model.units, values, errors, strict=True
    ):
        factor = scale if unit == "image" else jnp.ones_like(scale)
        params[name] = jnp.where(good, value * factor.astype(value.dtype), jnp.nan)
        sigma[name] = jnp.where(sure, error * sd * factor, jnp.nan)
    residual = scale * _rms(data, solution, samples.count)
    share = _inverse_spread(data)
    return FitResult(
        params,
        sigma,
        jnp.where(good, residual, jnp.nan),
        jnp.where(good & (share > 0), 1 - cost**2 * share, jnp.nan),
        status.astype(jnp.int8),
    )


def _rms(data: Weighted, solution: Solution, count: Array) -> Array:
    """Root mean square over contrasts of the residual, without its weights."""
    plain = [invert(root, root > 0) for root in data.roots]
    square = jnp.zeros_like(solution.residuals[0][0])
    for left in solution.residuals:
        bare = [p * x for p, x in zip(plain, left, strict=True)]
        square = square + dot(bare, bare)
    return square_root(square / jnp.maximum(count, 1).astype(square.dtype))


def _inverse_spread(data: Weighted) -> Array:
    """1 / weighted cost of a constant; 0 where the samples are one."""
    total = dot(data.roots, data.roots)
    square = whole = jnp.zeros_like(data.channels[0][0])
    for channel in data.channels:
        mean = dot(data.roots, channel) * invert(total, total > 0)
        centred = add(channel, -mean, data.roots)
        square = square + dot(centred, centred)
        whole = whole + dot(channel, channel)
    floor = (8 * jnp.finfo(whole.dtype).eps) ** 2 * whole
    return invert(square, square > floor)
