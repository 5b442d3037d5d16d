"""What a raise of the threshold asks for, as the rows of a training have it."""

from collections.abc import Mapping
from typing import NamedTuple

from medjax.rl.schedules import ThresholdSchedule

Row = Mapping[str, float]  # of metrics.jsonl: a step's numbers by name
HOLDS = {"hit_rate": "hit rate", "deviation": "deviation", "margin": "margin"}


class Condition(NamedTuple):
    """One condition of a raise at one step."""

    name: str  # "window_full", "hit_rate", "deviation" or "margin"
    value: float  # of the window; of "window_full" 1 or 0
    needed: float  # what it is compared with
    least: bool  # True: the value must be at least that; False: at most
    holds: bool


def flag_of(name: str) -> str:
    """The metric that says whether a condition holds.

    Args:
        name: Of the condition.
    """
    return "window_window_full" if name == "window_full" else f"window_{name}_ok"


def raise_conditions(schedule: ThresholdSchedule, row: Row) -> list[Condition]:
    """The conditions that a schedule asks for, in the order in which it names them.

    Args:
        schedule: Its flags say what is asked for.
        row: A step's metrics, with those of `update_threshold` as window_NAME.
    """
    asked = {
        "window_full": (True, float(row["window_window_full"]), 1.0, True),
        "hit_rate": (
            schedule.check_hit_rate,
            row["window_hit_rate"],
            row["window_hit_rate_needed"],
            True,
        ),
        "deviation": (
            schedule.check_deviation,
            row["window_deviation"],
            row["window_deviation_allowed"],
            False,
        ),
        "margin": (
            schedule.check_margin,
            row["window_margin"],
            float(schedule.margin),
            True,
        ),
    }
    return [
        Condition(name, value, needed, least, bool(row[flag_of(name)]))
        for name, (wanted, value, needed, least) in asked.items()
        if wanted
    ]
