"""A reward that is let in late: its weight rises once another reward has signal."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import FLAGS, check_arrays, check_integers, check_ranges
from medjax.masked import masked_mean

_SLACK = 1e-6


class RewardRamp(NamedTuple):
    """When a reward is let in, and how fast; static."""

    steps: int  # N, over which its weight rises from 0 to the whole; 1 or more
    above: float  # mean of the other reward, in its unit, at which it begins
    window: int  # steps that the mean is taken over, 1 or more


class RampState(NamedTuple):
    """The ramp's carry: a window of means (newest last), and how far it has come.

    A tree of float32 and int32 arrays; it may be saved leaf by leaf and goes on from
    NumPy's arrays as they were read.
    """

    means: Float[Array, "W"]
    count: Int[Array, ""]  # filled entries
    done: Int[Array, ""]  # updates since it began, that one included; 0 = not begun


def check_ramp(ramp: RewardRamp) -> RewardRamp:
    """The ramp as it is, if its numbers are in their ranges.

    Args:
        ramp: Plain Python numbers: `steps` and `window` are integers of 1 or more,
            `above` is finite, of either sign.

    Raises:
        ValueError: fewer than 1 step or entry, or an `above` that is not finite.
    """
    check_integers(
        "check_ramp", steps=(ramp.steps, 1, None), window=(ramp.window, 1, None)
    )
    bound = math.nextafter(math.inf, 0)
    check_ranges("check_ramp", above=(ramp.above, -bound, bound))
    return ramp


def init_ramp(ramp: RewardRamp) -> RampState:
    """The carry before the first step: an empty window, and nothing let in.

    Args:
        ramp: Its `window` is the number of entries, W; all three numbers are checked.

    Returns:
        `means` [W] in float32, and `count` and `done`, scalars in int32, all 0.

    Raises:
        ValueError: what `check_ramp` refuses.
    """
    window = check_ramp(ramp).window
    return RampState(
        jnp.zeros((window,), jnp.float32),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), jnp.int32),
    )


def ramp_factor(state: RampState, ramp: RewardRamp) -> Float[Array, ""]:
    """min(1, done / N), what the late reward's weight is multiplied by in this step.

    Args:
        state: The carry before the step, of `init_ramp` or `update_ramp`.
        ramp: Its `steps` are N, 1 or more; all three numbers are checked.

    Returns:
        A number from 0 (not begun) to 1, float32.

    Raises:
        ValueError: what `check_ramp` refuses, or a `done` that is no scalar integer.
    """
    check_ramp(ramp)
    check_arrays("ramp_factor", **{"state.done": (state.done, "", int)})
    done = jnp.asarray(state.done).astype(jnp.float32)
    return jnp.minimum(done / jnp.float32(ramp.steps), 1)


def update_ramp(
    state: RampState,
    mean: Float[Array, ""],
    ramp: RewardRamp,
    *,
    valid: Bool[Array, ""] | None = None,
) -> RampState:
    """The carry after a step in which the other reward had this mean.

    The ramp begins with the first step after which the window is full and its mean is
    at least `above` (with a slack of 1e-6); from there on it goes on whatever the
    reward does, and does not go back. The factor of the step after that one is 1 / N.

    Args:
        state: The carry before the step, of `init_ramp` or of the step before.
        mean: Of the other reward over the completions of the step that count, in its
            unit. With a NaN in the window the ramp does not begin; infinity is a number
            like any other.
        ramp: When it begins: `above` and `window`, which has to be that of the state.
        valid: False (or 0) for a step without a completion that counts, which changes
            nothing, whatever its mean is; a scalar. None stands for True.

    Returns:
        The carry after the step: the window with this mean as its newest entry, how
        many entries are filled, and how many updates the ramp has had, N at most.

    Raises:
        ValueError: a mean that is no scalar of floats, a `valid` that is no scalar, a
            state of another window, or what `check_ramp` refuses.
    """
    check_ramp(ramp)
    check_arrays(
        "update_ramp",
        mean=(mean, "", float),
        valid=(valid, "", FLAGS),
        **{
            "state.means": (state.means, "W", float),
            "state.count": (state.count, "", int),
            "state.done": (state.done, "", int),
        },
    )
    size = state.means.shape[0]
    if size != ramp.window:
        raise ValueError(
            f"update_ramp: state: expected a window of {ramp.window} entries, as the "
            f"ramp has it; found {size}; make the state by init_ramp of the same ramp"
        )
    state = RampState(*(jnp.asarray(x) for x in state))
    means = jnp.append(state.means[1:], jnp.asarray(mean).astype(jnp.float32))
    count = jnp.minimum(state.count + 1, size)
    place = jnp.arange(size, dtype=jnp.int32)
    enough = masked_mean(means, place >= size - count) >= ramp.above - _SLACK
    begins = (count >= size) & enough
    done = jnp.minimum(state.done + 1, ramp.steps)
    done = jnp.where((state.done > 0) | begins, done, 0)
    new = RampState(means, count, done)
    if valid is None:
        return new
    return RampState(
        *(
            jnp.where(jnp.asarray(valid, bool), x, old)
            for x, old in zip(new, state, strict=True)
        )
    )
