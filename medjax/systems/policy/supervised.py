"""Supervised fine-tuning on written answers: the warm start, and a baseline."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from medjax.masked import masked_mean
from medjax.sharding import optimizer_axes
from medjax.types import (
    EvaluateFn,
    GroundingBatch,
    Key,
    LabelBatch,
    Params,
    PolicyModel,
    System,
    TrainState,
)


def build(
    model: PolicyModel,
    optimizer: optax.GradientTransformation,
    evaluate: EvaluateFn,
) -> System:
    """Minimise the mean negative log-probability of the answers' tokens, in nats.

    Args:
        optimizer: Its state is made from the policy's parameters and sharded as they
            are.
        evaluate: Becomes `System.evaluate`; training does not call it.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return System(
        init=partial(init, model, optimizer),
        update=partial(update, model, optimizer),
        evaluate=evaluate,
        axes=TrainState(
            model.axes, optimizer_axes(optimizer, shapes, model.axes), PartitionSpec()
        ),
    )


def init(
    model: PolicyModel,
    optimizer: optax.GradientTransformation,
    key: Key,
    params: Params | None = None,
) -> TrainState:
    """The state before the first step, of random parameters or those given.

    The key is consumed where parameters are drawn and else not read.
    """
    params = model.init(key) if params is None else params
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def answer_loss(
    model: PolicyModel, params: Params, batch: GroundingBatch | LabelBatch
) -> Float[Array, ""]:
    """The mean of -log pi over the tokens of all valid rows' answers, in nats.

    It is 0 where there is no such token.
    """
    prefilled = model.prefill(params, batch.prompt)
    mask = batch.answer_mask & batch.valid[:, None]
    logp, _ = model.score(params, prefilled, batch.answer[:, None], mask[:, None])
    return -masked_mean(logp[:, 0], mask)


def update(
    model: PolicyModel,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: GroundingBatch | LabelBatch,
    key: Key,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimiser step on `answer_loss`; its metrics are `loss` and `grad_norm`.

    The key is not used: nothing is drawn.
    """
    del key  # nothing is drawn
    loss, grads = jax.value_and_grad(partial(answer_loss, model))(state.params, batch)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return TrainState(params, opt_state, state.step + 1), metrics
