"""Supervised fine-tuning on written answers: the warm start, and a baseline."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from medjax.masked import masked_mean
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.policy import (
    completion_logps,
    encode_images,
    init_params,
    param_axes,
    prefill,
)
from medjax.sharding import optimizer_axes
from medjax.types import GroundingBatch, Key, Params, System, TrainState


def build(
    config: Qwen25VLConfig,
    optimizer: optax.GradientTransformation,
    evaluate: Callable[..., Any],
    *,
    logit_chunk: int | None = None,
) -> System:
    """Minimise the mean negative log-probability of the answers' tokens, in nats.

    Args:
        config: the policy's sizes.
        optimizer: for its parameters.
        evaluate: as `System.evaluate`.
        logit_chunk: see `completion_logps`.
    """

    def init(key: Key, start: Params | None = None) -> TrainState:
        params = init_params(config, key) if start is None else start
        return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

    def loss_fn(params: Params, batch: GroundingBatch) -> Float[Array, ""]:
        features = encode_images(config, params, batch.prompt.images)
        prefilled = prefill(config, params, batch.prompt, features)
        mask = batch.answer_mask & batch.valid[:, None]
        logp, _ = completion_logps(
            config,
            params,
            prefilled,
            batch.answer[:, None],
            mask[:, None],
            chunk=logit_chunk,
        )
        return -masked_mean(logp[:, 0], mask)

    def update(
        state: TrainState, batch: GroundingBatch, key: Key
    ) -> tuple[TrainState, dict[str, Array]]:
        del key  # nothing is drawn
        loss, grads = jax.value_and_grad(loss_fn)(state.params, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        return TrainState(params, opt_state, state.step + 1), metrics

    axes = param_axes(config)
    shapes = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    state_axes = TrainState(
        axes, optimizer_axes(optimizer, shapes, axes), PartitionSpec()
    )
    return System(init, update, evaluate, state_axes)
