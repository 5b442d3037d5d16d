"""What a training showed, in words, from the rows that it wrote: no more than they say.

Every sentence is a function of the rows of metrics.jsonl and of what the config asked
for, so the page of a running training, of a finished one and of a later evaluation say
the same of the same steps. Steps that were not finite are counted and left out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medjax.recipes.policy.raises import HOLDS, Row, raise_conditions
from medjax.recipes.policy.task import Story
from medjax.recipes.policy.words import changed, compare, joined, number, share, times
from medjax.rl.schedules import ThresholdSchedule
from medjax.runtime.watch import (
    Counters,
    Watch,
    count_step,
    end_line,
    has_converged,
    is_over,
)
from medjax.runtime.watchdogs import observe_all, read_rows, summary_lines

METRICS = "metrics.jsonl"
LISTED = 5  # raises that are named one by one
_KINDS = ("all_wrong", "all_right", "unparsable", "tied")


def exploration_story(
    steps: int,
    watch: Watch,
    reward: str,
    schedule: ThresholdSchedule | None,
    folder: Path,
) -> Story:
    """The words about a training by rewards.

    Args:
        steps: How many it was to have.
        watch: What ends it early and what is watched.
        reward: What an IoU earns, see `threshold_lines`; "" where there are no boxes.
        schedule: Of the threshold; None where there is none.
        folder: The stage's, with its metrics; without them nothing is said.
    """
    rows = read_rows(folder / METRICS)
    ending = end_story(rows, steps, watch)
    alarms = ()
    if watch.dogs is not None:
        alarms = summary_lines(watch.dogs, observe_all(watch.dogs, rows))
    lines = [*threshold_lines(rows, reward, schedule), *signal_lines(rows)]
    return Story((*lines, *ending.lines), (*ending.doubts, *alarms))


def supervised_story(steps: int, folder: Path) -> Story:
    """The words about a training on written answers.

    Args:
        steps: How many it was to have.
        folder: The stage's, with its metrics; without them nothing is said.
    """
    rows = read_rows(folder / METRICS)
    ending = end_story(rows, steps, None)
    return Story((*loss_lines(rows), *ending.lines), ending.doubts)


def threshold_lines(
    rows: Sequence[Row], reward: str, schedule: ThresholdSchedule | None
) -> list[str]:
    """How the threshold moved, and what held its next raise at the last step.

    Args:
        rows: Of the steps, in their order; without one nothing is said.
        reward: "curriculum", "fixed", "raw_iou" or "progress"; of the last three
            nothing but the course of tau is said.
        schedule: Whose conditions are asked; None says nothing.
    """
    rows = [row for row in rows if "tau" in row and not row.get("nonfinite")]
    windowed = all("window_raised" in row for row in rows)
    if not rows or schedule is None or windowed != (reward == "curriculum"):
        return []  # nothing to say, or rows of a run with another reward
    first, last = rows[0], rows[-1]
    if reward == "fixed":
        same = all(row["tau"] == last["tau"] for row in rows)
        return [f"tau was fixed at {number(last['tau'])}."] if same else []
    if reward == "raw_iou":
        return ["No threshold: an answer earned its IoU (of a set, its Q)."]
    if reward == "progress":
        went = f"from {number(first['tau'])} to {number(last['tau'])}"
        return [f"tau followed the share of the steps that were done, {went}."]
    raises = [row for row in rows if row["window_raised"]]
    after = last["window_tau_next"]
    there = f"from {number(first['tau'])} to {number(after)}"
    places = [
        f"at step {row['step']:.0f} to {number(row['window_tau_next'])}"
        for row in raises
    ]
    if not raises:
        line = f"tau did not rise from {number(after)}"
    elif len(raises) == 1:
        line = f"tau rose once, at step {raises[0]['step']:.0f}, {there}"
    elif len(raises) <= LISTED:
        line = f"tau rose {times(len(raises))}, {there} ({', '.join(places)})"
    else:
        steps = [f"{raises[n]['step']:.0f}" for n in (0, -1)]
        line = f"tau rose {times(len(raises))}, {there}, first at step {steps[0]} "
        line += f"and last at step {steps[1]}"
    if after >= float(schedule.target) - 1e-6:
        return [f"{line}, which is its target."]
    if raises and raises[-1] is last:
        return [f"{line}; that was the last step."]
    held = [
        "the window was not full"
        if one.name == "window_full"
        else f"the window's {HOLDS[one.name]} "
        + compare(one.value, one.needed, "<" if one.least else ">")
        for one in raise_conditions(schedule, last)
        if not one.holds
    ]
    stay = "; it stayed there" if raises else ""
    why = joined(held) if held else "nothing held it that the config's schedule asks"
    return [f"{line}{stay}: at step {last['step']:.0f} {why}."]


def signal_lines(rows: Sequence[Row]) -> list[str]:
    """What share of the groups of completions could teach, and why the others not.

    Args:
        rows: Of the steps, in their order; those without groups say nothing.
    """
    rows = [row for row in rows if "groups" in row and not row.get("nonfinite")]
    total = sum(row["groups"] for row in rows)
    if not total:
        return []
    taught = sum(row["groups_effective"] for row in rows)
    parts = [
        f"{share(count, total)} {kind.replace('_', ' ')}"
        for kind in _KINDS
        if (count := sum(row[f"groups_{kind}"] for row in rows))
    ]
    line = f"{share(taught, total)} of groups gave signal: their rewards differed"
    if not taught:
        line = "No group gave signal: all completions of a prompt earned the same"
    if parts:
        parts[0] = parts[0].replace("%", "% were", 1)
        line += f". {joined(parts)}"
    tail = rows[-(len(rows) // 10) :]
    if len(rows) >= 20 and taught:
        late = share(
            sum(row["groups_effective"] for row in tail),
            sum(row["groups"] for row in tail),
        )
        line += f". In the last {len(tail)} of {len(rows)} steps {late} gave signal"
    return [f"{line}."]


def loss_lines(rows: Sequence[Row]) -> list[str]:
    """From where to where the loss on written answers went.

    Args:
        rows: Of the steps, in their order; means are over a tenth of them.
    """
    losses = [x["loss"] for x in rows if "loss" in x and not x.get("nonfinite")]
    if not losses:
        return []
    if len(losses) == 1:
        return [f"The loss of the one step was {losses[0]:.3g}."]
    width = max(1, len(losses) // 10)
    first, last = np.mean(losses[:width]), np.mean(losses[-width:])
    what = "at the first and the last step"
    if width > 1:
        what = f"means of the first and of the last {width} steps"
    return [f"The loss {changed(float(first), float(last))}, {what}."]


def end_story(rows: Sequence[Row], steps: int, watch: Watch | None) -> Story:
    """Whether the training came to its end, and why not; steps that were skipped.

    Args:
        rows: Of the steps, in their order; without one nothing is said.
        steps: How many there were to be.
        watch: By whose patience it may have ended; None has none.
    """
    if not rows:
        return Story()
    counters, last = Counters(), rows[-1]
    for row in rows:
        counters = count_step(counters, row)
    lines, doubts = [], []
    done = int(last["step"])
    if watch is not None and is_over(watch, counters):
        converged = has_converged(watch, counters)
        row = {} if converged else last
        line = f"Training {end_line(watch, counters, done, row)}."
        (lines if converged else doubts).append(line)
    elif done < steps:
        lines.append(f"{done} of the {steps} steps that are asked for are done.")
    if counters.skipped:
        doubts.append(
            f"{counters.skipped} of {done} steps were not finite, and changed nothing."
        )
    return Story(tuple(lines), tuple(doubts))
