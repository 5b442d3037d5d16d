"""Group-relative advantages: what a completion earned, against its own group.

`valid` marks the completions that count: groups may be of different sizes, and a reward
may be unable to score one. The others have advantage 0, and what stands there is not
read. A number that is not finite at a place that counts is an error, and shows: all
advantages of its group become NaN or infinite. Rewards are data here: no gradient flows
through an advantage.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import (
    FLAGS,
    NUMBERS,
    AxisName,
    batch_axes,
    check_flags,
    check_groups,
    check_integers,
    check_ranges,
)
from medjax.masked import marked, marked_values, marks, masked_sum


class GroupStatistics(NamedTuple):
    """What the rewards of each group that count have in common."""

    mean: Float[Array, "B"]  # 0 where none counts
    std: Float[Array, "B"]
    count: Float[Array, "B"]  # how many count


def group_statistics(
    rewards: Float[Array, "B G"],
    *,
    ddof: int = 1,
    valid: Bool[Array, "B #G"] | None = None,
) -> GroupStatistics:
    """Mean, standard deviation and number of the rewards of each group that count.

    Args:
        rewards: One row a group of G completions, in any unit; integers and flags
            become float32. A number that is not finite makes mean and std of its group
            NaN or infinite.
        ddof: 0 or 1, static: the sum of squares is divided by count - ddof. 1 estimates
            the variance, 0 is that of the completions themselves. A group of one has
            std 0 with either.
        valid: True (or an integer that is not 0) at the completions that count; [B, 1]
            marks whole groups, None all. What stands at the others is not read. A group
            without any has mean, std and count 0.

    Returns:
        One mean, std and number of rewards a group, in the dtype of the rewards,
        float32 at least. No gradient flows.

    Raises:
        ValueError: rewards that are not [B, G], a `valid` of another shape or of
            floats, or another ddof.
    """
    check_groups("group_statistics", valid, rewards=(rewards, "B G", NUMBERS))
    check_integers("group_statistics", ddof=(ddof, 0, 1))
    rewards, counts = _read(rewards, valid)
    return GroupStatistics(*_moments(rewards, counts, ddof))


def group_advantages(
    rewards: Float[Array, "B G"],
    *,
    scale: str,
    ddof: int = 1,
    eps: float = 1e-4,
    floor: float = 1e-6,
    leave_one_out: bool = False,
    valid: Bool[Array, "B #G"] | None = None,
    axis_name: AxisName = None,
) -> Float[Array, "B G"]:
    """A = (r - mean of the group) / (std + eps); exactly 0 for a group without signal.

    Args:
        rewards: One row a group of G completions, in any unit; integers and flags
            become float32. A number that is not finite, at a place that counts, makes
            its whole group NaN or infinite, and with scale "batch" every group that has
            a signal. So does one whose square is not, above 1e19 in float32, unless
            scale is "none".
        scale: What the difference is divided by: "group" the group's own std (GRPO),
            "batch" the std of all rewards of the batch, "none" nothing (Dr. GRPO).
            Static.
        ddof: 0 or 1, static: the sum of squares is divided by count - ddof. 1 as TRL,
            verl and VLM-R1, 0 as EasyDeL. At G = 8 a factor of 1.07.
        eps: Added to the std, in the unit of the rewards, 0 or more: 1e-4 as TRL and
            VLM-R1, 1e-6 as verl. scale "none" does not read it. As `floor` it may be
            traced, and its range is then not looked at.
        floor: 0 or more. A group whose std is at most this has no signal, and neither
            has one of fewer than two rewards that count. Rounding leaves a residue in
            the std of equal rewards that the division would amplify.
        leave_one_out: Makes the baseline the mean of the *others*: A * n / (n - 1).
            The std stays that of the whole group: one without the sample itself can
            vanish and blow A up. Static.
        valid: True (or an integer that is not 0) at the completions that count; [B, 1]
            marks whole groups, None all. The others get 0, stay out of every mean and
            std, and what stands there is not read.
        axis_name: Inside `shard_map`, the axes that the groups are spread over; the std
            of scale "batch" is then that of all devices' groups. An axis that an input
            varies along has to be named there, or () given, which takes each device for
            itself. The other scales know their own group alone and do not read it.

    Returns:
        In the dtype of the rewards, float32 at least.

    Raises:
        ValueError: an unknown scale, an option outside its range, shapes or dtypes that
            do not fit, or an axis that is not named.

    Source: DeepSeekMath (arXiv 2402.03300), section 4.1.2; Dr. GRPO (arXiv 2503.20783)
    for "none".
    """
    check_groups("group_advantages", valid, rewards=(rewards, "B G", NUMBERS))
    check_flags("group_advantages", leave_one_out=leave_one_out)
    _check_options("group_advantages", ddof, eps, floor)
    if scale not in ("group", "batch", "none"):
        raise ValueError(
            f"group_advantages: scale {scale!r}: expected 'group', 'batch' or 'none'"
        )
    rewards, counts = _read(rewards, valid)
    mean, std, count = _moments(rewards, counts, ddof)
    advantages = rewards - mean[:, None]
    if leave_one_out:
        advantages = advantages * (count / jnp.maximum(count - 1, 1))[:, None]
    if scale == "group":
        advantages = advantages / (_finite(std) + eps)[:, None]
    elif scale == "batch":
        axes = batch_axes("group_advantages", axis_name, rewards=rewards, valid=valid)
        batch_std = _moments(rewards, counts, ddof, axis=(0, 1), axis_name=axes)[1]
        advantages = advantages / (_finite(batch_std) + eps)
    # "~(<=)" and not ">": a NaN std is no tie, it must reach the result.
    return jnp.where(counts & ~(std <= floor)[:, None], advantages, 0)


def gdpo_advantages(
    rewards: Float[Array, "K B G"],
    weights: Float[Array, "K"] | Sequence[float],
    *,
    ddof: int = 1,
    eps: float = 1e-4,
    floor: float = 1e-6,
    scored: Bool[Array, "K B #G"] | None = None,
    valid: Bool[Array, "B #G"] | None = None,
    axis_name: AxisName = None,
) -> Float[Array, "B G"]:
    """GDPO: normalise each reward in its group, sum with weights, divide by batch std.

        A = s / (std of s over the batch + eps),   s = sum_k w_k A_k

    with A_k the `group_advantages` of reward k with scale "group".

    A reward with a small range keeps its say beside one with a large range. A reward
    that cannot score a completion is left out of that completion's sum; one that no
    reward can score gets 0 and stays out of the batch std.

    Args:
        rewards: K rewards of B groups of G completions; each may have its own unit. A
            number that is not finite, at a place that counts, makes the std of the
            batch NaN, and with it every advantage.
        weights: One finite number a reward, in the same order, of either sign; a list
            will do. What counts is their size beside each other, as the sum is divided
            by its std. All 0 give 0; NaN or infinity, which are not refused, NaN.
        ddof: 0 or 1, static: a sum of squares is divided by count - ddof, for the
            groups and for the batch.
        eps: Added to every std, 0 or more: to the groups', in the unit of each reward,
            and to the batch's, which has none.
        floor: 0 or more. A reward that differs by a std of at most this within a group
            says nothing about that group.
        scored: True (or an integer that is not 0) where a reward could score the
            completion; [K, B, 1] marks whole groups, None all. What stands elsewhere is
            not read.
        valid: The same of the completions that count; [B, 1] marks whole groups, None
            all. The others get 0.
        axis_name: Inside `shard_map`, the axes that the groups are spread over; the
            batch's std is then that of all devices' groups. An axis that an input
            varies along has to be named, or () given, which takes each device for
            itself.

    Returns:
        In the dtype of the rewards, float32 at least; 0 everywhere where no group has a
        signal. No gradient flows.

    Raises:
        ValueError: an option outside its range, shapes or dtypes that do not fit, or an
            axis that is not named.

    Source: Liu et al., GDPO (arXiv 2601.05242). Each group sums to 0, so no mean of the
    batch is taken off.
    """
    check_groups(
        "gdpo_advantages",
        valid,
        rewards=(rewards, "K B G", NUMBERS),
        weights=(jnp.asarray(weights), "K", NUMBERS),
        scored=(scored, "K B #G", FLAGS),
    )
    _check_options("gdpo_advantages", ddof, eps, floor)
    axes = batch_axes(
        "gdpo_advantages", axis_name, rewards=rewards, scored=scored, valid=valid
    )

    def normalise(
        reward: Float[Array, "B G"], places: Bool[Array, "B G"]
    ) -> Float[Array, "B G"]:
        return group_advantages(
            reward, scale="group", ddof=ddof, eps=eps, floor=floor, valid=places
        )

    places = marks(scored, rewards.shape) & marks(valid, rewards.shape[1:])[None]
    rewards = jax.lax.stop_gradient(marked_values(rewards, places))
    weights = jax.lax.stop_gradient(jnp.asarray(weights, rewards.dtype))
    total = jnp.einsum("k,kbg->bg", weights, jax.vmap(normalise)(rewards, places))
    counts = jnp.any(places, axis=0)
    # Each group sums to 0, so there is no batch mean to take off (TRL takes off that 0,
    # and with it the exactness of the zeros).
    std = _moments(total, counts, ddof, axis=(0, 1), axis_name=axes)[1]
    return jnp.where(counts, total / (_finite(std) + eps), 0)


def _check_options(function: str, ddof: int, eps: float, floor: float) -> None:
    check_integers(function, ddof=(ddof, 0, 1))
    check_ranges(function, eps=(eps, 0, math.inf), floor=(floor, 0, math.inf))


def _finite(std: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """NaN for infinity: divided by that, all advantages were 0, and no error seen."""
    return jnp.where(jnp.isinf(std), jnp.nan, std)


def _read(
    rewards: Float[Array, "B G"], valid: Bool[Array, "B #G"] | None
) -> tuple[Float[Array, "B G"], Bool[Array, "B G"]]:
    """The rewards as constants, 0 where they do not count, and where they do."""
    counts = marks(valid, rewards.shape)
    return jax.lax.stop_gradient(marked_values(rewards, counts)), counts


def _moments(
    x: Float[Array, "B G"],
    where: Bool[Array, "B G"],
    ddof: int,
    *,
    axis: int | tuple[int, ...] = -1,
    axis_name: tuple[str, ...] = (),
) -> tuple[Float[Array, "*B"], Float[Array, "*B"], Float[Array, "*B"]]:
    """Mean, std and count of the marked elements over the axes."""
    over = {"axis": axis, "axis_name": axis_name}
    count = marked(where, x.dtype, **over)
    mean = masked_sum(x, where, **over) / jnp.maximum(count, 1)
    squares = masked_sum((x - jnp.expand_dims(mean, axis)) ** 2, where, **over)
    return mean, jnp.sqrt(squares / jnp.maximum(count - ddof, 1)), count
