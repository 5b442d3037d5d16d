"""PUQ's second stage: T1 or T2 from means and deviations, learned voxel by voxel.

Source: the authors' public code (Haozhoong/PUQ).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from medjax.masked import masked_mean
from medjax.models.denoiser import Regressor
from medjax.systems.puq.network import Design
from medjax.systems.puq.reconstruction import image_moments, init_params, state_axes
from medjax.types import Key, Params, QmriBatch, System, TrainState

NORMALISATIONS = ("first", "largest")
FAINT = 1e-3  # of the slice's largest: fainter voxels teach the regressors nothing


def regressor_inputs(
    mean: Float[Array, "B E H W"], std: Float[Array, "B E H W"], *, normalisation: str
) -> tuple[dict[str, Float[Array, "B H W D"]], Bool[Array, "B H W"]]:
    """[m_1..m_E, u_1..u_E] / reference of each voxel, and where that says anything.

    The reference is m_1 ("first", the authors' for T2) or the m of the largest
    magnitude ("largest": m_1 of an inversion recovery may be 0). Voxels whose
    reference is below 1e-3 of the slice's largest are left out (their inputs are 0).

    Raises:
        ValueError: an unknown normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(
            f"normalisation {normalisation!r}: expected one of "
            f"{', '.join(NORMALISATIONS)}"
        )
    if normalisation == "first":
        reference = mean[:, 0]
    else:
        reference = jnp.max(jnp.abs(mean), axis=1)
    brightest = jnp.max(jnp.abs(reference), axis=(1, 2), keepdims=True)
    usable = jnp.abs(reference) > FAINT * brightest
    divisor = jnp.where(usable, reference, jnp.inf)[:, None]
    plain = jnp.moveaxis(mean / divisor, 1, -1)
    guided = jnp.concatenate([plain, jnp.moveaxis(std / divisor, 1, -1)], axis=-1)
    return {"guided": guided, "plain": plain}, usable


def build(
    design: Design,
    regressor: Regressor,
    optimizer: optax.GradientTransformation,
    evaluate: Callable[..., Any],
    fit: Callable[[Float[Array, "B E H W"]], Any],
    *,
    contrasts: int,
    basis: Float[Array, "E K"] | None,
    passes: int,
    chunk: int,
    normalisation: str,
    longest: float,
    minibatches: int,
    minibatch: int,
) -> System:
    """Train the regressors on a frozen network's moments.

    Each step takes the moments of a batch of slices once and makes several optimiser
    steps on random voxels of it. The target is the unweighted fit of the noiseless,
    fully sampled images, as the authors' reference is. With it the signal model's
    misfit is learned, relative to a voxel's largest contrast: the root mean square over
    all voxels seen.

    Args:
        design: of the network.
        regressor: both kinds have its shape: "guided" sees means and deviations,
            "plain" means alone (the authors' ablation).
        optimizer: for the regressors.
        evaluate: as `System.evaluate`.
        fit: images -> (time constant [B H W] in s, model's images [B E H W], fitted).
        contrasts: E.
        basis: of a subspace.
        passes: with dropout.
        chunk: passes at a time.
        normalisation: of the regressors' inputs.
        longest: largest time constant of a map, s; a regressor gives a fraction of it.
        minibatches: optimiser steps on a batch of slices.
        minibatch: voxels in each.
    """

    def init(key: Key, start: Params | None = None) -> TrainState:
        fresh = init_params(design, regressor, contrasts, key)
        params = fresh if start is None else start
        opt_state = optimizer.init(params["regressors"])
        return TrainState(params, opt_state, jnp.zeros((), jnp.int32))

    def loss_fn(regressors, inputs, target, counts):
        errors = {
            name: regressor.apply({"params": regressors[name]}, x) - target
            for name, x in inputs.items()
        }
        losses = {
            name: masked_mean(jnp.square(error), counts)
            for name, error in errors.items()
        }
        return losses["guided"] + losses["plain"], losses

    def update(
        state: TrainState, batch: QmriBatch, key: Key
    ) -> tuple[TrainState, dict[str, Array]]:
        passes_key, voxels_key = jax.random.split(key)
        mean, std = image_moments(
            design,
            state.params["network"],
            batch,
            passes_key,
            basis=basis,
            passes=passes,
            chunk=chunk,
        )
        reference, model, ok = fit(batch.target)
        inputs, usable = regressor_inputs(mean, std, normalisation=normalisation)
        counts = (usable & ok & batch.roi & batch.valid[:, None, None]).reshape(-1)
        inputs = {k: x.reshape(-1, x.shape[-1]) for k, x in inputs.items()}
        target = jnp.where(ok, reference, 0).reshape(-1) / longest

        def minibatch_step(carry, key):
            regressors, opt_state = carry
            order = jax.random.uniform(key, counts.shape) + (~counts).astype(
                jnp.float32
            )
            chosen = jax.lax.top_k(-order, minibatch)[1]
            picked = {k: x[chosen] for k, x in inputs.items()}
            grad = jax.value_and_grad(loss_fn, has_aux=True)
            (_, losses), grads = grad(
                regressors, picked, target[chosen], counts[chosen]
            )
            updates, opt_state = optimizer.update(grads, opt_state, regressors)
            carry = optax.apply_updates(regressors, updates), opt_state
            return carry, losses | {"grad_norm": optax.tree.norm(grads)}

        keys = jax.random.split(voxels_key, minibatches)
        carry = (state.params["regressors"], state.opt_state)
        (regressors, opt_state), losses = jax.lax.scan(minibatch_step, carry, keys)
        losses = jax.tree.map(jnp.mean, losses)

        judged = ok & batch.roi & batch.valid[:, None, None]
        misfit = _misfit(
            state.params["misfit"], batch.target, model, judged, state.step
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
        return TrainState(params, opt_state, state.step + 1), metrics

    axes = state_axes(design, regressor, optimizer, contrasts, ("regressors",))
    return System(init, update, evaluate, axes)


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
