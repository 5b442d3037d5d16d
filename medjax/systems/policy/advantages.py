"""How rewards become advantages: summed and then normalised, or part by part."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.masked import at_least_float32, marks
from medjax.rl.advantages import gdpo_advantages, group_advantages

NORMALISE = ("sum", "parts")


class Advantages(NamedTuple):
    """The options of `group_advantages` that a run chooses; it explains each."""

    scale: str
    ddof: int = 1
    eps: float = 1e-4
    floor: float = 1e-6
    leave_one_out: bool = False
    # "sum": the weighted sum of the rewards is normalised; "parts": each reward is, and
    # then summed (`gdpo_advantages`), so that one of small range keeps its say
    normalise: str = "sum"


def check_advantages(options: Advantages) -> Advantages:
    """The options as they are, if they can be used together.

    Args:
        options: A run's.

    Raises:
        ValueError: `normalise` is none of `NORMALISE`, or "parts" stands beside a
            `scale` other than "group" or a `leave_one_out`, which GDPO does not have.
    """
    if options.normalise not in NORMALISE:
        raise ValueError(
            f"advantages.normalise={options.normalise!r}: expected one of "
            f"{', '.join(NORMALISE)}"
        )
    if options.normalise == "sum":
        return options
    if options.scale != "group":
        raise ValueError(
            f"advantages.normalise=parts: found advantages.scale={options.scale!r}; "
            "each reward is divided by its deviation in the group: expected "
            "advantages.scale=group, or advantages.normalise=sum"
        )
    if options.leave_one_out:
        raise ValueError(
            "advantages.normalise=parts: found advantages.leave_one_out=True, which "
            "each reward by itself does not have: expected False, or "
            "advantages.normalise=sum"
        )
    return options


def make_advantages(
    options: Advantages,
    rewards: Mapping[str, Float[Array, "B G"]],
    weights: Mapping[str, float | Float[Array, ""]],
    *,
    scored: Mapping[str, Bool[Array, "B G"]],
    valid: Bool[Array, "B 1"],
    total: Float[Array, "B G"],
    counted: Bool[Array, "B G"],
) -> Float[Array, "B G"]:
    """What each completion earned against its group; 0 where it does not count.

    Args:
        options: How rewards are normalised, checked by `check_advantages`.
        rewards: By name, a number a completion, each in its own unit. "parts" alone
            reads it, as the three that follow.
        weights: By the same names, of either sign.
        scored: By name, where a reward could score a completion; one that is not named
            could score all.
        valid: The prompts that count.
        total: The weighted sum of the rewards, as `combine_rewards` gives it; "sum"
            alone reads it, as `counted`.
        counted: Where the total counts.
    """
    if options.normalise == "sum":
        own = {k: x for k, x in options._asdict().items() if k != "normalise"}
        return group_advantages(total, valid=counted, **own)
    names = sorted(rewards)
    return gdpo_advantages(
        jnp.stack([at_least_float32(rewards[name]) for name in names]),
        jnp.stack([jnp.asarray(weights[name], jnp.float32) for name in names]),
        ddof=options.ddof,
        eps=options.eps,
        floor=options.floor,
        scored=jnp.stack([marks(scored.get(x), total.shape) for x in names]),
        valid=valid,
    )
