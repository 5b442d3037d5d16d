"""MedLoc-R1's moving IoU threshold, as an explicit carry.

The reward is 1[IoU >= tau]. Over a window of the last N entries

    hit rate   r = mean of the entries' hit rates
    deviation  s = their population standard deviation
    margin     m = mean of the entries' IoU - tau

tau rises by delta(tau) when the window is full and r >= P(tau), s <= S(tau) and
m >= Delta; then only the newest half of the window is kept, so that the other half must
be refilled under the new tau. tau never falls and never passes its target.

Source: MedLoc-R1 (arXiv 2603.28120, CVPR 2026). No code was released and parts of the
rule are not published; each place where a reading was chosen is marked "our reading".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import NUMBERS, check_arrays
from medjax.masked import masked_mean
from medjax.rl.rewards import threshold_reward
from medjax.rl.schedules import (
    COSINE,
    LINEAR,
    Number,
    ThresholdSchedule,
    check_schedule,
)

# tau moves on a grid of 1e-6 and is compared with this slack: 0.7 + 0.1 is below 0.8 in
# floating point, which would cause one more, meaningless raise and half-empty window.
_SLACK = 1e-6

_NO_SAMPLE = -1.0  # no IoU: a completion of a row that does not count


class RaiseLog(NamedTuple):
    """The numbers that caused each raise; raise k stands in slot k mod R."""

    step: Int[Array, "R"]  # update at which tau rose, from 0; -1 = empty slot
    tau_before: Float[Array, "R"]
    tau_after: Float[Array, "R"]
    hit_rate: Float[Array, "R"]
    deviation: Float[Array, "R"]
    margin: Float[Array, "R"]


class ThresholdState(NamedTuple):
    """The scheduler's carry: window (newest entry last), counters and log."""

    tau: Float[Array, ""]
    hit_rates: Float[Array, "N"]  # of each entry, as earned
    ious: Float[Array, "N"]  # mean IoU of each entry
    samples: Float[Array, "N S"] | None  # raw IoUs of each entry, -1 = none
    count: Int[Array, ""]  # filled entries
    step: Int[Array, ""]  # updates so far
    raises: Int[Array, ""]
    log: RaiseLog


def init_threshold(
    schedule: ThresholdSchedule, *, samples: int = 0, log_size: int = 64
) -> ThresholdState:
    """An empty window at tau_0.

    Args:
        schedule: Checked here if its numbers are plain; traced ones are taken as they
            are. `window` must always be a plain integer, as it sizes the state.
        samples: How many raw IoUs to keep an entry, so that hit rates are recounted
            with the current tau (the literal formula): B * G, or G with
            entries="group". 0 keeps the hit rates as earned (our reading: this is what
            the refresh is for).
        log_size: How many raises the log holds, 1 or more; then the oldest is
            overwritten.

    Raises:
        ValueError: a schedule whose stages, bounds or ranges do not fit together.
    """
    if not any(isinstance(x, jax.Array) for x in jax.tree.leaves(schedule)):
        check_schedule(schedule)
    size = schedule.window
    # One buffer each: the loop donates the state, and a buffer can be given once.
    numbers = (jnp.full((log_size,), jnp.nan, jnp.float32) for _ in range(5))
    return ThresholdState(
        tau=jnp.asarray(schedule.start, jnp.float32),
        hit_rates=jnp.zeros((size,), jnp.float32),
        ious=jnp.zeros((size,), jnp.float32),
        samples=jnp.full((size, samples), _NO_SAMPLE, jnp.float32) if samples else None,
        count=jnp.zeros((), jnp.int32),
        step=jnp.zeros((), jnp.int32),
        raises=jnp.zeros((), jnp.int32),
        log=RaiseLog(jnp.full((log_size,), -1, jnp.int32), *numbers),
    )


def update_threshold(
    state: ThresholdState,
    iou: Float[Array, "B G"],
    schedule: ThresholdSchedule,
    *,
    valid: Bool[Array, "B"] | None = None,
    entries: str = "step",
) -> tuple[ThresholdState, dict[str, Array]]:
    """Push one step's IoUs, then raise tau if the window says so.

    The rewards of this step used `state.tau`; the new tau holds from the next step on.
    The size of a raise is delta at the tau before it (our reading).

    Args:
        state: The carry, of `init_threshold` or of the step before; one that was made
            for another `window` keeps its own.
        iou: Of every completion of the step, 0 to 1, a row a prompt; the IoU only,
            never the format reward. A NaN in a row that counts makes the hit rate NaN,
            and nothing is raised until its entry has left the window.
        schedule: The numbers of the rule, which may be traced (`vmap` over schedules),
            `window` excepted.
        valid: The prompts that count; the others only fill the batch. A step without
            one pushes nothing. None counts all.
        entries: "step" pushes the mean over all prompts (our reading), "group" one
            entry a prompt, in order (an independent port).

    Returns:
        The new carry, and the numbers of the decision: `tau` (used), `tau_next`,
        `hit_rate`, `deviation`, `margin` of the window, `hit_rate_needed` (P),
        `deviation_allowed` (S), `window_full`, `hit_rate_ok`, `deviation_ok`,
        `margin_ok`, `raised`. Until the window is full, its filled part is described.
    """
    check_arrays(
        "update_threshold",
        tau=(state.tau, "", float),
        iou=(iou, "B G", float),
        valid=(valid, "B", NUMBERS),
    )
    tau = state.tau
    new = _entries(iou.astype(jnp.float32), valid, tau, entries)
    state = _push(state, *new)
    hit_rate, deviation, mean_iou = window_statistics(state)
    margin = mean_iou - tau

    hit_rate_needed = _stage(tau, schedule.stage_bounds, schedule.hit_rates)
    deviation_allowed = _stage(tau, schedule.stage_bounds, schedule.deviations)
    full = state.count >= state.hit_rates.shape[0]
    below_target = tau < _float(schedule.target) - _SLACK
    hit_rate_ok = hit_rate >= hit_rate_needed - _SLACK
    deviation_ok = deviation <= deviation_allowed + _SLACK
    margin_ok = margin >= _float(schedule.margin) - _SLACK
    raised = (
        full
        & below_target
        & (hit_rate_ok | ~jnp.asarray(schedule.check_hit_rate))
        & (deviation_ok | ~jnp.asarray(schedule.check_deviation))
        & (margin_ok | ~jnp.asarray(schedule.check_margin))
    )
    tau_next = jnp.where(raised, raise_threshold(tau, schedule), tau)
    kept = _float(schedule.keep) * state.hit_rates.shape[0] + _SLACK
    log = RaiseLog(state.step, tau, tau_next, hit_rate, deviation, margin)
    slot = state.raises % state.log.step.shape[0]
    state = state._replace(
        tau=tau_next,
        count=jnp.where(raised, jnp.floor(kept).astype(jnp.int32), state.count),
        step=state.step + 1,
        raises=state.raises + raised.astype(jnp.int32),
        log=RaiseLog(
            *(
                jnp.where(raised, old.at[slot].set(value), old)
                for old, value in zip(state.log, log, strict=True)
            )
        ),
    )
    info = {
        "tau": tau,
        "tau_next": tau_next,
        "hit_rate": hit_rate,
        "deviation": deviation,
        "margin": margin,
        "hit_rate_needed": hit_rate_needed,
        "deviation_allowed": deviation_allowed,
        "window_full": full,
        "hit_rate_ok": hit_rate_ok,
        "deviation_ok": deviation_ok,
        "margin_ok": margin_ok,
        "raised": raised,
    }
    return state, info


def raise_threshold(
    tau: Float[Array, ""], schedule: ThresholdSchedule
) -> Float[Array, ""]:
    """min(tau + delta(tau), target), snapped to the target near it, on a 1e-6 grid.

    Args:
        tau: The threshold now, an IoU from start to target.
        schedule: Whose rule gives delta, at least `min_step`. The conditions for a
            raise are not looked at here.
    """
    check_arrays("raise_threshold", tau=(tau, "", float))
    start, target = _float(schedule.start), _float(schedule.target)
    first = _float(schedule.steps[0])
    span = jnp.maximum(target - start, _SLACK)
    done = jnp.clip((tau - start) / span, 0.0, 1.0)  # u
    piecewise = _stage(tau, schedule.step_bounds, schedule.steps)
    linear = first * (1 - done)
    cosine = first / 2 * (1 + jnp.cos(jnp.pi * done))
    rule = jnp.asarray(schedule.rule)
    step = jnp.where(rule == LINEAR, linear, piecewise)
    step = jnp.where(rule == COSINE, cosine, step)
    raised = tau + jnp.maximum(step, _float(schedule.min_step))
    raised = jnp.round(raised * 1e6) / 1e6
    near = target - raised <= jnp.maximum(_float(schedule.snap), _SLACK)
    return jnp.where(near, target, raised)


def window_statistics(
    state: ThresholdState,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """(hit rate, its population deviation, mean IoU) over the window's filled entries.

    The deviation is that of the entries' hit rates, not of single 0/1 rewards (our
    reading: those have 0.4 at a hit rate of 0.8, so that S = 0.2 could never pass).

    Args:
        state: The carry. All three numbers are 0 for an empty window, and NaN while an
            entry with a NaN is in it.
    """
    rates = state.hit_rates
    if state.samples is not None:
        kept = state.samples != _NO_SAMPLE
        rates = masked_mean(threshold_reward(state.samples, state.tau), kept, axis=-1)
    size = rates.shape[0]
    filled = jnp.arange(size, dtype=jnp.int32) >= size - state.count
    rate = masked_mean(rates, filled)
    deviation = jnp.sqrt(masked_mean((rates - rate) ** 2, filled))
    return rate, deviation, masked_mean(state.ious, filled)


def _entries(
    iou: Float[Array, "B G"],
    valid: Bool[Array, "B"] | None,
    tau: Float[Array, ""],
    entries: str,
) -> tuple[Float[Array, "E"], Float[Array, "E"], Float[Array, "E S"], Bool[Array, "E"]]:
    """Hit rate, mean IoU, raw IoUs and validity of the entries one step makes."""
    rows = jnp.ones(iou.shape[:1], bool) if valid is None else valid.astype(bool)
    counts = jnp.broadcast_to(rows[:, None], iou.shape)
    if entries == "step":
        iou, counts = iou.reshape(1, -1), counts.reshape(1, -1)
    elif entries != "group":
        raise ValueError(f"entries {entries!r}: expected 'step' or 'group'")
    # A NaN IoU makes its entry's hit rate NaN, which can never justify a raise.
    hit_rates = masked_mean(threshold_reward(iou, tau), counts, axis=-1)
    ious = masked_mean(iou, counts, axis=-1)
    return hit_rates, ious, jnp.where(counts, iou, _NO_SAMPLE), jnp.any(counts, axis=1)


def _push(
    state: ThresholdState,
    hit_rates: Float[Array, "E"],
    ious: Float[Array, "E"],
    samples: Float[Array, "E S"],
    valid: Bool[Array, "E"],
) -> ThresholdState:
    """Append the valid entries in order; what no longer fits leaves at the front."""
    size, kept = state.hit_rates.shape[0], state.samples
    if kept is not None and kept.shape[1] != samples.shape[1]:
        raise ValueError(
            f"the state keeps {kept.shape[1]} raw IoUs an entry, this step has "
            f"{samples.shape[1]}: init_threshold(samples={samples.shape[1]}) or 0"
        )
    rank = jnp.concatenate(
        [jnp.ones((size,), jnp.int32), jnp.where(valid, 2, 0).astype(jnp.int32)]
    )
    order = jnp.argsort(rank, stable=True)[-size:]  # invalid, then old, then new

    def push(old: Float[Array, "N *S"], new: Float[Array, "E *S"]) -> Array:
        return jnp.concatenate([old, new])[order]

    added = jnp.sum(valid, dtype=jnp.int32)
    return state._replace(
        hit_rates=push(state.hit_rates, hit_rates),
        ious=push(state.ious, ious),
        samples=None if kept is None else push(kept, samples),
        count=jnp.minimum(state.count + added, size),
    )


def _stage(
    tau: Float[Array, ""], bounds: tuple[Number, ...], values: tuple[Number, ...]
) -> Float[Array, ""]:
    """values[i], i the number of bounds that tau has reached."""
    value = _float(values[0])
    for bound, following in zip(bounds, values[1:], strict=True):
        value = jnp.where(tau >= _float(bound) - _SLACK, _float(following), value)
    return value


def _float(x: Number) -> Float[Array, ""]:
    return jnp.asarray(x, jnp.float32)
