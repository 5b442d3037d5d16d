"""The smallest sigma an unbiased fit can have: choosing echo and inversion times."""

import functools
import operator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.checks import check_arrays
from medjax.mri.epg import spacing_of, squared_cosine, train_echoes
from medjax.mri.epg_fit import train_errors
from medjax.mri.epg_steps import Point
from medjax.mri.model import (
    SignalModel,
    Value,
    check_functions,
    check_model,
    smooth_at_zero,
)
from medjax.mri.parameters import (
    as_dtype,
    ordered_parameters,
    real_dtype,
    series,
    voxel_shape,
)
from medjax.mri.signals import model_signal
from medjax.mri.times import Times, check_times, plausible
from medjax.mri.varpro import Weighted, dot, parameters_and_errors, solve


def cramer_rao_bound(
    times: Times,
    *,
    model: SignalModel,
    params: dict[str, Value],
    noise_sd: Value,
    weights: Float[Array | np.ndarray, "E *#N"] | None = None,
) -> dict[str, Float[Array, "*N"]]:
    """Square roots of the diagonal of the inverse Fisher information.

        sigma^2 >= diag((J^T W J)^-1),   W = weights / noise_sd^2,   J = dS / d params

    for Gaussian noise; `fit_map` reaches it at a good signal-to-noise ratio. It holds
    for complex samples as well (noise_sd of each part; the modulus of s0), and for
    magnitudes where the signal is well above the noise. The voxels [*N] are what
    `params`, `noise_sd`, `times` and `weights` broadcast to. Differentiable by all of
    them; the derivative by a weight of exactly 0 is given as 0.

    Args:
        times: Echo or inversion times in seconds, flip angles in radians: one list [E]
            for all voxels, or one for each. At least as many different ones as the
            model has parameters, and in the range of `check_times`, which refuses
            others; traced ones out of that range make the bound inf.
        model: As `signal_model("t2")` gives it, or a `SignalModel` of your own.
        params: The true values by name, exactly the model's own: a number, or an array
            that broadcasts to [*N], real. Time constants are seconds and above 0, s0
            and offset are in the unit of the image and of either sign, an efficiency
            is any number (1 is a full inversion).
        noise_sd: Standard deviation of the noise of a sample of weight 1, above 0, in
            the unit of s0: a Python number, others are refused, or an array that
            broadcasts to [*N], where others make the bound inf.
        weights: Relative weights of the contrasts, at least 0 and finite, such as their
            numbers of averages: weight 4 halves the noise, 0 leaves a contrast out. For
            all voxels [E] or for each. None = all 1.

    Returns:
        The smallest sd of each parameter, in its unit, in the dtype that JAX promotes
        the arrays to. It is inf where the samples do not determine the parameters: too
        few weights above 0, s0 = 0, or an entry of an array that is not finite or out
        of its range.

    Raises:
        ValueError: times that do not fit the model, a Python number as noise_sd that is
            not above 0, unknown, missing or complex parameters, shapes that do not
            broadcast.
    """
    check_model("cramer_rao_bound", model)
    check_functions("cramer_rao_bound", model)
    check_times(times, model=model)
    values = ordered_parameters("cramer_rao_bound", model, params)
    for name, value in zip(model.parameters, values, strict=True):
        if jnp.iscomplexobj(value):
            raise ValueError(
                f"cramer_rao_bound: params: {name}: expected real numbers; found "
                "complex ones: the bound is that of their modulus, jnp.abs"
            )
    if isinstance(noise_sd, int | float) and not noise_sd > 0:
        raise ValueError(
            f"cramer_rao_bound: noise_sd: expected a number above 0; found {noise_sd}"
        )
    given_times = times
    times, sd = jnp.asarray(times), jnp.asarray(noise_sd)
    weights = jnp.ones(len(times), bool) if weights is None else jnp.asarray(weights)
    check_arrays(
        "cramer_rao_bound",
        times=(times, "E ...", (float, int)),
        noise_sd=(sd, "...", (float, int)),
        weights=(weights, "E ...", (float, int, bool)),
    )
    dtype = real_dtype(*values, noise_sd, weights)
    values = [as_dtype(v, dtype) for v in values]
    shapes = {k: v.shape for k, v in zip(model.parameters, values, strict=True)}
    shapes |= {"times": times.shape[1:], "weights": weights.shape[1:]}
    shape = voxel_shape("cramer_rao_bound", shapes | {"noise_sd": sd.shape})
    values = [jnp.broadcast_to(v, shape) for v in values]
    sd = jnp.broadcast_to(sd.astype(dtype), shape)
    clocks = list(series(times.astype(dtype), len(shape)))
    known = [plausible(model, t) for t in clocks]
    counted = list(series(weights.astype(dtype), len(shape)))
    known += [(w >= 0) & (w < jnp.inf) for w in counted]
    roots = [jnp.where(w > 0, jnp.sqrt(jnp.where(w > 0, w, 1)), 0) for w in counted]
    if model.train:
        numbers = train_echoes("cramer_rao_bound", model, given_times)
        model = model._replace(echoes=numbers)
        known.append(spacing_of(clocks, numbers)[1])
    by_name = dict(zip(model.parameters, values, strict=True))
    samples = model_signal("cramer_rao_bound", model, by_name, times)
    channel = [root * y for root, y in zip(roots, samples, strict=True)]
    log_rate = jnp.log(1 / by_name[model.time_constant])
    if not smooth_at_zero(model):  # a time that does not count is not read
        clocks = [
            jnp.where(root > 0, t, jnp.exp(-log_rate))
            for root, t in zip(roots, clocks, strict=True)
        ]
        samples = model_signal("cramer_rao_bound", model, by_name, jnp.stack(clocks))
        channel = [root * y for root, y in zip(roots, samples, strict=True)]
    data = Weighted([channel], roots, clocks)
    if not model.train:
        solution = solve(model, log_rate, data)
        _, errors = parameters_and_errors(model, log_rate, solution)
        determined = solution.determined
    else:
        s0, x = jnp.abs(by_name["s0"]), squared_cosine(by_name["angle"])
        point = Point(log_rate, x, jnp.ones(shape, bool))
        errors, determined = train_errors(model, point, s0, data, dot(channel, channel))
        errors[2] = jnp.where(x > 0, errors[2], jnp.inf)
    good = functools.reduce(operator.and_, known) & determined & (sd > 0)
    return {
        name: jnp.where(good, sd * error, jnp.inf)
        for name, error in zip(model.parameters, errors, strict=True)
    }
