"""Group-relative advantages: what a completion earned, against its own group.

A NaN reward is one that could not be scored: it stays out of mean and deviation, and
its advantage is 0. Rewards are data here: no gradient flows through an advantage.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import NUMBERS, check_arrays
from medjax.masked import at_least_float32, masked_mean, masked_sum


class GroupStatistics(NamedTuple):
    """What the scorable rewards of each group have in common."""

    mean: Float[Array, "B"]  # 0 where nothing could be scored
    std: Float[Array, "B"]
    count: Float[Array, "B"]  # how many could be scored


def group_statistics(rewards: Float[Array, "B G"], *, ddof: int = 1) -> GroupStatistics:
    """Statistics of each group; std is 0 for fewer than ddof + 1 scorable rewards.

    Args:
        rewards: One row a group of G completions, in any unit. NaN marks a reward that
            could not be scored and stays out; integers and flags become float32. A
            group of NaN alone has mean, std and count 0.
        ddof: The variance is divided by count - ddof: 1 estimates it, 0 describes the
            G completions themselves.
    """
    check_arrays("group_statistics", rewards=(rewards, "B G", NUMBERS))
    rewards = at_least_float32(rewards)
    mean, std, count = _moments(rewards, ~jnp.isnan(rewards), ddof)
    return GroupStatistics(mean, std, count)


def group_advantages(
    rewards: Float[Array, "B G"],
    *,
    scale: str,
    ddof: int = 1,
    eps: float = 1e-4,
    floor: float = 1e-6,
    leave_one_out: bool = False,
    valid: Bool[Array, "B"] | None = None,
) -> Float[Array, "B G"]:
    """A = (r - mean of the group) / (std + eps); exactly 0 for a group without signal.

    Args:
        rewards: One row a group of G completions, in any unit. NaN marks a reward that
            could not be scored: its advantage is 0, and the others of the group are
            compared without it. A group of one scorable reward has no signal.
        scale: What the difference is divided by: "group" the group's own std (GRPO),
            "batch" the std of all rewards of the batch, "none" nothing (Dr. GRPO).
        ddof: The variance is divided by count - ddof: 1 as TRL, verl and VLM-R1, 0 as
            EasyDeL. At G = 8 a factor of 1.07.
        eps: Added to the std, in the unit of the rewards: 1e-4 as TRL and VLM-R1, 1e-6
            as verl. scale "none" does not read it.
        floor: A group whose std is at most this has no signal. Rounding leaves a
            residue in the std of equal rewards that the division would amplify.
        leave_one_out: Makes the baseline the mean of the *others*: A * n / (n - 1).
            The std stays that of the whole group: one without the sample itself can
            vanish and blow A up.
        valid: The groups that count; the others, which only fill the batch, get 0 and
            stay out of the batch's std. None counts all of them.

    Raises:
        ValueError: an unknown scale, or shapes that do not fit.
    """
    check_arrays(
        "group_advantages",
        rewards=(rewards, "B G", NUMBERS),
        valid=(valid, "B", bool),
    )
    rewards = jax.lax.stop_gradient(at_least_float32(rewards))
    scored = ~jnp.isnan(rewards)
    if valid is not None:
        scored = scored & valid[:, None]
    mean, std, count = _moments(rewards, scored, ddof)
    advantages = rewards - mean[:, None]
    if leave_one_out:
        advantages = advantages * (count / jnp.maximum(count - 1, 1))[:, None]
    if scale == "group":
        advantages = advantages / (std + eps)[:, None]
    elif scale == "batch":
        _, batch_std, _ = _moments(rewards.reshape(-1), scored.reshape(-1), ddof)
        advantages = advantages / (batch_std + eps)
    elif scale != "none":
        raise ValueError(f"scale {scale!r}: expected 'group', 'batch' or 'none'")
    return jnp.where(scored & (std > floor)[:, None], advantages, 0)


def gdpo_advantages(
    rewards: Float[Array, "K B G"],
    weights: Float[Array, "K"],
    *,
    ddof: int = 1,
    eps: float = 1e-4,
    floor: float = 1e-6,
    valid: Bool[Array, "B"] | None = None,
) -> Float[Array, "B G"]:
    """GDPO: normalise each reward in its group, sum with weights, divide by batch std.

    A reward with a small range keeps its say beside one with a large range. A reward
    that cannot score a completion (NaN) is left out of that completion's sum; one
    that no reward can score gets 0 and stays out of the batch std.

    Args:
        rewards: K rewards of B groups of G completions; each may have its own unit.
        weights: One number a reward, in the same order, of either sign; a list will
            do. What counts is their size beside each other, as the sum is divided by
            its std.
        ddof: As in `group_advantages`, for the groups and for the batch.
        eps: Added to every std: to the groups', in the unit of each reward, and to the
            batch's, which has none.
        floor: A reward that differs by a std of at most this within a group says
            nothing about that group.
        valid: The groups that count; the others get 0. None counts all of them.
    """

    def normalise(reward: Float[Array, "B G"]) -> Float[Array, "B G"]:
        return group_advantages(
            reward, scale="group", ddof=ddof, eps=eps, floor=floor, valid=valid
        )

    check_arrays(
        "gdpo_advantages",
        rewards=(rewards, "K B G", NUMBERS),
        weights=(jnp.asarray(weights), "K", NUMBERS),
        valid=(valid, "B", bool),
    )
    rewards = at_least_float32(rewards)
    weights = jnp.asarray(weights, rewards.dtype)
    total = jnp.einsum("k,kbg->bg", weights, jax.vmap(normalise)(rewards))
    scored = jnp.any(~jnp.isnan(rewards), axis=0)
    if valid is not None:
        scored = scored & valid[:, None]
    # Each group sums to 0, so there is no batch mean to take off (TRL takes off that 0,
    # and with it the exactness of the zeros).
    _, std, _ = _moments(total.reshape(-1), scored.reshape(-1), ddof)
    return jnp.where(scored, total / (std + eps), 0)


def _moments(
    x: Float[Array, "*batch G"], where: Bool[Array, "*batch G"], ddof: int
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Mean, std and count over the last axis, of the marked elements."""
    count = jnp.sum(where, axis=-1, dtype=x.dtype)
    mean = masked_mean(x, where, axis=-1)
    squares = masked_sum((x - mean[..., None]) ** 2, where, axis=-1)
    variance = squares / jnp.maximum(count - ddof, 1)
    return mean, jnp.sqrt(variance), count
