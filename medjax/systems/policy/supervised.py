"""Supervised fine-tuning on written answers: the warm start, and a baseline."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from medjax.masked import masked_mean
from medjax.sharding import optimizer_axes
from medjax.systems.low_precision import apply_updates
from medjax.systems.policy.learner import divide
from medjax.types import (
    EvaluateFn,
    Key,
    Params,
    PolicyBatch,
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
        model: The policy, as a record of functions of its parameters.
        optimizer: Its state is made from the policy's parameters and sharded as they
            are.
        evaluate: Becomes `System.evaluate`; training does not call it.
    """
    shapes, _ = divide(model, jax.eval_shape(model.init, jax.random.key(0)))
    axes, _ = divide(model, model.axes)
    return System(
        init=partial(init, model, optimizer),
        update=partial(update, model, optimizer),
        evaluate=evaluate,
        axes=TrainState(
            model.axes, optimizer_axes(optimizer, shapes, axes), PartitionSpec()
        ),
        adapter=model.adapter,
    )


def init(
    model: PolicyModel,
    optimizer: optax.GradientTransformation,
    key: Key,
    params: Params | None = None,
) -> TrainState:
    """The state before the first step, of random parameters or those given.

    Args:
        model: The policy, as a record of functions of its parameters.
        optimizer: Its state is made for all parameters that are trained.
        key: One typed key, consumed where parameters are drawn and else not read.
        params: The policy to start from; None draws one.
    """
    params = model.init(key) if params is None else params
    trained, _ = divide(model, params)
    return TrainState(params, optimizer.init(trained), jnp.zeros((), jnp.int32))


def answer_loss(
    model: PolicyModel, params: Params, batch: PolicyBatch
) -> Float[Array, ""]:
    """The mean of -log pi over the tokens of all valid rows' answers, in nats.

    Args:
        model: The policy, as a record of functions of its parameters.
        params: What the gradient is taken by.
        batch: B prompts with their supervised answers; what stands behind an answer's
            mask and in rows that are not valid is not read.

    Returns:
        A scalar; 0 where there is no such token.
    """
    prefilled = model.prefill(params, batch.prompt)
    mask = batch.answer_mask & batch.valid[:, None]
    logp, _ = model.score(params, prefilled, batch.answer[:, None], mask[:, None])
    return -masked_mean(logp[:, 0], mask)


def update(
    model: PolicyModel,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: PolicyBatch,
    key: Key,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimiser step on `answer_loss`.

    Args:
        model: The policy, as a record of functions of its parameters.
        optimizer: Gets the gradient, its state and the parameters.
        state: The state before the step; it may be donated.
        batch: B prompts with their supervised answers.
        key: Not used: nothing is drawn.

    Returns:
        The state after the step, and `loss` (nats a token) and `grad_norm` before a
        clip.
    """
    del key  # nothing is drawn
    trained, join = divide(model, state.params)

    def taught(trained: Params) -> Float[Array, ""]:
        return answer_loss(model, join(trained), batch)

    with jax.named_scope("learner"):  # what profiles and plans call it
        loss, grads = jax.value_and_grad(taught)(trained)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params = join(apply_updates(trained, updates))
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return TrainState(params, opt_state, state.step + 1), metrics
