"""The numbers of a fit from its rate, and their derivatives, for scaled samples."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from medjax.mri.model import SignalModel
from medjax.mri.varpro import (
    Column,
    Weighted,
    add,
    dot,
    gate,
    invert,
    parameters_and_errors,
    solve,
    square_root,
)


class Numbers(NamedTuple):
    """Of each voxel, for samples of unit scale and noise."""

    values: list[Inexact[Array, "*N"]]  # of the parameters
    errors: list[Float[Array, "*N"]]  # their sd
    cost: Float[Array, "*N"]  # root of the weighted sum of squared residuals
    square: Float[Array, "*N"]  # sum of squared residuals, without weights
    share: Float[Array, "*N"]  # 1 / weighted cost of a constant, or 0
    determined: Bool[Array, "*N"]  # whether the samples determine the rate


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def fit_numbers(
    model: SignalModel,
    rising: bool,
    ended: Bool[Array, "*N"],  # noqa: ARG001
    log_rate: Float[Array, "*N"],
    data: Weighted,
) -> Numbers:
    """All numbers at one rate; where the search has not ended they have no derivative.

    Those voxels become NaN. What flows back to them is 0, but 0 times a derivative that
    overflows is NaN, and would spoil the sum over voxels of a derivative by times.

    Args:
        model: As `signal_model` gives it.
        rising: Whether the sign of the curve is such that it rises: static.
        ended: Whether the rate is a minimum or a bound.
        log_rate: log R, R in 1/s, finite.
        data: Of `prepare_samples`.
    """
    return _numbers(model, rising, log_rate, data)


@fit_numbers.defjvp
def _fit_numbers_jvp(
    model: SignalModel,
    rising: bool,
    primals: tuple[Array, Array, Weighted],
    tangents: tuple[Any, Array, Any],
) -> tuple[Numbers, Any]:
    ended, *point = primals
    good = ended & solve(model, *jax.lax.stop_gradient(point)).determined

    def inner(log_rate, data):
        return _numbers(model, rising, gate(good, log_rate), gate(good, data))

    numbers, changes = jax.jvp(inner, point, list(tangents[1:]))
    changes = [
        [jnp.where(good, x, 0) for x in changes.values],
        [jnp.where(good, x, 0) for x in changes.errors],
        *(jnp.where(good, x, 0) for x in changes[2:-1]),
        changes.determined,
    ]
    kept = gate(good, numbers._replace(determined=None))
    return kept._replace(determined=numbers.determined), Numbers(*changes)


def _numbers(
    model: SignalModel, rising: bool, log_rate: Float[Array, "*N"], data: Weighted
) -> Numbers:
    solution = solve(model, log_rate, data)
    if rising:
        (amplitudes,) = solution.amplitudes
        sign = jnp.where(amplitudes[-1] < 0, -1, 1).astype(log_rate.dtype)
        solution = solution._replace(amplitudes=[[sign * a for a in amplitudes]])
    values, errors = parameters_and_errors(model, log_rate, solution)
    cost = square_root(sum(dot(left, left) for left in solution.residuals))
    square, share = plain_square(data, solution.residuals), inverse_spread(data)
    return Numbers(values, errors, cost, square, share, solution.determined)


def plain_square(data: Weighted, residuals: list[Column]) -> Float[Array, "*N"]:
    """Sum over contrasts of the squared residual, without its weights.

    Args:
        data: Of `prepare_samples`; samples of weight 0 do not count.
        residuals: Weighted, one column for each channel of the data.
    """
    plain = [invert(root, root > 0) for root in data.roots]
    square = jnp.zeros_like(residuals[0][0])
    for left in residuals:
        bare = [p * x for p, x in zip(plain, left, strict=True)]
        square = square + dot(bare, bare)
    return square


def inverse_spread(data: Weighted) -> Float[Array, "*N"]:
    """1 / weighted cost of a constant; 0 where the samples are one.

    Args:
        data: Of `prepare_samples`.
    """
    total = dot(data.roots, data.roots)
    square = whole = jnp.zeros_like(data.channels[0][0])
    for channel in data.channels:
        mean = dot(data.roots, channel) * invert(total, total > 0)
        centred = add(channel, -mean, data.roots)
        square = square + dot(centred, centred)
        whole = whole + dot(channel, channel)
    floor = (8 * jnp.finfo(whole.dtype).eps) ** 2 * whole
    return invert(square, square > floor)
