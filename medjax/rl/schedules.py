"""The numbers of MedLoc-R1's threshold schedules: record, presets, consistency check.

Sources: the paper's tables as summarised in public notes; P and S from an independent
port. "Our reading" marks what neither states.
"""

import math
import numbers
from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_static

PIECEWISE, LINEAR, COSINE = range(3)

Number = float | Float[Array, ""]


class ThresholdSchedule(NamedTuple):
    """The numbers of a schedule; change one with `_replace`, stack several to vmap.

    `steps`, `hit_rates` and `deviations` hold one number a stage, the matching bounds
    the tau from which the next stage holds (one number less). All presets have three
    stages, so that they stack: `jax.tree.map(lambda *x: jnp.stack(x), *schedules)`.
    `window` sizes arrays, so it is no leaf of the tree but part of its structure: it
    stays a plain integer in a stack, a vmap and a jit, and must be equal in all of a
    stack.
    """

    start: Number  # tau_0, an IoU from 0 to 1
    target: Number  # an IoU, start <= target <= 1; tau ends here
    rule: int | Int[Array, ""]  # PIECEWISE, LINEAR or COSINE
    steps: tuple[Number, ...]  # delta a stage; LINEAR and COSINE read the first only
    step_bounds: tuple[Number, ...]  # beta, ascending: tau from which a step holds
    hit_rates: tuple[Number, ...]  # P a stage, a share of completions; falls
    deviations: tuple[Number, ...]  # S a stage, of hit rates; grows
    stage_bounds: tuple[Number, ...]  # ascending: tau from which P and S hold
    margin: Number  # Delta, by which the mean IoU must exceed tau
    window: int  # W entries; static, it sizes the state
    keep: Number  # share of the window that survives a raise, 0 <= keep < 1
    check_hit_rate: bool | Bool[Array, ""] = True  # False: this condition is waived
    check_deviation: bool | Bool[Array, ""] = True
    check_margin: bool | Bool[Array, ""] = True
    snap: Number = 0.01  # a raise ending this close to the target goes to it
    min_step: Number = 0.0  # a raise is at least this much


jax.tree_util.register_dataclass(
    ThresholdSchedule,
    data_fields=[name for name in ThresholdSchedule._fields if name != "window"],
    meta_fields=["window"],
)


def piecewise_schedule() -> ThresholdSchedule:
    """The paper's default: the IoU threshold tau goes 0.30, 0.45, 0.60, 0.70, 0.80.

    A step's hit rate is the share of its completions with an IoU of at least tau. tau
    rises once 30 steps are known, where the mean of their hit rates is at least P, the
    standard deviation of these 30 numbers (ddof 0, divided by 30) at most S, and their
    mean IoU at least tau + 0.10. P and S are 0.80 and 0.20 below tau = 0.60, 0.75 and
    0.35 from 0.60 on, 0.55 and 0.40 from 0.75 on. After a raise the newest 15 steps are
    kept, so that the next one takes 15 more at least. At 0.80 tau stays.

    Source: MedLoc-R1 (arXiv 2603.28120). P and S are those of an independent port, as
    the paper does not print them; they fit its words.
    """
    return ThresholdSchedule(
        start=0.3,
        target=0.8,
        rule=PIECEWISE,
        steps=(0.15, 0.10, 0.05),
        step_bounds=(0.55, 0.75),
        hit_rates=(0.80, 0.75, 0.55),
        deviations=(0.20, 0.35, 0.40),
        stage_bounds=(0.60, 0.75),
        margin=0.10,
        window=30,
        keep=0.5,
    )


def linear_schedule() -> ThresholdSchedule:
    """The IoU threshold tau from 0.2 to 0.8 by delta = 0.2 (1 - u).

    u = (tau - 0.2) / 0.6 is the share of the way done, so each raise takes a third of
    what is left. There is no least step: `min_step` is 0. A raise that would end 0.01
    or less below 0.8 goes to 0.8, which ends the series after 11 raises.

    A step's hit rate is the share of its completions with an IoU of at least tau. tau
    rises once 30 steps are known, where the mean of their hit rates is at least P, the
    standard deviation of these 30 numbers (ddof 0, divided by 30) at most S, and their
    mean IoU at least tau + 0.10. P and S are 0.80 and 0.20 below tau = 0.60, 0.75 and
    0.35 from 0.60 on, 0.55 and 0.40 from 0.75 on. After a raise the newest 15 steps are
    kept.

    Source: MedLoc-R1 (arXiv 2603.28120); P and S are those of an independent port.
    """
    return piecewise_schedule()._replace(start=0.2, rule=LINEAR, steps=(0.2,) * 3)


def cosine_schedule() -> ThresholdSchedule:
    """The IoU threshold tau from 0.2 to 0.8 by delta = 0.1 (1 + cos(pi u)).

    u = (tau - 0.2) / 0.6 is the share of the way done. A raise is at least 0.02
    (`min_step`): without a least step, which the paper does not name, tau would not
    come near 0.8. A raise that would end 0.01 or less below 0.8 goes to 0.8, which ends
    the series after 11 raises.

    A step's hit rate is the share of its completions with an IoU of at least tau. tau
    rises once 30 steps are known, where the mean of their hit rates is at least P, the
    standard deviation of these 30 numbers (ddof 0, divided by 30) at most S, and their
    mean IoU at least tau + 0.10. P and S are 0.80 and 0.20 below tau = 0.60, 0.75 and
    0.35 from 0.60 on, 0.55 and 0.40 from 0.75 on. After a raise the newest 15 steps are
    kept.

    Source: MedLoc-R1 (arXiv 2603.28120); P and S are those of an independent port.
    """
    return linear_schedule()._replace(rule=COSINE, min_step=0.02)


def fixed_schedule(tau: float) -> ThresholdSchedule:
    """A threshold that never rises; at 0.5 the "VLM-R1 fixed" baseline.

    Its start and target are equal. The window has 30 steps, as in `piecewise_schedule`,
    and is described in the metrics, but decides nothing.

    Args:
        tau: The IoU that a completion must reach, 0 to 1. Nothing is refused here: a
            Python number outside is refused by `init_threshold`, an array is not.
    """
    return piecewise_schedule()._replace(start=tau, target=tau)


def fixed_conservative_schedule() -> ThresholdSchedule:
    """Ablation: tau rises by 0.05, from 0.3 to 0.8, at one hit rate and deviation.

    These are ten raises. Each asks for a mean hit rate of at least
    P = 0.80 over 30 steps, a standard deviation (ddof 0) of these hit rates of at most
    S = 0.20, and a mean IoU of at least tau + 0.10, whatever tau is. All else is as in
    `piecewise_schedule`: after a raise the newest 15 steps are kept.

    The numbers are INVENTED here: the paper names Fixed-Conservative, -Moderate and
    -Aggressive and defines none.
    """
    return _one_stage(step=0.05, hit_rate=0.80, deviation=0.20)


def fixed_moderate_schedule() -> ThresholdSchedule:
    """Ablation: tau rises by 0.10, from 0.3 to 0.8, at one hit rate and deviation.

    These are five raises. Each asks for a mean hit rate of at least
    P = 0.70 over 30 steps, a standard deviation (ddof 0) of these hit rates of at most
    S = 0.30, and a mean IoU of at least tau + 0.10, whatever tau is. All else is as in
    `piecewise_schedule`: after a raise the newest 15 steps are kept.

    The numbers are INVENTED here: the paper names Fixed-Moderate and defines none.
    """
    return _one_stage(step=0.10, hit_rate=0.70, deviation=0.30)


def fixed_aggressive_schedule() -> ThresholdSchedule:
    """Ablation: tau rises by 0.15, from 0.3 to 0.8, at one hit rate and deviation.

    These are four raises, the last one cut to 0.05. Each asks for a mean hit rate of at
    least P = 0.55 over 30 steps, a standard deviation (ddof 0) of these hit rates of at
    most S = 0.40, and a mean IoU of at least tau + 0.10, whatever tau is. All else is
    as in `piecewise_schedule`: after a raise the newest 15 steps are kept.

    The numbers are INVENTED here: the paper names Fixed-Aggressive and defines none.
    """
    return _one_stage(step=0.15, hit_rate=0.55, deviation=0.40)


def _one_stage(*, step: float, hit_rate: float, deviation: float) -> ThresholdSchedule:
    return piecewise_schedule()._replace(
        steps=(step,) * 3, hit_rates=(hit_rate,) * 3, deviations=(deviation,) * 3
    )


def check_schedule(schedule: ThresholdSchedule) -> None:
    """Raise ValueError naming everything about the schedule that does not fit.

    Args:
        schedule: Of plain numbers: traced ones cannot be looked at, and are refused.

    Raises:
        ValueError: one message that lists all of: a number that is not finite, start
            and target out of 0 <= start <= target <= 1, an unknown rule, stages and
            bounds whose numbers do not match, a step of 0 or less, bounds that fall
            (equal ones pass: the stage between them never holds), a hit rate, deviation
            or bound outside of 0 to 1, a margin outside of -1 to 1, a window that is no
            integer of 1 or more, a `keep` outside of 0 to below 1, a negative `snap` or
            `min_step`.
    """
    s = schedule
    check_static("check_schedule", **s._asdict())
    problems = []
    if any(x != x or x in (math.inf, -math.inf) for x in jax.tree.leaves(s)):
        problems.append("finite numbers")
    if not 0 <= s.start <= s.target <= 1:
        problems.append(f"0 <= start {s.start} <= target {s.target} <= 1")
    if s.rule not in (PIECEWISE, LINEAR, COSINE):
        problems.append(f"rule {s.rule} is PIECEWISE, LINEAR or COSINE")
    if len(s.steps) != len(s.step_bounds) + 1:
        problems.append("steps: one more than step_bounds")
    if not len(s.hit_rates) == len(s.deviations) == len(s.stage_bounds) + 1:
        problems.append("hit_rates and deviations: one more than stage_bounds")
    if any(step <= 0 for step in s.steps):
        problems.append(f"steps {s.steps} > 0")
    for name in ("step_bounds", "stage_bounds"):
        if list(getattr(s, name)) != sorted(getattr(s, name)):
            problems.append(f"{name} ascending")
    for name in ("hit_rates", "deviations", "step_bounds", "stage_bounds"):
        if not all(0 <= x <= 1 for x in getattr(s, name)):
            problems.append(f"{name} {getattr(s, name)} from 0 to 1")
    if not -1 <= s.margin <= 1:
        problems.append(f"margin {s.margin} from -1 to 1")
    whole = isinstance(s.window, numbers.Integral) and s.window >= 1
    if not whole or not 0 <= s.keep < 1:
        problems.append(f"window {s.window} >= 1, an integer, 0 <= keep {s.keep} < 1")
    if s.snap < 0 or s.min_step < 0:
        problems.append(f"snap {s.snap} >= 0, min_step {s.min_step} >= 0")
    if problems:
        raise ValueError("threshold schedule: expected " + "; ".join(problems))
