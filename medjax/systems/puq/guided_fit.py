"""PUQ's second stage: T1 or T2 from means and deviations, learned voxel by voxel.

Source: the authors' public code (Haozhoong/PUQ).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from medjax.checks import check_arrays
from medjax.masked import masked_mean
from medjax.systems.puq.categorical import (
    Categorical,
    bin_place,
    cross_entropy,
    from_params,
    input_range,
)
from medjax.systems.puq.network import Estimator
from medjax.systems.puq.network_density import (
    log_edges,
    network_inputs,
    network_posterior,
)
from medjax.systems.puq.reconstruction import (
    Evaluate,
    image_moments,
    init_state,
    state_axes,
)
from medjax.types import Key, Params, QmriBatch, System, TrainState

TRAINED = ("regressors",)  # path in the parameters of what is trained here
NORMALISATIONS = ("first", "largest")
FAINT = 1e-3  # of the slice's largest: fainter voxels teach the regressors nothing


class Reference(NamedTuple):
    """What the regressors learn from: a fit of noiseless, fully sampled images."""

    value: Float[Array, "B H W"]  # the time constant, s
    images: Float[Array, "B E H W"]  # the signal model's
    fitted: Bool[Array, "B H W"]  # where the fit found a value


Fit = Callable[[Float[Array, "B E H W"]], Reference]


class Schedule(NamedTuple):
    """What one step does."""

    passes: int  # with dropout, over the batch
    chunk: int  # of them computed at a time; divides `passes`
    minibatches: int  # optimiser steps on a batch of slices
    minibatch: int  # voxels in each, drawn without putting back
    pace: float = 1.0  # of the density's updates, times the regressors'


def regressor_inputs(
    mean: Float[Array, "B E H W"], std: Float[Array, "B E H W"], *, normalisation: str
) -> tuple[dict[str, Float[Array, "B H W D"]], Bool[Array, "B H W"]]:
    """[m_1..m_E, u_1..u_E] / reference of each voxel, and where that says anything.

    The reference is m_1 ("first", the authors' for T2) or the m of the largest
    magnitude ("largest": m_1 of an inversion recovery may be 0). Voxels whose
    reference is at most 1e-3 of the slice's largest are left out.

    Args:
        mean: m of each contrast, real, in any unit; at least one contrast. A voxel that
            is not finite spoils its slice.
        std: u of each contrast, in the unit of `mean`; not negative.
        normalisation: "first" or "largest".

    Returns:
        {"guided": D = 2 E inputs, "plain": the first D = E of them}, without a unit, 0
        at voxels that are left out; and True at the voxels that are not.

    Raises:
        ValueError: an unknown normalisation, shapes that do not fit, no contrast.
    """
    check_arrays(
        "regressor_inputs",
        mean=(mean, "B E H W", float),
        std=(std, "B E H W", float),
    )
    if mean.shape[1] == 0:
        raise ValueError(
            "regressor_inputs: mean: expected at least one contrast, found "
            f"{mean.shape}"
        )
    if normalisation not in NORMALISATIONS:
        raise ValueError(
            "regressor_inputs: normalisation: expected one of "
            f"{', '.join(NORMALISATIONS)}, found {normalisation!r}"
        )
    if normalisation == "first":
        reference = mean[:, 0]
    else:
        reference = jnp.max(jnp.abs(mean), axis=1)
    brightest = jnp.max(jnp.abs(reference), axis=(1, 2), keepdims=True, initial=0)
    usable = jnp.abs(reference) > FAINT * brightest
    divisor = jnp.where(usable, reference, jnp.inf)[:, None]
    plain = jnp.moveaxis(mean / divisor, 1, -1)
    guided = jnp.concatenate([plain, jnp.moveaxis(std / divisor, 1, -1)], axis=-1)
    return {"guided": guided, "plain": plain}, usable


def build(
    estimator: Estimator,
    optimizer: optax.GradientTransformation,
    evaluate: Evaluate,
    fit: Fit,
    schedule: Schedule,
) -> System:
    """Train the regressors on a frozen network's moments, see `update_regressors`.

    There are two of one shape: "guided" sees means and deviations, "plain" means alone
    (the authors' ablation). Both give a fraction of the quantity's largest value. With
    the estimator's extras a density of T is trained beside them, by the same optimiser
    on the same voxels at a pace of its own; it moves no number of theirs where
    gradients are not clipped.

    Args:
        estimator: The frozen network, the regressors' shape and the quantity.
        optimizer: Moves the regressors alone.
        evaluate: Becomes `System.evaluate`; training does not call it.
        fit: images [B, E, H, W] -> the reference that is learnt from.
        schedule: How many passes, steps, and voxels a step.
    """
    return System(
        partial(init_state, estimator, optimizer, TRAINED),
        partial(update_regressors, estimator, optimizer, fit, schedule),
        evaluate,
        state_axes(estimator, optimizer, TRAINED),
    )


def update_regressors(
    estimator: Estimator,
    optimizer: optax.GradientTransformation,
    fit: Fit,
    schedule: Schedule,
    state: TrainState,
    batch: QmriBatch,
    key: Key,
) -> tuple[TrainState, dict[str, Array]]:
    """Take the moments of a batch once; make several optimiser steps on its voxels.

    The target is the unweighted fit of the noiseless, fully sampled images, as the
    authors' reference is. With it the signal model's misfit is learned, relative to a
    voxel's largest contrast: the root mean square over all voxels seen.

    Args:
        estimator: The frozen network, the regressors' shape and the quantity.
        optimizer: Moves the parameters "regressors" alone.
        fit: Gives the target from `batch.target`.
        schedule: How many passes, steps, and voxels a step.
        state: Its parameters are those of `init_params`.
        batch: Slices; voxels outside `roi`, of rows that are not `valid`, too faint, or
            without a fit teach nothing. Statistics are those of the whole batch.
        key: One typed key; decides which channels are dropped and which voxels each
            step takes. Do not use it again.

    Returns:
        The state one step later, and scalars: "loss" (both mean squared errors of the
        fraction of the largest value, added), "grad_norm" (of both), "rmse_guided_ms"
        and "rmse_plain_ms" (means over the steps), "std", the mean u of the voxels that
        are judged, in the unit of the images, and "cross_entropy" where a density of T
        is trained.
    """
    longest = estimator.quantity.longest
    passes_key, voxels_key = jax.random.split(key)
    mean, std = image_moments(
        estimator,
        state.params["network"],
        batch,
        passes_key,
        passes=schedule.passes,
        chunk=schedule.chunk,
    )
    # Both at once where means are fitted too: a fit takes seconds to compile.
    joined = estimator.extras.bins > 0
    fits = fit(jnp.concatenate([batch.target, mean]) if joined else batch.target)
    reference = jax.tree.map(lambda x: x[: len(mean)], fits) if joined else fits
    inputs, usable = regressor_inputs(mean, std, normalisation=estimator.normalisation)
    judged = reference.fitted & batch.roi & batch.valid[:, None, None]
    counts = (usable & judged).reshape(-1)
    inputs = {k: x.reshape(-1, x.shape[-1]) for k, x in inputs.items()}
    target = jnp.where(reference.fitted, reference.value, 0).reshape(-1) / longest
    ranges, voxels = None, None
    if estimator.extras.bins:
        own = jax.tree.map(lambda x: x[len(mean) :], fits)
        times = jnp.where(own.fitted, own.value, jnp.nan)
        learned = estimator, state, batch, mean, std, times
        ranges, voxels = _density_voxels(*learned, reference.value, judged)

    given = state.params["regressors"]
    paces = {k: schedule.pace if k == "categorical" else 1.0 for k in given}

    def minibatch_step(carry, key):
        regressors, opt_state = carry
        order = jax.random.uniform(key, counts.shape, jnp.float32)
        order = order + (~counts).astype(jnp.float32)
        chosen = jax.lax.top_k(-order, schedule.minibatch)[1]
        picked = {k: x[chosen] for k, x in inputs.items()}
        some = jax.tree.map(lambda x: x[chosen], voxels)
        grad = jax.value_and_grad(partial(_loss, estimator, ranges), has_aux=True)
        (_, losses), grads = grad(
            regressors, picked, target[chosen], counts[chosen], some
        )
        norm = optax.tree.norm({k: grads[k] for k in inputs})
        updates, opt_state = optimizer.update(grads, opt_state, regressors)
        updates = jax.tree.map(optax.tree.scale, paces, updates)
        carry = optax.apply_updates(regressors, updates), opt_state
        return carry, losses | {"grad_norm": norm}

    keys = jax.random.split(voxels_key, schedule.minibatches)
    carry = (given, state.opt_state)
    (regressors, opt_state), losses = jax.lax.scan(minibatch_step, carry, keys)
    losses = jax.tree.map(jnp.mean, losses)
    misfit = _misfit(
        state.params["misfit"], batch.target, reference.images, judged, state.step
    )
    metrics = {
        "loss": losses["guided"] + losses["plain"],
        "grad_norm": losses["grad_norm"],
        # what a map is off by on average, ms
        "rmse_guided_ms": 1e3 * longest * jnp.sqrt(losses["guided"]),
        "rmse_plain_ms": 1e3 * longest * jnp.sqrt(losses["plain"]),
        "std": masked_mean(std.mean(1), batch.roi & batch.valid[:, None, None]),
    }
    params = state.params | {"regressors": regressors, "misfit": misfit}
    if ranges is not None:
        params |= {"inputs": ranges}
        metrics["cross_entropy"] = losses["categorical"]
    return TrainState(params, opt_state, state.step + 1), metrics


class _Voxels(NamedTuple):
    """What the density learns from."""

    inputs: Float[Array, "N D"]  # 0 where a voxel does not count
    place: Float[Array, "N"]  # of the true T among the classes
    counts: Bool[Array, "N"]


def _density_voxels(
    estimator: Estimator,
    state: TrainState,
    batch: QmriBatch,
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
    times: Float[Array, "B H W"],
    value: Float[Array, "B H W"],
    judged: Bool[Array, "B H W"],
) -> tuple[dict[str, Float[Array, "D"]], _Voxels]:
    """The range of the density's inputs, that of the first step's batch; its voxels."""
    posterior = network_posterior(estimator, state.params, mean, std)
    inputs = network_inputs(estimator, state.params, mean, std, times, posterior, batch)
    counts = judged & jnp.isfinite(inputs).all(-1)
    here = dict(zip(("centre", "spread"), input_range(inputs, counts), strict=True))
    before = state.params["inputs"]
    first = state.step == 0
    ranges = {k: jnp.where(first, here[k], before[k]) for k in here}
    place = bin_place(value, log_edges(estimator), bins=estimator.extras.bins)
    flat = jnp.where(counts[..., None], inputs, 0).reshape(-1, inputs.shape[-1])
    return ranges, _Voxels(flat, place.reshape(-1), counts.reshape(-1))


def _loss(
    estimator: Estimator,
    ranges: dict[str, Float[Array, "D"]] | None,
    regressors: dict[str, Params],
    inputs: dict[str, Float[Array, "N D"]],
    target: Float[Array, "N"],
    counts: Bool[Array, "N"],
    voxels: _Voxels | None,
) -> tuple[Array, dict[str, Array]]:
    """Mean squared errors of both kinds, and the density's cross-entropy: the sum."""
    losses = {}
    for name, x in inputs.items():
        fraction: Any = estimator.regressor.apply({"params": regressors[name]}, x)
        losses[name] = masked_mean(jnp.square(fraction - target), counts)
    total = losses["guided"] + losses["plain"]
    if ranges is None or voxels is None:
        return total, losses
    model = Categorical(
        layers=from_params(regressors["categorical"]),
        **ranges,
        edges=log_edges(estimator),
    )
    entropy = cross_entropy(model, voxels.inputs, voxels.place)
    losses["categorical"] = masked_mean(entropy, voxels.counts)
    return total + losses["categorical"], losses


def _misfit(
    misfit: Float[Array, "E"],
    images: Float[Array, "B E H W"],
    model: Float[Array, "B E H W"],
    judged: Bool[Array, "B H W"],
    step: Array,
) -> Float[Array, "E"]:
    """The running root mean square, over steps, of (x - model) / max |x|."""
    scale = jnp.where(judged, jnp.max(jnp.abs(images), axis=1), 1)
    squares = jnp.square((images - model) / scale[:, None])
    here = jnp.stack([masked_mean(x, judged) for x in jnp.moveaxis(squares, 1, 0)])
    before = jnp.square(misfit)
    return jnp.sqrt(before + (here - before) / (step + 1).astype(before.dtype))
