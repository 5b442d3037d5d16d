"""MedLoc-R1: GRPO for visual grounding under a moving IoU threshold.

The step of `systems/exploration.py` with the reward 1[IoU >= tau] (plus the format);
the scheduler sees the IoUs of each step and moves tau. Source: MedLoc-R1 (arXiv
2603.28120); what the paper leaves open follows VLM-R1, on which it is built.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from medjax.masked import masked_mean
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.rl.rewards import (
    format_reward,
    progress_reward,
    progress_threshold,
    raw_iou_reward,
    threshold_reward,
)
from medjax.rl.schedules import ThresholdSchedule
from medjax.rl.text.boxes import ParseTables
from medjax.rl.threshold import ThresholdState, init_threshold, update_threshold
from medjax.systems.policy import exploration
from medjax.systems.policy.boxes import Judged, judge
from medjax.systems.policy.exploration import Scored
from medjax.types import GroundingBatch, Params, Rollout, System

ACCURACY = ("curriculum", "fixed", "raw_iou", "progress")


class MedlocCarry(NamedTuple):
    """What `medloc` carries beside parameters and optimiser."""

    threshold: ThresholdState
    reference: Params  # the frozen initial policy; () where beta is 0


def build(
    config: Qwen25VLConfig,
    tables: ParseTables,
    optimizer: optax.GradientTransformation,
    evaluate: Callable[..., Any],
    *,
    accuracy: str,
    schedule: ThresholdSchedule,
    total_steps: int,
    reward_weights: Mapping[str, float],
    entries: str = "step",
    host_rewards: Callable[..., dict[str, Any]] | None = None,
    **step: Any,
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
        reward_weights: of "accuracy", "format" and every host reward.
        entries: what enters the window, see `update_threshold`.
        host_rewards: rewards in Python. (batch, rollout, step, ThresholdState) on the
            host -> {name: [N, G]}. It splits the step in two compiled programs.
        step: the other options of `exploration.build`.

    Raises:
        ValueError: an unknown `accuracy`.
    """
    if accuracy not in ACCURACY:
        raise ValueError(f"reward {accuracy!r}: expected one of {', '.join(ACCURACY)}")

    def start(reference: Params) -> MedlocCarry:
        return MedlocCarry(init_threshold(schedule), reference)

    def reward_accuracy(
        judged: Judged, tau: Float[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, "N G"], Float[Array, ""]]:
        """The reward, and the threshold an answer had to reach for it."""
        if accuracy == "raw_iou":
            return raw_iou_reward(judged.iou), jnp.zeros((), jnp.float32)
        if accuracy == "progress":
            reward = progress_reward(judged.iou, step, total_steps=total_steps)
            return reward, progress_threshold(step, total_steps=total_steps)
        return threshold_reward(judged.iou, tau), tau

    def score(
        carry: MedlocCarry, batch: GroundingBatch, rollout: Rollout, step: Array
    ) -> Scored:
        targets = jnp.broadcast_to(batch.boxes[:, None], (*rollout.mask.shape[:2], 4))
        judged = judge(rollout.tokens, rollout.mask, targets, tables)
        reward, needed = reward_accuracy(judged, carry.threshold.tau, step)
        threshold, decision = update_threshold(
            carry.threshold, judged.iou, schedule, valid=batch.valid, entries=entries
        )
        if accuracy != "curriculum":
            threshold, decision = carry.threshold, {"tau": needed}
        counts = jnp.broadcast_to(batch.valid[:, None], reward.shape)
        metrics = {
            **{f"window_{name}": x for name, x in decision.items() if name != "tau"},
            "tau": decision["tau"],
            "iou": masked_mean(judged.iou, counts),
        }
        return Scored(
            rewards={"accuracy": reward, "format": format_reward(judged.well_formed)},
            hits=judged.iou >= needed,
            parsed=judged.parsed,
            aux=carry._replace(threshold=threshold),
            metrics=metrics,
        )

    def with_threshold(asked: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
        """A host reward sees the threshold alone of the carry."""

        def host(
            batch: Any, rollout: Rollout, step: Array, carry: MedlocCarry
        ) -> dict[str, Any]:
            return asked(batch, rollout, step, carry.threshold)

        return host

    return exploration.build(
        config,
        optimizer,
        evaluate,
        start,
        score,
        reward_weights=reward_weights,
        host_rewards=host_rewards and with_threshold(host_rewards),
        **step,
    )
