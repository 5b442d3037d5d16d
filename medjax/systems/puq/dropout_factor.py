"""By how much dropout's deviation falls short of a network's error: one factor.

A deviation over passes with dropout orders voxels, but its size is that of the share of
channels that are dropped. The factor is chosen on subjects that neither stage has seen,
so that the posterior's intervals cover the share that they should.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from medjax.systems.puq.guided_fit import Fit
from medjax.systems.puq.network import Estimator
from medjax.systems.puq.posterior_maps import dropout_posterior
from medjax.systems.puq.reconstruction import (
    Evaluate,
    image_moments,
    init_state,
    state_axes,
)
from medjax.types import Key, Params, QmriBatch, System, TrainState

TRAINED = ("dropout",)  # path in the parameters of what is found here


class Counting(NamedTuple):
    """How the factor is found."""

    coverage: float  # of intervals, above 0 and below 1
    passes: int  # with dropout, over the batch
    chunk: int  # of them computed at a time; divides `passes`


def build(
    estimator: Estimator, evaluate: Evaluate, fit: Fit, counting: Counting
) -> System:
    """Count on batches of slices how many voxels lie in their interval, see `count`.

    Args:
        estimator: The frozen network, whose extras have the factors that are tried.
        evaluate: Becomes `System.evaluate`; counting does not call it.
        fit: images [B, E, H, W] -> the reference that intervals should hold.
        counting: The coverage, and the passes.
    """
    still = optax.identity()  # nothing is trained
    return System(
        partial(init_state, estimator, still, TRAINED),
        partial(count, estimator, fit, counting),
        evaluate,
        state_axes(estimator, still, TRAINED),
    )


def count(
    estimator: Estimator,
    fit: Fit,
    counting: Counting,
    state: TrainState,
    batch: QmriBatch,
    key: Key,
) -> tuple[TrainState, dict[str, Array]]:
    """Add a batch's voxels to the counts, and choose the factor by all so far.

    Args:
        estimator: The frozen network; its factors rise, 2 or more.
        fit: Gives the reference from `batch.target`.
        counting: The coverage, and the passes.
        state: Its parameters are those of `init_params`.
        batch: Slices; voxels outside `roi`, of rows that are not `valid`, whose
            reference is at the limit of the map, or that have no posterior since no
            pass differed from another, do not count.
        key: One typed key; decides which channels are dropped.

    Returns:
        The state one step later, and scalars: "factor", the one at which intervals
        cover the share asked for, by `factor_at`, "coverage", theirs on all slices so
        far, and "uncorrected", that of intervals with a factor of 1.
    """
    quantity, before = estimator.quantity, state.params["dropout"]
    mean, std = image_moments(
        estimator,
        state.params["network"],
        batch,
        key,
        passes=counting.passes,
        chunk=counting.chunk,
    )
    reference = fit(batch.target)
    value = reference.value
    judged = reference.fitted & batch.roi & batch.valid[:, None, None]
    judged &= (value < 0.999 * quantity.longest) & (jnp.max(std, axis=1) > 0)
    tail = (1 - counting.coverage) / 2

    def inside(factor: Array) -> Array:
        found = dropout_posterior(
            mean,
            std,
            jnp.asarray(quantity.times, mean.dtype),
            model=quantity.model,
            bounds=quantity.bounds,
            quantiles=(tail, 1 - tail),
            factor=factor,
        )
        low, high = found.quantiles
        return jnp.sum(judged & (low <= value) & (value <= high), dtype=mean.dtype)

    factors = jnp.asarray(estimator.extras.factors, mean.dtype)
    covered = before["covered"] + jax.lax.map(inside, factors)
    voxels = before["voxels"] + jnp.sum(judged, dtype=mean.dtype)
    shares = covered / jnp.maximum(voxels, 1)
    factor = factor_at(factors, shares, coverage=counting.coverage)
    counts: Params = {"factor": factor, "covered": covered, "voxels": voxels}
    metrics = {
        "factor": factor,
        "coverage": jnp.interp(jnp.log(factor), jnp.log(factors), shares),
        "uncorrected": jnp.interp(0.0, jnp.log(factors), shares),
    }
    params = state.params | {"dropout": counts}
    return TrainState(params, state.opt_state, state.step + 1), metrics


def factor_at(
    factors: Float[Array, "F"], shares: Float[Array, "F"], *, coverage: float
) -> Array:
    """`calibration.factor_for_coverage` of traced arrays.

    Args:
        factors: Rising ones that were tried, above 0.
        shares: Of voxels inside their interval at each of them, 0 to 1.
        coverage: The share wanted. Where it is not reached the last factor is taken,
            and the first where that one covers more already: the coverage that is
            reported beside it tells.
    """
    rising = jax.lax.cummax(shares)
    logs = jnp.log(factors)
    above = jnp.clip(jnp.argmax(rising >= coverage), 1, len(factors) - 1)
    low, high = rising[above - 1], rising[above]
    part = (coverage - low) / jnp.where(high > low, high - low, 1)
    part = jnp.clip(part, 0, 1)
    found = logs[above - 1] + part * (logs[above] - logs[above - 1])
    return jnp.exp(jnp.where(rising[-1] < coverage, logs[-1], found))
