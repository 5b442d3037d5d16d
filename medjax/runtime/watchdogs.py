"""Watchdogs over a run's metrics: what goes wrong slowly, told in words while it does.

A policy that has stopped exploring, groups that no longer teach, or one reward that
drowns the others stop no run, and show in a curve when it is too late. Steps are judged
a window at a time. What was found is a function of the rows of metrics.jsonl alone: a
resumed run reads its own rows back, and the report finds what the run had said.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

ENTROPY, NO_SIGNAL, SHARE = "entropy", "no_signal", "share "
_SPREAD = "spread "  # before a reward's name among the sums: its mean variance


class Limits(NamedTuple):
    """What is out of the ordinary; None asks nothing of it."""

    entropy: float | None = 0.05  # nats a token: less is told
    no_signal: float | None = 0.75  # share of groups whose rewards are equal: more is
    share: float | None = 0.9  # of one reward in the rewards' variance: more is
    window: int = 10  # steps that are judged together


class Watchdogs(NamedTuple):
    """The limits, and what a stage's rewards weigh."""

    limits: Limits
    weights: Mapping[str, float]  # of every reward
    by_parts: bool = False  # rewards are normalised one by one before they are summed
    right: tuple[
        str, ...
    ] = ()  # rewards for right answers: all of it is as it should be


class Alarm(NamedTuple):
    """Something that was out of its limit, for one stretch of steps."""

    what: str  # "entropy", "no_signal" or "share NAME"
    since: int  # first step of its first window
    until: int  # last step of its last window so far
    worst: float  # mean of the window that was furthest out
    over: bool  # a later window was within the limit again


class Watched(NamedTuple):
    """What was seen so far: the window that is being filled, and the alarms."""

    first: int = 0  # step that the window began with; 0 before any
    count: int = 0  # steps in it
    sums: Mapping[str, float] = {}
    alarms: tuple[Alarm, ...] = ()  # in the order in which they began


def check_limits(limits: Limits, name: str) -> Limits:
    """The limits as they are, if they can be asked for.

    Args:
        limits: Those of a config.
        name: The section's, with which errors begin.

    Raises:
        ValueError: A window of less than 1 step, an entropy below 0, a share outside of
            0 to 1, or a number that is not finite.
    """
    bounds = {ENTROPY: math.inf, NO_SIGNAL: 1.0, "share": 1.0}
    for option, most in bounds.items():
        value = getattr(limits, option)
        if value is not None and not (0 <= value <= most and math.isfinite(value)):
            to = "or more" if most == math.inf else f"to {most:g}"
            raise ValueError(f"{name}.{option}={value}: expected 0 {to}, or None")
    if limits.window < 1:
        raise ValueError(
            f"{name}.window={limits.window}: expected a number of steps, 1 or more"
        )
    return limits


def observe(
    dogs: Watchdogs, seen: Watched, step: int, row: Mapping[str, Any]
) -> tuple[Watched, tuple[str, ...]]:
    """What was seen after one more step, and a line for each alarm that begins or ends.

    Windows of `limits.window` steps follow each other. In each are compared: the mean
    entropy; the share of groups without a signal among all; and of each reward k that
    has a weight, where there are two or more, and is not one for right answers, (w_k
    s_k)^2 / sum_j (w_j s_j)^2, with s_k the mean deviation within a group, a mean of
    squares over the window (of rewards that are normalised by themselves s_k^2 is the
    share of groups in which it differs).
    The weight of a reward that is let in late is that of its step.

    Args:
        dogs: The limits and weights.
        seen: What was seen before; `Watched()` at the start.
        step: Steps done, rising from call to call.
        row: The metrics of that step. One that was not finite (`nonfinite`) is left
            out; what a row does not have is not watched.
    """
    if row.get("nonfinite"):
        return seen, ()
    one = _measure(dogs, row)
    sums = {name: seen.sums.get(name, 0.0) + value for name, value in one.items()}
    first, count = seen.first or step, seen.count + 1
    if count < dogs.limits.window:
        return Watched(first, count, sums, seen.alarms), ()
    values = _judge({name: value / count for name, value in sums.items()})
    values = {
        k: x for k, x in values.items() if k.removeprefix(SHARE) not in dogs.right
    }
    alarms, lines = list(seen.alarms), []
    running = {x.what: n for n, x in enumerate(alarms) if not x.over}
    for what, value in values.items():
        out = _is_out(dogs.limits, what, value)
        where = f"over steps {first} to {step}"
        if what in running:
            old = alarms[running[what]]
            if out:
                worst = (min if what == ENTROPY else max)(old.worst, value)
                alarms[running[what]] = old._replace(until=step, worst=worst)
                continue
            alarms[running[what]] = old._replace(over=True)
            lines.append(
                f"watchdog: {_said(what, value)} {where}, no longer "
                f"{_limit(dogs.limits, what)} (it was from step {old.since} to "
                f"{old.until})"
            )
        elif out:
            alarms.append(Alarm(what, first, step, value, over=False))
            lines.append(
                f"watchdog: {_said(what, value)} {where}, "
                f"{_limit(dogs.limits, what)}: {_advice(what)}"
            )
    return Watched(alarms=tuple(alarms)), tuple(lines)


def observe_all(dogs: Watchdogs, rows: Iterable[Mapping[str, Any]]) -> Watched:
    """What was seen in rows of metrics, each with its `step`, in their order.

    Args:
        dogs: The limits and weights.
        rows: As `read_rows` gives them.
    """
    seen = Watched()
    for row in rows:
        seen, _ = observe(dogs, seen, int(row["step"]), row)
    return seen


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The whole rows of a file of JSON lines; none where there is no file.

    Args:
        path: A stage's metrics.jsonl. A last line that a kill cut short is left out.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def summary(dogs: Watchdogs, seen: Watched) -> tuple[tuple[str, ...], ...]:
    """Each alarm as (what, limit, first step, last step, worst), all of it text.

    Args:
        dogs: The limits that were watched by.
        seen: What was seen; without an alarm there are no rows.
    """
    return tuple(
        (
            _name(alarm.what),
            _limit(dogs.limits, alarm.what),
            str(alarm.since),
            str(alarm.until) if alarm.over else f"{alarm.until}, to the end",
            f"{alarm.worst:.3g}",
        )
        for alarm in seen.alarms
    )


def summary_lines(dogs: Watchdogs, seen: Watched) -> tuple[str, ...]:
    """The alarms of a run in a line each, for its end.

    Args:
        dogs: The limits that were watched by.
        seen: What was seen; without an alarm there are no lines.
    """
    return tuple(
        f"watchdog: {what} was {limit} from step {since} to {until} (at worst {worst})"
        for what, limit, since, until, worst in summary(dogs, seen)
    )


def _measure(dogs: Watchdogs, row: Mapping[str, Any]) -> dict[str, float]:
    """What one step adds to the sums of its window."""
    found = {}
    if ENTROPY in row:
        found[ENTROPY] = float(row[ENTROPY])
    if "groups_effective" in row and "groups" in row:
        found["groups"] = float(row["groups"])
        found["effective"] = float(row["groups_effective"])
    weights = {
        name: weight
        for name, weight in dogs.weights.items()
        if weight and f"reward_{name}_std" in row
    }
    if len(weights) > 1:
        for name, weight in weights.items():
            spread = float(row[f"reward_{name}_std"]) ** 2
            if dogs.by_parts:
                spread = 1.0 - float(row[f"reward_{name}_tied"])
            weight *= float(row.get(f"{name}_ramp", 1.0))  # of one that is let in late
            found[_SPREAD + name] = weight**2 * spread
    return found


def _judge(means: Mapping[str, float]) -> dict[str, float]:
    """The numbers that have limits, from the means of a window."""
    found = {name: x for name, x in means.items() if name == ENTROPY}
    if means.get("groups"):
        found[NO_SIGNAL] = 1.0 - means["effective"] / means["groups"]
    spreads = {
        name.removeprefix(_SPREAD): x
        for name, x in means.items()
        if name.startswith(_SPREAD)
    }
    total = sum(spreads.values())
    for name, spread in spreads.items():
        found[SHARE + name] = spread / total if total > 0 else 0.0
    return found


def _bound(limits: Limits, what: str) -> float | None:
    return {ENTROPY: limits.entropy, NO_SIGNAL: limits.no_signal}.get(
        what, limits.share
    )


def _is_out(limits: Limits, what: str, value: float) -> bool:
    bound = _bound(limits, what)
    if bound is None:
        return False
    return value < bound if what == ENTROPY else value > bound


def _name(what: str) -> str:
    if what == ENTROPY:
        return "entropy [nat / token]"
    if what == NO_SIGNAL:
        return "share of groups without a signal"
    return f"share of {what.removeprefix(SHARE)!r} in the rewards' variance"


def _said(what: str, value: float) -> str:
    if what == ENTROPY:
        return f"entropy {value:.3g} nat a token"
    if what == NO_SIGNAL:
        return f"a share of {value:.3g} of the groups without a signal"
    name = what.removeprefix(SHARE)
    return f"a share of {value:.3g} of the rewards' variance is that of {name!r}"


def _limit(limits: Limits, what: str) -> str:
    return f"{'below' if what == ENTROPY else 'above'} {_bound(limits, what):g}"


def _advice(what: str) -> str:
    if what == ENTROPY:
        return (
            "completions of one prompt hardly differ any more; a higher "
            "train.grpo.sampling.temperature, a bonus (train.grpo.loss.entropy) or a "
            "KL term (train.grpo.loss.beta) keeps them apart"
        )
    if what == NO_SIGNAL:
        return (
            "all their completions earned the same and taught nothing; prompts may be "
            "too easy or too hard, or the reward too coarse"
        )
    return (
        "the others teach next to nothing beside it; see train.grpo.reward_weights and "
        "train.grpo.advantages.normalise"
    )
