"""What systems that learn from sampled completions share: the whole step but rewards.

One step is one program: sample G completions of each prompt, score them, normalise the
rewards within the group, take a clipped policy gradient step. Rewards in Python split
it in two programs: sampling, and the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import masked_mean
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.policy import init_params, param_axes
from medjax.rl.advantages import group_advantages
from medjax.rl.rewards import combine_rewards
from medjax.rl.signal import group_signal, reward_signal
from medjax.sharding import optimizer_axes
from medjax.systems.policy.learner import policy_step
from medjax.systems.policy.qwen25vl import sample_prompt
from medjax.types import Key, Params, Rollout, System, TrainState


class Scored(NamedTuple):
    """What a system finds in completions."""

    rewards: Mapping[str, Float[Array, "N G"]]  # by name; NaN = unscorable
    hits: Bool[Array, "N G"]  # the answer counts as right
    parsed: Bool[Array, "N G"]  # an answer could be read
    aux: Any  # the system's carry after the step
    metrics: Mapping[str, Array]  # its own


class ScoredBatch(NamedTuple):
    """A batch whose completions were sampled and scored on the host."""

    batch: Any
    rollout: Rollout
    rewards: dict[str, Float[Array, "N G"]]  # by name; NaN = unscorable


def build(
    config: Qwen25VLConfig,
    optimizer: optax.GradientTransformation,
    evaluate: Callable[..., Any],
    start: Callable[[Params], Any],
    score: Callable[[Any, Any, Rollout, Int[Array, ""]], Scored],
    *,
    group: int,
    max_tokens: int,
    stop_tokens: Sequence[int],
    pad: int,
    sampling: Mapping[str, Any],
    advantages: Mapping[str, Any],
    loss: Mapping[str, Any],
    reward_weights: Mapping[str, float],
    iterations: int = 1,
    accumulate: int = 1,
    freeze_vision: bool = False,
    logit_chunk: int | None = None,
    host_rewards: Callable[..., dict[str, Any]] | None = None,
) -> System:
    """The system; every option that a paper tunes is named by the caller.

    Args:
        config: the policy's sizes.
        optimizer: for its parameters.
        evaluate: as `System.evaluate`.
        start: reference -> the carry at the start, a NamedTuple with a `reference`, the
            frozen initial policy, or () where the loss's `beta` is 0.
        score: (carry, batch, rollout, step) -> what the completions earn. A batch has
            `prompt`, `valid` and `sample_id`.
        group: G completions a prompt.
        max_tokens: T of a completion.
        stop_tokens: end a completion.
        pad: fills it up.
        sampling: `temperature`, `top_k`, `top_p`.
        advantages: options of `group_advantages`.
        loss: options of `grpo_loss`; its `beta` decides whether a reference is kept.
        reward_weights: of every reward, the host's too.
        iterations: optimiser steps on each rollout.
        accumulate: parts the batch's contexts are split into for the gradient.
        freeze_vision: keep the vision tower out of the backward pass.
        logit_chunk: see `completion_logps`.
        host_rewards: rewards in Python. (batch, rollout, step, carry) on the host, the
            carry without its reference -> {name: [N, G]}.
    """
    has_reference = loss["beta"] != 0

    def init(key: Key, params: Params | None = None) -> TrainState:
        params = init_params(config, key) if params is None else params
        reference = jax.tree.map(jnp.copy, params) if has_reference else ()
        step = jnp.zeros((), jnp.int32)
        return TrainState(params, optimizer.init(params), step, start(reference))

    def explore(params: Params, batch: Any, key: Key) -> Rollout:
        return sample_prompt(
            config,
            params,
            batch.prompt,
            batch.sample_id,
            key,
            group=group,
            max_tokens=max_tokens,
            stop_tokens=stop_tokens,
            pad=pad,
            **sampling,
        )

    def learn(
        state: TrainState,
        batch: Any,
        rollout: Rollout,
        host: Mapping[str, Float[Array, "N G"]],
    ) -> tuple[TrainState, dict[str, Array]]:
        reference = state.aux.reference
        scored = score(state.aux, batch, rollout, state.step)
        rewards = {**scored.rewards, **host}
        total, reward_metrics = combine_rewards(
            rewards, reward_weights, valid=batch.valid
        )
        reward_metrics |= reward_signal(rewards, batch.valid)
        params, opt_state, step_metrics = policy_step(
            config,
            optimizer,
            state.params,
            state.opt_state,
            reference if has_reference else None,
            batch.prompt,
            rollout._replace(mask=rollout.mask & batch.valid[:, None, None]),
            group_advantages(total, valid=batch.valid, **advantages),
            loss=loss,
            iterations=iterations,
            accumulate=accumulate,
            freeze_vision=freeze_vision,
            logit_chunk=logit_chunk,
        )
        metrics = {
            **step_metrics,
            **{f"reward_{name}": value for name, value in reward_metrics.items()},
            **scored.metrics,
            **_describe(batch.valid, rollout, scored, total),
        }
        step = state.step + 1
        return TrainState(params, opt_state, step, scored.aux), metrics

    def update(
        state: TrainState, batch: Any, key: Key
    ) -> tuple[TrainState, dict[str, Array]]:
        return learn(state, batch, explore(state.params, batch, key), {})

    def update_scored(
        state: TrainState, scored: ScoredBatch, key: Key
    ) -> tuple[TrainState, dict[str, Array]]:
        del key  # what there was to draw is drawn
        return learn(state, scored.batch, scored.rollout, scored.rewards)

    explore_program = jax.jit(explore)
    score_on_host = host_rewards or (lambda *_: {})

    def prepare(state: TrainState, batch: Any, key: Key) -> ScoredBatch:
        rollout = explore_program(state.params, batch, key)
        carry = state.aux._replace(reference=())
        seen = jax.device_get((batch, rollout, state.step, carry))
        rewards = score_on_host(*seen)
        shape = rollout.mask.shape[:2]
        for name, values in rewards.items():
            if jnp.shape(values) != shape:
                raise ValueError(
                    f"host reward {name!r}: expected shape {shape} (prompts, "
                    f"completions), found {jnp.shape(values)}"
                )
        arrays = {k: jnp.asarray(v, jnp.float32) for k, v in rewards.items()}
        return ScoredBatch(batch, rollout, arrays)

    axes = param_axes(config)
    shapes = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    carry = jax.tree.map(lambda _: PartitionSpec(), jax.eval_shape(lambda: start(())))
    state_axes = TrainState(
        axes,
        optimizer_axes(optimizer, shapes, axes),
        PartitionSpec(),
        carry._replace(reference=axes if has_reference else ()),
    )
    if host_rewards is None:
        return System(init, update, evaluate, state_axes)
    return System(init, update_scored, evaluate, state_axes, prepare)


def _describe(
    valid: Bool[Array, "N"], rollout: Rollout, scored: Scored, total: Array
) -> dict[str, Array]:
    """What a person wants to see of a step's completions, over its valid rows."""
    counts = jnp.broadcast_to(valid[:, None], total.shape)
    lengths = jnp.sum(rollout.mask, axis=-1, dtype=jnp.int32)
    signal = group_signal(total, scored.hits, scored.parsed, valid)
    return {
        "reward": masked_mean(total, counts),
        "hit_rate": masked_mean(scored.hits.astype(jnp.float32), counts),
        "parse_rate": masked_mean(scored.parsed.astype(jnp.float32), counts),
        "length": masked_mean(lengths.astype(jnp.float32), counts),
        "completion_tokens": jnp.sum(jnp.where(counts, lengths, 0)),
        "reward_std": signal.pop("reward_std"),
        **{f"groups_{name}": x for name, x in signal.items() if name != "groups"},
        "groups": signal["groups"],
    }
