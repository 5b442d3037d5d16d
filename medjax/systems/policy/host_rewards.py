"""Rewards in Python: the half of a step that runs on the host, and what it gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import marks
from medjax.systems.policy.revisits import Picked
from medjax.types import Key, Params, PolicyBatch, Rollout, TrainState

REWARD_LIMIT = 1e18  # the square of more, summed over a group, is infinite in float32


class HostReward(NamedTuple):
    """What a reward in Python gives for the completions of a batch."""

    values: Float[np.ndarray, "B G"]
    scored: Bool[np.ndarray, "B G"] | None = None  # where it could score; None: all


class ScoredBatch(NamedTuple):
    """A batch whose completions were sampled and scored on the host."""

    batch: PolicyBatch
    rollout: Rollout
    rewards: dict[str, Float[Array, "B G"]]  # by name
    scored: dict[str, Bool[Array, "B G"]]  # where each could score the completion
    picked: Picked | None = None  # what the batch was chosen from, if it was


# (batch, rollout, step, carry) as NumPy arrays -> rewards by name
HostRewards = Callable[[Any, Rollout, Any, Any], dict[str, HostReward]]


def score_on_host(
    sampler: Callable[[Params, Any, Key], Rollout],
    host_rewards: HostRewards,
    state: TrainState,
    batch: PolicyBatch,
    key: Key,
) -> ScoredBatch:
    """The first half of a split step: sample by a compiled program, score in Python.

    Args:
        sampler: (params, batch, key) -> Rollout, compiled; see `explore`.
        host_rewards: (batch, rollout, step, carry) as NumPy arrays, the carry without
            its reference -> {name: HostReward}, which become float32.
        state: The policy that samples; it is not changed. Over several processes all
            rows come to each, and all must give equal rewards.
        batch: B prompts with their targets, NumPy's or on the device.
        key: One typed key, consumed; it draws the completions.

    Returns:
        The batch, its completions and the rewards on the device, for `update_scored`.

    Raises:
        ValueError: A reward is of another shape than [B, G], or not finite where it
            could score a completion; it is named, with the sample.
    """
    rollout = sampler(state.params, batch, key)
    carry = state.aux._replace(reference=())
    on_host = _fetch((batch, rollout, state.step, carry))
    rewards = host_rewards(*on_host)
    shape = rollout.mask.shape[:2]
    for name, reward in rewards.items():
        if not isinstance(reward, HostReward):
            raise ValueError(
                f"host reward {name!r}: expected a HostReward(values, scored), found "
                f"{type(reward).__name__}"
            )
        for found in (x.shape for x in reward if x is not None):
            if found != shape:
                raise ValueError(
                    f"host reward {name!r}: expected shape {shape} (prompts, "
                    f"completions), found {found}"
                )
        _check_finite(name, reward, on_host[0].sample_id)
    return ScoredBatch(
        batch,
        rollout,
        {k: jnp.asarray(x.values, jnp.float32) for k, x in rewards.items()},
        {k: marks(x.scored, shape) for k, x in rewards.items()},
    )


def _fetch(tree: Any) -> Any:
    """The tree as NumPy arrays, with the rows that other processes hold."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(
        lambda x: (
            multihost_utils.process_allgather(x, tiled=True)
            if isinstance(x, jax.Array) and not x.is_fully_addressable
            else jax.device_get(x)
        ),
        tree,
    )


def _check_finite(
    name: str, reward: HostReward, sample_id: Int[np.ndarray, "B"]
) -> None:
    scored = True if reward.scored is None else np.asarray(reward.scored, bool)
    values = np.asarray(reward.values, np.float64)
    bad = np.argwhere(scored & ~(np.abs(values) <= REWARD_LIMIT))
    if len(bad):
        row, place = bad[0].tolist()
        raise ValueError(
            f"host reward {name!r}: expected finite numbers up to {REWARD_LIMIT:g}, "
            f"found {values[row, place]} for completion {place} of sample "
            f"{sample_id[row]}; mark what it cannot score in `scored`"
        )
