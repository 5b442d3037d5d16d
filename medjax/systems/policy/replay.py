"""A step's rewards computed again from what was recorded: no policy, no pictures."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from medjax.systems.policy.earning import Carry, earn, reward_metrics
from medjax.systems.policy.exploration import Explorer
from medjax.types import PolicyBatch, Rollout


class Replayed(NamedTuple):
    """What B groups of G completions would have earned."""

    aux: Carry  # after the step
    metrics: dict[str, Array]  # those of the step that ask nothing of the policy
    rewards: Mapping[str, Float[Array, "B G"]]  # by name
    advantages: Float[Array, "B G"]
    counted: Bool[Array, "B G"]  # where a total counts
    parsed: Bool[Array, "B G"]
    read: Mapping[str, Array]  # by name, as `Scored.read`


def replay_step(
    explorer: Explorer,
    carry: Carry,
    batch: PolicyBatch,
    rollout: Rollout,
    step: Int[Array, ""],
    host: Mapping[str, Float[Array, "B G"]],
    host_scored: Mapping[str, Bool[Array, "B G"]],
) -> Replayed:
    """What recorded completions earn under an explorer's rewards.

    Args:
        explorer: Its `score` and the options of its step; its model is not asked.
        carry: The system's, of `explorer.start(())` or of the step before.
        batch: Targets of B prompts, and which of its rows are valid; its prompt and its
            answers are not read.
        rollout: G completions of each; its log-probabilities are not read.
        step: Updates done before this one, from 0.
        host: Rewards that were given in Python, by name; {} where there are none.
        host_scored: By the same names, where each could score the completion.
    """
    options, weights = explorer.step.advantages, explorer.step.reward_weights
    scored = explorer.score(carry, batch, rollout, step)
    earned = earn(options, weights, scored, batch.valid, host, host_scored)
    metrics = reward_metrics(options, weights, batch, rollout, scored, earned)
    return Replayed(
        aux=scored.aux,
        metrics=metrics,
        rewards=earned.rewards,
        advantages=earned.advantages,
        counted=earned.counted,
        parsed=scored.parsed,
        read=scored.read or {},
    )
