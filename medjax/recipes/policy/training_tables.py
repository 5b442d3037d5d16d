"""What a report says of a stage's training beside its curves, as tables."""

from pathlib import Path

from medjax.evals.tables import Table
from medjax.rl.schedules import ThresholdSchedule
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
    needs = {
        "window_full": (True, f"{schedule.window} entries", ""),
        "hit_rate": (
            schedule.check_hit_rate,
            f"{last['window_hit_rate_needed']:.3g} or more",
            f"{last['window_hit_rate']:.3g}",
        ),
        "deviation": (
            schedule.check_deviation,
            f"{last['window_deviation_allowed']:.3g} or less",
            f"{last['window_deviation']:.3g}",
        ),
        "margin": (
            schedule.check_margin,
            f"{float(schedule.margin):.3g} or more",
            f"{last['window_margin']:.3g}",
        ),
    }
    cells, held = [], []
    for name, (asked, needed, value) in needs.items():
        flag = "window_window_full" if name == "window_full" else f"window_{name}_ok"
        called = name.replace("_", " ")
        if not asked:
            continue
        failed = sum(not row[flag] for row in since) / len(since)
        here = value or ("full" if last[flag] else "filling")
        cells.append((called, needed, here, f"{failed:.0%}"))
        held += [] if last[flag] else [called]
    title = (
        f"what holds the next raise of tau = {last['window_tau_next']:.3g} after step "
        f"{last['step']}: {', '.join(held) or 'nothing, it comes with the next step'}"
    )
    header = ("condition", "needed", "last", f"failed, of {len(since)} steps since")
    return Table(title, header, tuple(cells))
