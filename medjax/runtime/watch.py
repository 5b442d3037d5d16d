"""What the loop watches in a stage's metrics: rewards that are no numbers, no signal.

A policy learns from groups of completions whose rewards differ. A run without such a
group goes on at full cost and changes nothing: either everything is right already, or
nothing can be learnt this way. It ends, and says which.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from medjax.runtime.watchdogs import Watchdogs

FAULT = "fault_"  # a metric so named is a sample id, or -1; the loop alone reads it


class Watch(NamedTuple):
    """What the loop is told of a stage whose metrics are those of `exploration`."""

    # steps in a row without a signal after which it ends; 0: it never does
    patience: int
    locate: Callable[[int], str]  # by a sample's id: which picture and question it is
    advise: Callable[[Mapping[str, Any]], str]  # by a row of metrics: what to try
    enough: float = 0.9  # mean hit rate of those steps from which on all is learnt
    # steps that such a hit rate lasts at least: a threshold may rise yet
    settle: int = 0
    dogs: Watchdogs | None = None  # what is told while it happens and stops nothing


class Counters(NamedTuple):
    """What the loop counts, from the first step on; a checkpoint holds it."""

    skipped: int = 0  # steps that were not finite
    skipped_in_a_row: int = 0
    idle: int = 0  # steps in a row in which no group's rewards differed
    idle_hits: float = 0.0  # the sum of their hit rates


def count_step(counters: Counters, values: Mapping[str, Any]) -> Counters:
    """The counters after one more step.

    Args:
        counters: Those after the step before.
        values: The step's metrics, of all devices and processes. `nonfinite` is 1 for a
            step that was not finite; `groups_effective` is how many groups have a
            signal, and without it there is no counting of idle steps.
    """
    bad = bool(values["nonfinite"])
    idle = not bad and float(values.get("groups_effective", 1)) == 0
    hits = counters.idle_hits + float(values["hit_rate"]) if idle else 0.0
    return Counters(
        skipped=counters.skipped + bad,
        skipped_in_a_row=bad * (counters.skipped_in_a_row + 1),
        idle=idle * (counters.idle + 1),
        idle_hits=hits,
    )


def read_counters(stored: Mapping[str, Any]) -> Counters:
    """The counters of a checkpoint; those that an older version did not have are 0.

    Args:
        stored: Their document.
    """
    return Counters(**{k: x for k, x in stored.items() if k in Counters._fields})


def is_over(watch: Watch | None, counters: Counters, *, ahead: int = 0) -> bool:
    """Whether the patience with steps without a signal has come to its end.

    Args:
        watch: None is patient for ever, as is a `patience` of 0.
        counters: Those after a step.
        ahead: So many steps further on, if they are idle as well; True where that is
            not known yet.
    """
    if watch is None or not watch.patience or counters.idle + ahead < watch.patience:
        return False
    if ahead or counters.idle >= watch.settle:
        return True
    return not has_converged(watch, counters)


def has_converged(watch: Watch, counters: Counters) -> bool:
    """Whether the idle steps had nothing to teach because nearly all was right.

    Args:
        watch: Its `enough` is the least mean hit rate, 0 to 1.
        counters: Those after at least one idle step.
    """
    return counters.idle_hits >= (watch.enough - 1e-6) * counters.idle


def end_line(
    watch: Watch, counters: Counters, step: int, row: Mapping[str, Any]
) -> str:
    """Why a stage ended before its last step, as one line for a person.

    Args:
        watch: What was asked for.
        counters: Those at the end.
        step: The number of steps done.
        row: The metrics of the last step; {} leaves the advice out.
    """
    rate = counters.idle_hits / counters.idle
    what = (
        f"after step {step}: in the last {counters.idle} steps no group of completions "
        f"differed in reward, at a mean hit rate of {rate:.2f}"
    )
    if has_converged(watch, counters):
        return f"converged {what}; there is nothing left to learn from this reward"
    stopped = f"stopped {what}; expected {watch.enough:g} or a group that differs"
    if not row:
        return stopped
    return (
        f"{stopped}. {watch.advise(row)} To go on here without looking: "
        "train.grpo.patience=0, of a localisation localisation.train.grpo.patience=0"
    )


def find_fault(watch: Watch | None, values: Mapping[str, Any]) -> str:
    """The rewards of a step that are no numbers, and where; "" where all are.

    Args:
        watch: Says what a sample is; None leaves it a number.
        values: The step's metrics. `fault_NAME` is the id of a sample for which the
            reward NAME is not finite, or too large to be squared, -1 where there is
            none.
    """
    found = {
        name.removeprefix(FAULT): int(value)
        for name, value in values.items()
        if name.startswith(FAULT) and int(value) >= 0
    }
    return "; ".join(
        f"reward {name!r} is NaN, infinite or beyond 1e18 for sample {sample}"
        + (f" ({watch.locate(sample)})" if watch else "")
        for name, sample in found.items()
    )
