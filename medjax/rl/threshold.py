"""MedLoc-R1's moving IoU threshold, as an explicit carry.

The reward is 1[IoU >= tau]. Over a window of the last W entries

    hit rate   r = mean of the entries' hit rates
    deviation  s = their population standard deviation
    margin     m = mean of the entries' IoU - tau

tau rises by delta(tau) when the window is full and r >= P(tau), s <= S(tau) and
m >= Delta; then only the newest half of the window is kept, so that the other half must
be refilled under the new tau. tau never falls and never passes its target.

Source: MedLoc-R1 (arXiv 2603.28120, CVPR 2026). No code was released and parts of the
rule are not published; each place where a reading was chosen is marked "our reading".
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.checks import (
    AxisName,
    batch_axes,
    check_arrays,
    check_groups,
    check_integers,
    check_static,
)
from medjax.masked import marks
from medjax.rl.schedules import (
    COSINE,
    LINEAR,
    Number,
    ThresholdSchedule,
    check_schedule,
)
from medjax.rl.window import (
    NO_SAMPLE,
    RaiseLog,
    ThresholdState,
    push_step,
    window_statistics,
)

# tau moves on a grid of 1e-6 and is compared with this slack: 0.7 + 0.1 is below 0.8 in
# floating point, which would cause one more, meaningless raise and half-empty window.
_SLACK = 1e-6


def init_threshold(
    schedule: ThresholdSchedule, *, samples: int = 0, log_size: int = 64
) -> ThresholdState:
    """The scheduler's carry before the first step: tau at `schedule.start`, no entries.

    Args:
        schedule: Checked by `check_schedule` if all of its numbers are plain; with an
            array among them it is taken as it is. Of several that were stacked, one at
            a time: call this inside the `vmap`.
        samples: How many raw IoUs an entry keeps, so that hit rates are recounted with
            the current tau: the number of completions of an entry, B * G (of all
            devices), or G with entries="group". 0 keeps each hit rate as it was earned
            (our reading: this is what the refresh is for). Static.
        log_size: How many raises the log holds, 1 or more; then the oldest is
            overwritten. Static.

    Returns:
        Arrays in float32 and int32, each with a buffer of its own. They hold no NaN:
        numbers of raises that have not happened are 0, and their step is -1.

    Raises:
        ValueError: a schedule whose stages, bounds or ranges do not fit together, or a
            size that is traced or out of range.

    Source: MedLoc-R1 (arXiv 2603.28120).
    """
    check_integers(
        "init_threshold", samples=(samples, 0, None), log_size=(log_size, 1, None)
    )
    leaves = jax.tree.leaves(schedule)
    if not any(isinstance(x, jax.Array | np.ndarray) for x in leaves):
        check_schedule(schedule)
    check_static("init_threshold", window=schedule.window)
    check_arrays("init_threshold", start=(schedule.start, "", (float, int)))
    size = schedule.window
    # One buffer each: the loop donates the state, and a buffer can be given once.
    zeros = (jnp.zeros((log_size,), jnp.float32) for _ in range(5))
    return ThresholdState(
        tau=jnp.array(schedule.start, jnp.float32),
        hit_rates=jnp.zeros((size,), jnp.float32),
        ious=jnp.zeros((size,), jnp.float32),
        samples=jnp.full((size, samples), NO_SAMPLE, jnp.float32) if samples else None,
        count=jnp.zeros((), jnp.int32),
        step=jnp.zeros((), jnp.int32),
        raises=jnp.zeros((), jnp.int32),
        log=RaiseLog(jnp.full((log_size,), -1, jnp.int32), *zeros),
    )


def update_threshold(
    state: ThresholdState,
    iou: Float[Array, "B G"],
    schedule: ThresholdSchedule,
    *,
    valid: Bool[Array, "B #G"] | None = None,
    entries: str = "step",
    axis_name: AxisName = None,
) -> tuple[ThresholdState, dict[str, Array]]:
    """Push one step's IoUs, then raise tau if the window says so.

    It rises, by the delta of `raise_threshold`, when the window of W entries is full,
    the mean of their hit rates (shares of IoU >= tau) is at least P(tau), the standard
    deviation (ddof 0) of these at most S(tau), and the mean IoU at least tau + Delta.
    Each comparison has a slack of 1e-6. Then only the newest keep * W entries stay,
    rounded down.

    The rewards of this step used `state.tau`; the new tau holds from the next step on.
    The size of a raise is delta at the tau before it (our reading).

    Args:
        state: The carry, of `init_threshold` or of the step before, for the `window` of
            this schedule; its leaves may be NumPy's.
        iou: Of every completion of the step, 0 to 1, a row a prompt; the IoU only,
            never the format reward. A NaN that counts makes the hit rate NaN, and
            nothing is raised until its entry has left the window.
        schedule: The numbers of the rule, which may be traced (`vmap` over schedules),
            `window` excepted.
        valid: True (or an integer that is not 0) at the completions that count; [B, 1]
            marks whole prompts, None all. What stands at the others is not read. A step
            without any pushes nothing.
        entries: "step" pushes the mean over all completions of the step that count (our
            reading), "group" one entry a prompt, in order (an independent port).
            Static.
        axis_name: Inside `shard_map`, the axes that the prompts are spread over, in the
            order of the prompts; the entries are then those of all devices' prompts,
            and the new state is the same on each. An axis that an input varies along
            has to be named, or () given, which moves each device's tau by itself.

    Returns:
        The new carry, and the numbers of the decision: `tau` (used), `tau_next`,
        `hit_rate`, `deviation`, `margin` of the window, `hit_rate_needed` (P),
        `deviation_allowed` (S), `window_full`, `hit_rate_ok`, `deviation_ok`,
        `margin_ok`, `raised`. Until the window is full, its filled part is described.

    Raises:
        ValueError: a state of another window, or that keeps another number of raw IoUs
            than this step has; an unknown word; shapes or dtypes that do not fit; an
            axis that is not named.

    Source: MedLoc-R1 (arXiv 2603.28120); "our reading" marks what it leaves open.
    """
    state = jax.tree.map(jnp.asarray, state)
    check_groups(
        "update_threshold",
        valid,
        iou=(iou, "B G", float),
        **{"state.tau": (state.tau, "", float)},
        **{"state.hit_rates": (state.hit_rates, "W", float)},
        **{"state.ious": (state.ious, "W", float)},
    )
    if schedule.window != state.hit_rates.shape[0]:
        raise ValueError(
            f"update_threshold: state: expected a window of {schedule.window} entries, "
            f"as the schedule has it; found {state.hit_rates.shape[0]}; make the state "
            "by init_threshold of the same schedule"
        )
    axes = batch_axes("update_threshold", axis_name, iou=iou, valid=valid)
    tau = state.tau
    counts = marks(valid, iou.shape)
    iou = jnp.where(counts, iou, jnp.zeros((), iou.dtype)).astype(jnp.float32)
    state = push_step(state, iou, counts, entries=entries, axes=axes)
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
        & (hit_rate_ok | ~_flag(schedule.check_hit_rate))
        & (deviation_ok | ~_flag(schedule.check_deviation))
        & (margin_ok | ~_flag(schedule.check_margin))
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
        "tau": jnp.copy(tau),  # not the buffer of the old state, nor of the new one
        "tau_next": jnp.copy(tau_next),
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

    With u = (tau - start) / (target - start), the share of the way done, delta is

        PIECEWISE  steps[i], i the number of step_bounds that tau has reached
        LINEAR     steps[0] (1 - u)
        COSINE     steps[0] / 2 (1 + cos(pi u))

    A tau on a bound, or at most 1e-6 below it, has reached it.

    Args:
        tau: The threshold now, an IoU from start to target. Below start, u counts as 0;
            a tau at the target or above comes back as the target, NaN as NaN.
        schedule: Whose rule gives delta, at least `min_step`. A raise that would end
            `snap` or less short of the target goes to it. The conditions for a raise
            are not looked at here, nor is whether the numbers are in their ranges.

    Returns:
        A scalar, float32.

    Raises:
        ValueError: a tau that is no scalar of floats.
    """
    check_arrays("raise_threshold", tau=(tau, "", float))
    tau = _float(tau)
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


def _flag(x: bool | Bool[Array, ""]) -> Bool[Array, ""]:
    return jnp.asarray(x).astype(bool)
