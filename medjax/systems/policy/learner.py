"""The policy-gradient step on sampled completions, prompts computed once per group."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import masked_mean
from medjax.rl.entropy import entropy_bonus
from medjax.rl.grpo import grpo_loss
from medjax.rl.off_policy import importance_weights
from medjax.rl.reductions import loss_denominator
from medjax.systems.low_precision import apply_updates, widen
from medjax.types import Params, PolicyModel, Prompt, Rollout


class Loss(NamedTuple):
    """The options of `grpo_loss` that a run chooses; it explains each."""

    beta: float
    clip_low: float
    clip_high: float
    reduction: str
    dual_clip: float | None = None
    kl: str = "k3"
    kl_clamp: tuple[float, float] | None = None
    kl_ratio: bool = False
    ratio: str = "token"
    surrogate: str = "clip"
    max_length: int | None = None
    off_policy_threshold: float | None = None
    sapo_temperatures: tuple[float, float] = (1.0, 1.05)
    vespo_positive: tuple[float, float] = (2.0, 3.0)
    vespo_negative: tuple[float, float] = (3.0, 2.0)
    entropy: float = 0.0  # weight of the `entropy_bonus`, which is taken off
    # largest weight of a token, the policy's probability over the sampler's, by which
    # its surrogate counts; None: all count alike, whoever sampled them
    importance_cap: float | None = None


_OWN = ("entropy", "importance_cap")  # options of the loss that `grpo_loss` has not


class Teaching(NamedTuple):
    """How often, and in how many parts, a policy learns from a rollout."""

    loss: Loss
    iterations: int = 1  # optimiser steps on each rollout
    accumulate: int = 1  # parts that the contexts are split into for the gradient


class Lesson(NamedTuple):
    """What one optimiser step learns from."""

    prompt: Prompt
    tokens: Int[Array, "B G T"]
    mask: Bool[Array, "B G T"]
    advantages: Float[Array, "B G"]
    logp_old: Float[Array, "B G T"] | None  # None = the present policy's
    logp_sampler: Float[Array, "B G T"]  # of the same tokens, as the sampler had it


def divide(
    model: PolicyModel, params: Params
) -> tuple[Params, Callable[[Params], Params]]:
    """What is trained of a policy's parameters, and the way back to the whole tree.

    A gradient by what is trained keeps and computes nothing for the rest.

    Args:
        model: Its `adapter` is what is trained; without one all parameters are.
        params: The whole tree, of arrays or anything else.
    """
    if model.adapter is None:
        return params, _same
    adapter, base = model.adapter.split(params)
    return adapter, partial(model.adapter.join, base)


def _same(params: Params) -> Params:
    return params


def policy_step(
    model: PolicyModel,
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: Any,  # noqa: ANN401
    reference: Params | None,
    prompt: Prompt,
    rollout: Rollout,
    advantages: Float[Array, "B G"],
    *,
    teaching: Teaching,
) -> tuple[Params, Any, dict[str, Array]]:
    """Optimiser steps of `grpo_loss` on a rollout, `teaching.iterations` of them.

    With one iteration the old log-probabilities are the present ones without gradient;
    with more they are those before the first. The gradient of a batch split into
    `accumulate` parts is that of the whole: every part divides by the denominator of
    the whole.

    Args:
        model: The policy; each prompt is computed once for its G completions.
        optimizer: Gets the gradient, its state and the parameters that are trained, see
            `divide`, once an iteration.
        params: The policy that sampled the rollout.
        opt_state: The optimiser's state for those that are trained.
        reference: What is trained of the frozen policy that the KL term is measured to;
            the rest of it is that of `params`. Without one, None, the loss's `beta` has
            to be 0.
        prompt: The B prompts that the completions answer.
        rollout: Its `mask` is False in the rows that only fill a batch, which so teach
            nothing.
        advantages: What each completion earned against its group; 0 teaches nothing.
        teaching: The loss, and how often and in how many parts it is used.

    Returns:
        Parameters and optimiser state after the step, and the metrics of its last
        iteration: those of `grpo_loss`, `entropy` in nats, `loss`, `grad_norm` before a
        clip, and `sampler_gap` and `sampler_gap_max`, mean and maximum over the tokens
        of |log pi - log pi_sampler| in nats, of the policy that sampled.

    Raises:
        ValueError: The contexts of the batch do not divide into `teaching.accumulate`
            parts.
    """
    loss, iterations, accumulate = teaching
    trained, join = divide(model, params)
    reference = None if reference is None else join(reference)
    whole = Lesson(
        *(prompt, rollout.tokens, rollout.mask, advantages, None, rollout.logp)
    )
    if iterations > 1:
        whole = whole._replace(logp_old=lesson_logps(model, params, whole)[0])
    denominator = loss_denominator(
        _rows(rollout.mask), reduction=loss.reduction, max_length=loss.max_length
    )

    def taught(
        trained: Params, lesson: Lesson, denominator: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        return lesson_loss(model, reference, loss, join(trained), lesson, denominator)

    gradient = jax.value_and_grad(taught, has_aux=True)

    def iterate(
        carry: tuple[Params, Any], _: None
    ) -> tuple[tuple[Params, Any], dict[str, Array]]:
        params, opt_state = carry
        if accumulate == 1:
            (value, metrics), grads = gradient(params, whole, denominator)
        else:
            parts = split_contexts(whole, accumulate)

            def add(grads: Params, part: Lesson) -> tuple[Params, Any]:
                result, more = gradient(params, part, denominator)
                return jax.tree.map(jnp.add, grads, widen(more)), result

            zero = jax.tree.map(jnp.zeros_like, widen(params))
            grads, (values, metrics) = jax.lax.scan(add, zero, parts)
            value, metrics = jnp.sum(values), _join(metrics)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = apply_updates(params, updates)
        metrics |= {"loss": value, "grad_norm": optax.tree.norm(grads)}
        return (params, opt_state), metrics

    if iterations == 1:
        (trained, opt_state), metrics = iterate((trained, opt_state), None)
    else:
        (trained, opt_state), metrics = jax.lax.scan(
            iterate, (trained, opt_state), None, length=iterations
        )
        metrics = jax.tree.map(lambda x: x[-1], metrics)
    return join(trained), opt_state, metrics


def lesson_logps(
    model: PolicyModel, params: Params, lesson: Lesson
) -> tuple[Float[Array, "B G T"], Float[Array, "B G T"]]:
    """Log-probability of each of a lesson's tokens, and the entropy there, in nats.

    Args:
        model: The policy; each prompt is computed once for its G completions.
        params: The parameters that tokens are weighed under.
        lesson: Its prompt, tokens and mask are read; scores where the mask is False
            mean nothing.
    """
    prefilled = model.prefill(params, lesson.prompt)
    return model.score(params, prefilled, lesson.tokens, lesson.mask)


def lesson_loss(
    model: PolicyModel,
    reference: Params | None,
    loss: Loss,
    params: Params,
    lesson: Lesson,
    denominator: Float[Array, ""],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """`grpo_loss` of a lesson under `params`, and its metrics with the entropy.

    The `entropy_bonus` is taken off where the options weigh it: of the same tokens, by
    the same reduction and denominator.

    Args:
        model: The policy; each prompt is computed once for its G completions.
        reference: Parameters of the policy that the KL term is measured to; None has no
            term.
        loss: The options of `grpo_loss`, which explains them, and the bonus's weight.
        params: The parameters that the gradient is taken by.
        lesson: What is learnt from: the whole batch, or a part of it.
        denominator: What the sum over the lesson's tokens is divided by, that of the
            whole batch where the lesson is a part of it; see `loss_denominator`.
    """
    logp, entropy = lesson_logps(model, params, lesson)
    present = jax.lax.stop_gradient(logp)
    old = present if lesson.logp_old is None else lesson.logp_old
    weights = None
    if loss.importance_cap is not None:
        weights = importance_weights(
            *(_rows(old), _rows(lesson.logp_sampler), _rows(lesson.mask)),
            **{"level": "token", "mode": "truncate"},
            **{"low": None, "high": loss.importance_cap},
        )
    logp_ref = None
    if reference is not None:
        logp_ref, _ = lesson_logps(model, reference, lesson)
        logp_ref = _rows(jax.lax.stop_gradient(logp_ref))
    value, metrics = grpo_loss(
        _rows(logp),
        None if lesson.logp_old is None else _rows(lesson.logp_old),
        lesson.advantages.reshape(-1),
        _rows(lesson.mask),
        logp_ref=logp_ref,
        denominator=denominator,
        weights=weights,
        **{name: x for name, x in loss._asdict().items() if name not in _OWN},
    )
    if loss.entropy:
        value -= entropy_bonus(
            _rows(entropy),
            _rows(lesson.mask),
            coefficient=loss.entropy,
            reduction=loss.reduction,
            max_length=loss.max_length,
            denominator=denominator,
        )
    entropy = jax.lax.stop_gradient(entropy)
    gap = jnp.where(lesson.mask, jnp.abs(old - lesson.logp_sampler), 0)
    return value, metrics | {
        "entropy": masked_mean(entropy, lesson.mask),
        "sampler_gap": masked_mean(gap, lesson.mask),
        "sampler_gap_max": jnp.max(gap, initial=0),
    }


def split_contexts(lesson: Lesson, parts: int) -> Lesson:
    """The lesson with a leading axis of parts, contexts kept together with their rows.

    Part a takes the contexts a, a + parts, ..., so that on a mesh every device has its
    share of each part.

    Args:
        lesson: Arrays whose first axis is the contexts or a multiple of them.
        parts: How many parts there are, 1 or more.

    Raises:
        ValueError: The contexts do not divide into `parts`.
    """
    contexts = lesson.prompt.context.tokens.shape[0]
    if contexts % parts:
        raise ValueError(
            f"accumulate={parts} does not divide the {contexts} contexts of a batch"
        )

    def split(x: Array) -> Array:
        rows = x.shape[0] // contexts
        grouped = x.reshape(contexts // parts, parts, rows, *x.shape[1:])
        return jnp.moveaxis(grouped, 1, 0).reshape(parts, -1, *x.shape[1:])

    return jax.tree.map(split, lesson)


def _join(metrics: dict[str, Array]) -> dict[str, Array]:
    """Metrics of parts to metrics of the whole: sums, maxima, means over tokens."""
    share = metrics["tokens"] / jnp.maximum(jnp.sum(metrics["tokens"]), 1)
    joined = {name: jnp.sum(x * share) for name, x in metrics.items()}
    joined |= {name: jnp.sum(metrics[name]) for name in ("tokens", "rows")}
    largest = ("ratio_max", "sampler_gap_max")
    return joined | {name: jnp.max(metrics[name]) for name in largest}


def _rows(x: Array) -> Array:
    """[B, G, T] as [N, T], N = B G."""
    return x.reshape(-1, x.shape[-1])
