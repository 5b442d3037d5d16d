"""Why a step gives no gradient: what the groups without signal have in common."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import (
    FLAGS,
    NUMBERS,
    AxisName,
    batch_axes,
    check_groups,
    check_ranges,
)
from medjax.masked import marked, marks, masked_mean
from medjax.rl.advantages import group_statistics


def has_signal(
    rewards: Float[Array, "B G"],
    *,
    floor: float,
    valid: Bool[Array, "B #G"] | None = None,
) -> Bool[Array, "B"]:
    """Groups whose rewards differ (std > floor): only these move the policy.

    By deviation, not by mean as DAPO's filter: rewards may be continuous. The deviation
    is that of `group_advantages` with ddof 1: divided by the number of rewards less 1.

    Args:
        rewards: One row a group of G completions, in any unit. A NaN or an infinity
            that counts is no tie: its group is True, as its advantages are not 0.
        floor: Standard deviation in the unit of the rewards, 0 or more, as in
            `group_advantages`: a group whose deviation is at most this has no signal. A
            traced one is not looked at.
        valid: True (or an integer that is not 0) at the completions that count; [B, 1]
            marks whole groups, None all. A group with fewer than two of them has no
            signal.

    Returns:
        True for a group with a signal.

    Raises:
        ValueError: rewards that are not [B, G], a `valid` of another shape or of
            floats, or a negative floor.
    """
    check_groups("has_signal", valid, rewards=(rewards, "B G", NUMBERS))
    check_ranges("has_signal", floor=(floor, 0, math.inf))
    return ~(group_statistics(rewards, valid=valid).std <= floor)


def group_signal(
    rewards: Float[Array, "B G"],
    hits: Bool[Array, "B G"],
    parsed: Bool[Array, "B G"],
    *,
    valid: Bool[Array, "B #G"] | None = None,
    floor: float = 1e-6,
    axis_name: AxisName = None,
) -> dict[str, Float[Array, ""]]:
    """Counts of groups by what they teach.

    Args:
        rewards: The total reward that the advantages are made of, a row a group of G
            completions. A NaN or an infinity that counts makes its group "effective",
            as its advantages are not 0, and `reward_std` NaN.
        hits: Whether a completion's answer counts as right; bool, or an integer that is
            not 0, as `parsed`.
        parsed: Whether an answer could be read from the completion at all.
        valid: True (or an integer that is not 0) at the completions that count; [B, 1]
            marks whole groups, None all. Nothing is read of the others, hits and parsed
            neither, and a group without any is counted nowhere.
        floor: A group whose rewards have a standard deviation (ddof 1) of at most this
            teaches nothing, 0 or more; use the floor of `group_advantages`.
        axis_name: Inside `shard_map`, the axes that the groups are spread over; the
            counts are then those of all devices' groups. An axis that an input varies
            along has to be named, or () given, which takes each device for itself.

    Returns:
        Scalars, float32. `groups`, the number of groups that count, and five numbers
        that add up to it: `effective` (rewards differ), else `unparsable` (no
        completion could be read), else `all_wrong`, else `all_right`, else `tied`
        (equal rewards, some hits). Beside them, whatever the total reward: `no_hit` and
        `every_hit`, groups in which the accuracy reward alone would teach nothing; and
        `reward_std`, the mean deviation within a group, in the reward's unit, 0 without
        a group. Loss 0 with `effective` 0 is no error, it says that nothing could be
        learnt from this step.

    Raises:
        ValueError: shapes or dtypes that do not fit, a negative floor, or an axis that
            is not named.
    """
    check_groups(
        "group_signal",
        valid,
        rewards=(rewards, "B G", NUMBERS),
        hits=(hits, "B G", FLAGS),
        parsed=(parsed, "B G", FLAGS),
    )
    check_ranges("group_signal", floor=(floor, 0, math.inf))
    axes = batch_axes(
        "group_signal",
        axis_name,
        rewards=rewards,
        hits=hits,
        parsed=parsed,
        valid=valid,
    )
    counted = marks(valid, rewards.shape)
    groups = jnp.any(counted, axis=1)
    std = group_statistics(rewards, valid=valid).std
    some_hit = jnp.any(hits.astype(bool) & counted, axis=1)
    every_hit = jnp.all(hits.astype(bool) | ~counted, axis=1)
    rest = groups
    counts = {"groups": groups}
    for name, condition in (
        ("effective", ~(std <= floor)),
        ("unparsable", ~jnp.any(parsed.astype(bool) & counted, axis=1)),
        ("all_wrong", ~some_hit),
        ("all_right", every_hit),
    ):
        counts[name] = rest & condition
        rest = rest & ~condition
    counts["tied"] = rest
    counts["no_hit"] = groups & ~some_hit
    counts["every_hit"] = groups & every_hit
    report = {k: marked(v, jnp.float32, axis_name=axes) for k, v in counts.items()}
    std = std.astype(jnp.float32)
    return report | {"reward_std": masked_mean(std, groups, axis_name=axes)}


def reward_signal(
    rewards: Mapping[str, Float[Array, "B G"]],
    *,
    scored: Mapping[str, Bool[Array, "B #G"]] | None = None,
    valid: Bool[Array, "B #G"] | None = None,
    floor: float = 1e-6,
    axis_name: AxisName = None,
) -> dict[str, Float[Array, ""]]:
    """What each reward by itself would teach, whatever the others do.

    Args:
        rewards: By name, each [B, G] in its own unit. A NaN or an infinity that counts
            is no tie, also where it is the only one of its group, and makes `NAME_std`
            NaN.
        scored: By name, True (or an integer that is not 0) where that reward could
            score the completion; [B, 1] marks whole groups. A reward that is not named
            here could score all.
        valid: The same of the completions that count at all, None for all. Without any
            the report is all 0.
        floor: A standard deviation within a group (ddof 1) of at most this is a tie; 0
            or more.
        axis_name: Inside `shard_map`, the axes that the groups are spread over; the
            shares are then those of all devices' groups. An axis that an input varies
            along has to be named, or () given, which takes each device for itself.

    Returns:
        Over the groups with a valid completion, scalars in float32: `NAME_tied`, the
        share in which the reward's std is at most `floor` (all completions earn the
        same, or fewer than two could be scored), and `NAME_std`, the mean over groups
        of its std (ddof 1), in the reward's unit. Both are 0 without such a group, and
        there is no entry without a reward.

    Raises:
        ValueError: shapes or dtypes that do not fit, a name in `scored` that is none of
            the rewards', a negative floor, or an axis that is not named.
    """
    check_ranges("reward_signal", floor=(floor, 0, math.inf))
    scored = {} if scored is None else scored
    if set(scored) - set(rewards):
        raise ValueError(
            f"reward_signal: scored: expected names of rewards {sorted(rewards)}; "
            f"found {sorted(scored)}"
        )
    arrays = {f"rewards[{name!r}]": x for name, x in rewards.items()}
    flags = {f"scored[{name!r}]": x for name, x in scored.items()}
    check_groups(
        "reward_signal",
        valid,
        **{name: (x, "B G", NUMBERS) for name, x in arrays.items()},
        **{name: (x, "B #G", FLAGS) for name, x in flags.items()},
    )
    axes = batch_axes("reward_signal", axis_name, **arrays, **flags, valid=valid)
    report = {}
    for name, reward in rewards.items():
        counted = marks(valid, reward.shape)
        places = counted & marks(scored.get(name), reward.shape)
        std = group_statistics(reward, valid=places).std.astype(jnp.float32)
        groups = jnp.any(counted, axis=1)
        tied = (std <= floor).astype(jnp.float32)
        report[f"{name}_tied"] = masked_mean(tied, groups, axis_name=axes)
        report[f"{name}_std"] = masked_mean(std, groups, axis_name=axes)
    return report
