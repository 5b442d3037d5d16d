"""The policy-gradient step on sampled completions, prompts computed once per group."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import masked_mean
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.policy import completion_logps, encode_images, prefill
from medjax.rl.grpo import grpo_loss
from medjax.rl.reductions import loss_denominator
from medjax.types import Params, Prompt, Rollout


class Lesson(NamedTuple):
    """What one optimiser step learns from."""

    prompt: Prompt
    tokens: Int[Array, "N G T"]
    mask: Bool[Array, "N G T"]
    advantages: Float[Array, "N G"]
    logp_old: Float[Array, "N G T"] | None  # None = the present policy's


def policy_step(
    config: Qwen25VLConfig,
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: Any,  # noqa: ANN401
    reference: Params | None,
    prompt: Prompt,
    rollout: Rollout,
    advantages: Float[Array, "N G"],
    *,
    loss: Mapping[str, Any],
    iterations: int = 1,
    accumulate: int = 1,
    freeze_vision: bool = False,
    logit_chunk: int | None = None,
) -> tuple[Params, Any, dict[str, Array]]:
    """`iterations` optimiser steps of `grpo_loss` on a rollout.

    With one iteration the old log-probabilities are the present ones without gradient;
    with more they are those before the first. The gradient of a batch split into
    `accumulate` parts is that of the whole: every part divides by the denominator of
    the whole. Returns parameters, optimiser state and the last iteration's metrics.
    """

    def score(
        params: Params, prompt: Prompt, tokens: Array, mask: Array
    ) -> tuple[Float[Array, "N G T"], Float[Array, "N G T"]]:
        features = encode_images(config, params, prompt.images)
        if freeze_vision:
            features = jax.lax.stop_gradient(features)
        prefilled = prefill(config, params, prompt, features)
        return completion_logps(
            config, params, prefilled, tokens, mask, chunk=logit_chunk
        )

    def part_loss(
        params: Params, lesson: Lesson, denominator: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        logp, entropy = score(params, lesson.prompt, lesson.tokens, lesson.mask)
        logp_ref = None
        if reference is not None:
            logp_ref, _ = score(reference, lesson.prompt, lesson.tokens, lesson.mask)
            logp_ref = _rows(jax.lax.stop_gradient(logp_ref))
        value, metrics = grpo_loss(
            _rows(logp),
            None if lesson.logp_old is None else _rows(lesson.logp_old),
            lesson.advantages.reshape(-1),
            _rows(lesson.mask),
            logp_ref=logp_ref,
            denominator=denominator,
            **loss,
        )
        entropy = jax.lax.stop_gradient(entropy)
        return value, metrics | {"entropy": masked_mean(entropy, lesson.mask)}

    old = None
    if iterations > 1:
        old, _ = score(params, prompt, rollout.tokens, rollout.mask)
    whole = Lesson(prompt, rollout.tokens, rollout.mask, advantages, old)
    denominator = loss_denominator(
        _rows(rollout.mask),
        reduction=loss["reduction"],
        max_length=loss.get("max_length"),
    )
    gradient = jax.value_and_grad(part_loss, has_aux=True)

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
                return jax.tree.map(jnp.add, grads, more), result

            zero = jax.tree.map(jnp.zeros_like, params)
            grads, (values, metrics) = jax.lax.scan(add, zero, parts)
            value, metrics = jnp.sum(values), _join(metrics)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        metrics |= {"loss": value, "grad_norm": optax.tree.norm(grads)}
        return (params, opt_state), metrics

    if iterations == 1:
        (params, opt_state), metrics = iterate((params, opt_state), None)
    else:
        (params, opt_state), metrics = jax.lax.scan(
            iterate, (params, opt_state), None, length=iterations
        )
        metrics = jax.tree.map(lambda x: x[-1], metrics)
    return params, opt_state, metrics


def split_contexts(lesson: Lesson, parts: int) -> Lesson:
    """The lesson with a leading axis of parts, contexts kept together with their rows.

    Part a takes the contexts a, a + parts, ..., so that on a mesh every device has its
    share of each part.

    Raises:
        ValueError: the contexts do not divide into `parts`.
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
    return joined | {"ratio_max": jnp.max(metrics["ratio_max"])}


def _rows(x: Array) -> Array:
    """[N, G, T] as [N G, T]."""
    return x.reshape(-1, x.shape[-1])
