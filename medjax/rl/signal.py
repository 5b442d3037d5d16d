"""Why a step gives no gradient: what the groups without signal have in common."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import NUMBERS, check_arrays
from medjax.masked import masked_mean
from medjax.rl.advantages import group_statistics


def has_signal(rewards: Float[Array, "B G"], *, floor: float) -> Bool[Array, "B"]:
    """Groups whose rewards differ (std > floor): only these move the policy.

    By deviation, not by mean as DAPO's filter: rewards may be continuous.

    Args:
        rewards: One row a group; NaN, a reward that could not be scored, stays out. A
            group with fewer than two scorable rewards has no signal.
        floor: Standard deviation in the unit of the rewards, as in `group_advantages`:
            a group whose deviation is at most this has no signal.
    """
    return group_statistics(rewards).std > floor


def group_signal(
    rewards: Float[Array, "B G"],
    hits: Bool[Array, "B G"],
    parsed: Bool[Array, "B G"],
    valid: Bool[Array, "B"] | None = None,
    *,
    floor: float = 1e-6,
) -> dict[str, Float[Array, ""]]:
    """Counts of groups by what they teach.

    Args:
        rewards: The total reward that the advantages are made of, a row a group. NaN
            marks a completion that could not be scored, and stays out.
        hits: Whether a completion's answer counts as right.
        parsed: Whether an answer could be read from the completion at all.
        valid: The groups that count; the others only fill the batch and are counted
            nowhere. None counts all of them.
        floor: A group whose rewards have a standard deviation of at most this teaches
            nothing; use the floor of `group_advantages`.

    Returns:
        A partition of the valid `groups`: `effective` (rewards differ), else
        `unparsable` (no completion could be read), else `all_wrong`, else `all_right`,
        else `tied` (equal rewards, some hits). Beside it, whatever the total reward:
        `no_hit` and `every_hit`, groups in which the accuracy reward alone would teach
        nothing; and `reward_std`, the mean deviation within a group. Loss 0 with
        `effective` 0 is no error, it says that nothing could be learnt from this step.
    """
    check_arrays(
        "group_signal",
        rewards=(rewards, "B G", NUMBERS),
        hits=(hits, "B G", bool),
        parsed=(parsed, "B G", bool),
        valid=(valid, "B", NUMBERS),
    )
    rows = jnp.ones(rewards.shape[:1], bool) if valid is None else valid.astype(bool)
    std = group_statistics(rewards).std
    rest = rows
    counts = {"groups": rows}
    for name, condition in (
        ("effective", std > floor),
        ("unparsable", ~jnp.any(parsed, axis=1)),
        ("all_wrong", ~jnp.any(hits, axis=1)),
        ("all_right", jnp.all(hits, axis=1)),
    ):
        counts[name] = rest & condition
        rest = rest & ~condition
    counts["tied"] = rest
    counts["no_hit"] = rows & ~jnp.any(hits, axis=1)
    counts["every_hit"] = rows & jnp.all(hits, axis=1)
    report = {k: jnp.sum(v, dtype=jnp.float32) for k, v in counts.items()}
    total = jnp.sum(jnp.where(rows, std, 0)).astype(jnp.float32)
    report["reward_std"] = total / jnp.maximum(report["groups"], 1)
    return report


def reward_signal(
    rewards: Mapping[str, Float[Array, "B G"]],
    valid: Bool[Array, "B"] | None = None,
    *,
    floor: float = 1e-6,
) -> dict[str, Float[Array, ""]]:
    """What each reward by itself would teach, whatever the others do.

    Args:
        rewards: By name, each [B, G] in its own unit; NaN, a completion that the reward
            could not score, stays out.
        valid: The groups that count, None for all. Without any the report is all 0.
        floor: A standard deviation within a group of at most this counts as a tie.

    Returns:
        Over the valid groups: `NAME_tied`, the share in which the reward's std is at
        most `floor` (all completions earn the same, or fewer than two could be scored),
        and `NAME_std`, its mean deviation within a group, in the reward's unit.
    """
    check_arrays(
        "reward_signal",
        **{f"rewards[{name!r}]": (x, "B G", NUMBERS) for name, x in rewards.items()},
        valid=(valid, "B", NUMBERS),
    )
    report = {}
    for name, reward in rewards.items():
        std = group_statistics(reward).std.astype(jnp.float32)
        rows = jnp.ones(std.shape, bool) if valid is None else valid.astype(bool)
        report[f"{name}_tied"] = masked_mean((std <= floor).astype(jnp.float32), rows)
        report[f"{name}_std"] = masked_mean(std, rows)
    return report
