"""What completions earn, and what a person wants to see of it: no policy is needed."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import at_least_float32, marks, masked_mean
from medjax.rl.rewards import combine_rewards
from medjax.rl.signal import group_signal, reward_signal
from medjax.rl.visits import VisitState
from medjax.systems.policy.advantages import Advantages, make_advantages
from medjax.systems.policy.host_rewards import REWARD_LIMIT
from medjax.types import Params, PolicyBatch, Rollout


class Carry(Protocol):
    """A NamedTuple that a system carries beside parameters and optimiser."""

    @property
    def reference(self) -> Params:
        """The frozen initial policy; () where the loss's `beta` is 0."""
        ...

    @property
    def visits(self) -> VisitState | tuple[()]:
        """To each picture; () where all are visited alike."""
        ...

    def _replace(self, **changes: Any) -> "Carry": ...  # noqa: ANN401


class Scored(NamedTuple):
    """What a system reads in completions, and what it pays for it."""

    rewards: Mapping[str, Float[Array, "B G"]]  # by name
    hits: Bool[Array, "B G"]  # the answer counts as right
    parsed: Bool[Array, "B G"]  # an answer could be read
    aux: Carry  # after the step
    metrics: Mapping[str, Array]  # the system's own
    # what a reward's weight is multiplied by in this step, by its name; 1 where none is
    factors: Mapping[str, Float[Array, ""]] | None = None
    # what else was read, by name, with leading axes [B, G]: for an audit alone
    read: Mapping[str, Array] | None = None


class Earned(NamedTuple):
    """Rewards of B groups of G completions, and what they are worth in their group."""

    rewards: Mapping[str, Float[Array, "B G"]]  # by name, those in Python too
    host_scored: Mapping[str, Bool[Array, "B G"]]  # where those in Python could score
    valid: Bool[Array, "B 1"]  # the prompts that count
    total: Float[Array, "B G"]  # weighed and added up
    counted: Bool[Array, "B G"]  # where a total counts
    advantages: Float[Array, "B G"]  # 0 where it does not
    metrics: Mapping[str, Float[Array, ""]]  # reward_NAME


def earn(
    options: Advantages,
    weights: Mapping[str, float],
    scored: Scored,
    valid: Bool[Array, "B"],
    host: Mapping[str, Float[Array, "B G"]],
    host_scored: Mapping[str, Bool[Array, "B G"]],
) -> Earned:
    """What completions earned against their group.

    Args:
        options: How rewards are normalised.
        weights: Of every reward, those in Python too, of either sign.
        scored: What a system paid; its `factors` multiply weights.
        valid: The prompts that count.
        host: Rewards that were given in Python, by name; {} where there are none.
        host_scored: By the same names, where each could score the completion.
    """
    rewards = {**scored.rewards, **host}
    prompts = valid[:, None]
    places = {"scored": host_scored, "valid": prompts}
    weighed: Mapping[str, float | Array] = weights
    if scored.factors:
        factors = scored.factors
        weighed = {name: w * factors.get(name, 1) for name, w in weights.items()}
    total, counted, metrics = combine_rewards(rewards, weighed, **places)
    metrics |= reward_signal(rewards, **places, floor=options.floor)
    advantages = make_advantages(
        options, rewards, weighed, **places, total=total, counted=counted
    )
    named = {f"reward_{name}": value for name, value in metrics.items()}
    return Earned(rewards, host_scored, prompts, total, counted, advantages, named)


def reward_metrics(
    options: Advantages,
    weights: Mapping[str, float],
    batch: PolicyBatch,
    rollout: Rollout,
    scored: Scored,
    earned: Earned,
) -> dict[str, Array]:
    """The metrics of a step that do not ask what the policy learnt from it.

    The total is described over the completions alone that could be scored. Where
    rewards are normalised part by part, groups teach by their advantages: parts may
    differ that add up to equal totals.

    Args:
        options: How rewards are normalised.
        weights: Of every reward, without factors.
        batch: Its `valid` and sample ids are read.
        rollout: Its mask gives lengths in tokens.
        scored: What a system read and paid.
        earned: From `earn`.

    Returns:
        Scalars: reward_NAME of each reward, fault_NAME (a sample for which it is no
        number to learn from, -1 without one), the system's own, and over the valid rows
        `reward`, `hit_rate`, `parse_rate`, `length`, `completion_tokens`, `reward_std`
        and those of `group_signal` as groups_NAME.
    """
    return {
        **earned.metrics,
        **_find_faults(earned, weights, batch.sample_id),
        **scored.metrics,
        **_describe(options, batch.valid, rollout, scored, earned),
    }


def _find_faults(
    earned: Earned, weights: Mapping[str, float], sample_id: Int[Array, "B"]
) -> dict[str, Int[Array, ""]]:
    """A sample for which each reward is no number to learn from, -1 without one."""
    found = {}
    for name, reward in earned.rewards.items():
        weight = jnp.abs(jnp.asarray(weights[name], jnp.float32))
        size = jnp.abs(at_least_float32(reward)) * jnp.maximum(weight, 1)
        counted = marks(earned.valid, reward.shape)
        counted = counted & marks(earned.host_scored.get(name), reward.shape)
        bad = jnp.any(counted & ~(size <= REWARD_LIMIT), axis=1)
        found[f"fault_{name}"] = jnp.max(jnp.where(bad, sample_id, -1))
    return found


def _describe(
    options: Advantages,
    valid: Bool[Array, "B"],
    rollout: Rollout,
    scored: Scored,
    earned: Earned,
) -> dict[str, Array]:
    total, counted = earned.total, earned.counted
    counts = jnp.broadcast_to(valid[:, None], total.shape)
    lengths = jnp.sum(rollout.mask, axis=-1, dtype=jnp.int32)
    read, floor = (scored.hits, scored.parsed), options.floor
    signal = group_signal(total, *read, valid=counted, floor=floor)
    if options.normalise == "parts":
        parts = group_signal(earned.advantages, *read, valid=counted, floor=floor)
        signal = parts | {"reward_std": signal["reward_std"]}
    return {
        "reward": masked_mean(total, counted),
        "hit_rate": masked_mean(scored.hits.astype(jnp.float32), counts),
        "parse_rate": masked_mean(scored.parsed.astype(jnp.float32), counts),
        "length": masked_mean(lengths.astype(jnp.float32), counts),
        "completion_tokens": jnp.sum(jnp.where(counts, lengths, 0)),
        "reward_std": signal.pop("reward_std"),
        **{f"groups_{name}": x for name, x in signal.items() if name != "groups"},
        "groups": signal["groups"],
    }
