"""What a report says of a stage's training beside its curves, as tables."""

from pathlib import Path

from medjax.evals.tables import Table
from medjax.recipes.policy.raises import flag_of, raise_conditions
from medjax.rl.schedules import ThresholdSchedule
from medjax.runtime.speed import read_pace
from medjax.runtime.watchdogs import Watchdogs, observe_all, read_rows, summary

METRICS = "metrics.jsonl"


def watchdog_table(dogs: Watchdogs, folder: Path) -> Table | None:
    """What was out of its limit, and when; None where nothing was.

    Args:
        dogs: The limits and weights of the stage.
        folder: The stage's, with its metrics; without them nothing was.
    """
    rows = summary(dogs, observe_all(dogs, read_rows(folder / METRICS)))
    if not rows:
        return None
    title = f"watchdogs: what was out of its limit, by {dogs.limits.window} steps"
    return Table(title, ("what", "limit", "from step", "to step", "worst"), rows)


def speed_table(folder: Path) -> Table | None:
    """How fast the steps were, as medians; None where none was timed.

    Args:
        folder: The stage's, with its speed.jsonl.
    """
    pace = read_pace(folder)
    if pace is None:
        return None
    rows = [("seconds a step", f"{pace.seconds:.3g}")]
    if pace.tokens is not None:
        few = pace.tokens < 100
        told = f"{pace.tokens:.3g}" if few else f"{pace.tokens:,.0f}"
        rows.append(("tokens a second and chip", told))
    if pace.mfu is not None:
        rows.append(("share of the chips' peak (MFU)", f"{pace.mfu:.1%}"))
    return Table(f"speed: medians of {pace.steps} steps", ("what", ""), tuple(rows))


def raise_table(schedule: ThresholdSchedule, folder: Path) -> Table | None:
    """What holds the next raise of the threshold: its conditions since the last one.

    Each condition that the schedule asks for has a row: what it needs, what the window
    had at the last step, and in what share of the steps since the last raise it failed.
    The title names those that failed at the last step.

    Args:
        schedule: Its flags say what is asked for.
        folder: The stage's, with its metrics. None comes back without them, and where
            the threshold has reached the schedule's target.
    """
    rows = [row for row in read_rows(folder / METRICS) if "window_raised" in row]
    if not rows or rows[-1]["window_tau_next"] >= schedule.target - 1e-6:
        return None
    last = rows[-1]
    raised = [n for n, row in enumerate(rows) if row["window_raised"]]
    since = rows[raised[-1] + 1 :] if raised else rows
    if not since:  # it rose at the last step, and nothing was asked since
        return None
    cells, held = [], []
    for one in raise_conditions(schedule, last):
        failed = sum(not row[flag_of(one.name)] for row in since) / len(since)
        needed = f"{one.needed:.3g} or {'more' if one.least else 'less'}"
        here = f"{one.value:.3g}"
        if one.name == "window_full":
            needed = f"{schedule.window} entries"
            here = "full" if one.holds else "filling"
        called = one.name.replace("_", " ")
        cells.append((called, needed, here, f"{failed:.0%}"))
        held += [] if one.holds else [called]
    title = (
        f"what holds the next raise of tau = {last['window_tau_next']:.3g} after step "
        f"{last['step']}: {', '.join(held) or 'nothing, it comes with the next step'}"
    )
    header = ("condition", "needed", "last", f"failed, of {len(since)} steps since")
    return Table(title, header, tuple(cells))
