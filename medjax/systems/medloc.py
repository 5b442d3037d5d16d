"""MedLoc-R1: GRPO for visual grounding under a moving IoU threshold.

One step is one program: sample G completions of each prompt, read their boxes, reward
1[IoU >= tau] (plus the format), normalise within the group, take a clipped policy
gradient step, and let the scheduler see the IoUs. Source: MedLoc-R1 (arXiv 2603.28120);
what the paper leaves open follows VLM-R1, on which it is built.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.policy import (
    encode_images,
    init_params,
    param_axes,
    prefill,
)
from medjax.rl.advantages import group_advantages
from medjax.rl.parse import ParseTables
from medjax.rl.reductions import masked_mean
from medjax.rl.rewards import (
    combine_rewards,
    format_reward,
    progress_reward,
    progress_threshold,
    raw_iou_reward,
    threshold_reward,
)
from medjax.rl.schedules import ThresholdSchedule
from medjax.rl.signal import group_signal
from medjax.rl.threshold import ThresholdState, init_threshold, update_threshold
from medjax.sharding import optimizer_axes
from medjax.systems.grounding import Judged, judge
from medjax.systems.learner import policy_step
from medjax.systems.rollout import sample
from medjax.types import GroundingBatch, Key, Params, Rollout, System, TrainState

ACCURACY = ("curriculum", "fixed", "raw_iou", "progress")


class MedlocCarry(NamedTuple):
    """What `medloc` carries beside parameters and optimiser."""

    threshold: ThresholdState
    reference: Params  # the frozen initial policy; () where beta is 0


class ScoredBatch(NamedTuple):
    """A batch whose completions were sampled and scored on the host."""

    batch: GroundingBatch
    rollout: Rollout
    rewards: dict[str, Float[Array, "N G"]]  # by name; NaN = unscorable


def build(
    config: Qwen25VLConfig,
    tables: ParseTables,
    optimizer: optax.GradientTransformation,
    evaluate: Callable[..., Any],
    *,
    accuracy: str,
    schedule: ThresholdSchedule,
    total_steps: int,
    group: int,
    max_tokens: int,
    stop_tokens: Sequence[int],
    pad: int,
    sampling: Mapping[str, Any],
    advantages: Mapping[str, Any],
    loss: Mapping[str, Any],
    reward_weights: Mapping[str, float],
    entries: str = "step",
    iterations: int = 1,
    accumulate: int = 1,
    freeze_vision: bool = False,
    logit_chunk: int | None = None,
    host_rewards: Callable[..., dict[str, Any]] | None = None,
) -> System:
    """The system; every option that a paper tunes is named by the caller.

    Args:
        config: the policy's sizes.
        tables: to read the policy's tokens.
        optimizer: for its parameters.
        evaluate: as `System.evaluate`.
        accuracy: "curriculum" (1[IoU >= tau], tau moved by `schedule`), "fixed"
            (1[IoU >= schedule.start], VLM-R1), "raw_iou", or "progress" (V-Triune).
        schedule: of the threshold; only "curriculum" lets it rise.
        total_steps: what "progress" measures by.
        group: G completions a prompt.
        max_tokens: T of a completion.
        stop_tokens: end a completion.
        pad: fills it up.
        sampling: `temperature`, `top_k`, `top_p`.
        advantages: options of `group_advantages`.
        loss: options of `grpo_loss`; its `beta` decides whether a reference is kept.
        reward_weights: of "accuracy", "format" and every host reward.
        entries: what enters the window, see `update_threshold`.
        iterations: optimiser steps on each rollout.
        accumulate: parts the batch's contexts are split into for the gradient.
        freeze_vision: keep the vision tower out of the backward pass.
        logit_chunk: see `completion_logps`.
        host_rewards: rewards in Python. (batch, rollout, state) on the host ->
            {name: [N, G]}. It splits the step in two compiled programs: sampling, and
            the rest.

    Raises:
        ValueError: an unknown `accuracy`.
    """
    if accuracy not in ACCURACY:
        raise ValueError(f"reward {accuracy!r}: expected one of {', '.join(ACCURACY)}")
    has_reference = loss["beta"] != 0

    def init(key: Key, start: Params | None = None) -> TrainState:
        params = init_params(config, key) if start is None else start
        reference = jax.tree.map(jnp.copy, params) if has_reference else ()
        carry = MedlocCarry(init_threshold(schedule), reference)
        return TrainState(
            params, optimizer.init(params), jnp.zeros((), jnp.int32), carry
        )

    def explore(params: Params, batch: GroundingBatch, key: Key) -> Rollout:
        features = encode_images(config, params, batch.prompt.images)
        prefilled = prefill(config, params, batch.prompt, features)
        return sample(
            config,
            params,
            prefilled,
            batch.sample_id,
            key,
            group=group,
            max_tokens=max_tokens,
            stop_tokens=stop_tokens,
            pad=pad,
            **sampling,
        )

    def reward_accuracy(
        judged: Judged, tau: Float[Array, ""], step: Array
    ) -> tuple[Float[Array, "N G"], Float[Array, ""]]:
        """The reward, and the threshold an answer had to reach for it."""
        if accuracy == "raw_iou":
            return raw_iou_reward(judged.iou), jnp.zeros((), jnp.float32)
        if accuracy == "progress":
            reward = progress_reward(judged.iou, step, total_steps=total_steps)
            return reward, progress_threshold(step, total_steps=total_steps)
        return threshold_reward(judged.iou, tau), tau

    def learn(
        state: TrainState,
        batch: GroundingBatch,
        rollout: Rollout,
        host: Mapping[str, Float[Array, "N G"]],
    ) -> tuple[TrainState, dict[str, Array]]:
        carry = state.aux
        targets = jnp.broadcast_to(batch.boxes[:, None], (*rollout.mask.shape[:2], 4))
        judged = judge(rollout.tokens, rollout.mask, targets, tables)
        reward, needed = reward_accuracy(judged, carry.threshold.tau, state.step)
        rewards = {
            "accuracy": reward,
            "format": format_reward(judged.well_formed),
            **host,
        }
        total, reward_metrics = combine_rewards(
            rewards, reward_weights, valid=batch.valid
        )
        params, opt_state, step_metrics = policy_step(
            config,
            optimizer,
            state.params,
            state.opt_state,
            carry.reference if has_reference else None,
            batch.prompt,
            rollout._replace(mask=rollout.mask & batch.valid[:, None, None]),
            group_advantages(total, valid=batch.valid, **advantages),
            loss=loss,
            iterations=iterations,
            accumulate=accumulate,
            freeze_vision=freeze_vision,
            logit_chunk=logit_chunk,
        )
        threshold, decision = update_threshold(
            carry.threshold, judged.iou, schedule, valid=batch.valid, entries=entries
        )
        if accuracy != "curriculum":
            threshold, decision = carry.threshold, {"tau": needed}
        state = TrainState(
            params, opt_state, state.step + 1, MedlocCarry(threshold, carry.reference)
        )
        metrics = {
            **step_metrics,
            **{f"reward_{name}": value for name, value in reward_metrics.items()},
            **{f"window_{name}": x for name, x in decision.items() if name != "tau"},
            "tau": decision["tau"],
            **_describe(batch, rollout, judged, total, needed),
        }
        return state, metrics

    def update(
        state: TrainState, batch: GroundingBatch, key: Key
    ) -> tuple[TrainState, dict[str, Array]]:
        return learn(state, batch, explore(state.params, batch, key), {})

    def update_scored(
        state: TrainState, scored: ScoredBatch, key: Key
    ) -> tuple[TrainState, dict[str, Array]]:
        del key  # what there was to draw is drawn
        return learn(state, scored.batch, scored.rollout, scored.rewards)

    explore_program = jax.jit(explore)
    score_on_host = host_rewards or (lambda *_: {})

    def prepare(state: TrainState, batch: GroundingBatch, key: Key) -> ScoredBatch:
        rollout = explore_program(state.params, batch, key)
        seen = jax.device_get((batch, rollout, state.step, state.aux.threshold))
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
    threshold_axes = jax.tree.map(
        lambda _: PartitionSpec(), jax.eval_shape(lambda: init_threshold(schedule))
    )
    state_axes = TrainState(
        axes,
        optimizer_axes(optimizer, shapes, axes),
        PartitionSpec(),
        MedlocCarry(threshold_axes, axes if has_reference else ()),
    )
    return System(
        init,
        update if host_rewards is None else update_scored,
        evaluate,
        state_axes,
        None if host_rewards is None else prepare,
    )


def _describe(
    batch: GroundingBatch,
    rollout: Rollout,
    judged: Judged,
    total: Float[Array, "N G"],
    needed: Float[Array, ""],
) -> dict[str, Array]:
    """What a person wants to see of a step's completions, over its valid rows."""
    counts = jnp.broadcast_to(batch.valid[:, None], total.shape)
    hits = judged.iou >= needed
    lengths = jnp.sum(rollout.mask, axis=-1, dtype=jnp.int32)
    signal = group_signal(total, hits, judged.parsed, batch.valid)
    return {
        "reward": masked_mean(total, counts),
        "iou": masked_mean(judged.iou, counts),
        "hit_rate": masked_mean(hits.astype(jnp.float32), counts),
        "parse_rate": masked_mean(judged.parsed.astype(jnp.float32), counts),
        "length": masked_mean(lengths.astype(jnp.float32), counts),
        "completion_tokens": jnp.sum(jnp.where(counts, lengths, 0)),
        "reward_std": signal.pop("reward_std"),
        **{f"groups_{name}": x for name, x in signal.items() if name != "groups"},
        "groups": signal["groups"],
    }
