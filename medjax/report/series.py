"""A run's metrics as series, read back from the lines that the loop wrote."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Series(NamedTuple):
    """One metric over a run, in the order of its file."""

    step: Int[np.ndarray, "M"]  # steps done when it was written
    value: Float[np.ndarray, "M"]  # may be NaN


class Raise(NamedTuple):
    """One raise of the threshold and the window's numbers that caused it."""

    step: int  # steps done when it was decided
    tau_before: float  # IoU, 0 to 1
    tau_after: float
    hit_rate: float  # of the window, 0 to 1
    deviation: float  # of the hit rate within the window
    margin: float  # mean IoU of the window less tau


Metrics = Mapping[str, Series]


def read_metrics(path: str | os.PathLike) -> dict[str, Series]:
    """The numbers of a JSON-lines file, one object with `step` a line, by name.

    Args:
        path: An existing file; an empty one gives no series. A last line that a kill
            cut short is left out, and so is every value that is no number.

    Raises:
        ValueError: Another line is no such object; names file and line.
    """
    pairs_by_name: dict[str, list[tuple[int, float]]] = {}
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            continue
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with a step, found "
                f"{line.strip()[:60]!r}"
            ) from error
        for name, value in row.items():
            if isinstance(value, int | float):
                pairs_by_name.setdefault(name, []).append((step, float(value)))
    return {
        name: Series(np.array([s for s, _ in pairs]), np.array([v for _, v in pairs]))
        for name, pairs in pairs_by_name.items()
    }


def with_row(metrics: Metrics, step: int, row: Mapping[str, object]) -> Metrics:
    """The series with a row more, in the order of steps.

    Args:
        metrics: By name.
        step: Steps done; what a series has of the same is replaced.
        row: Its numbers by name, not among them those of `step`; the rest is left out.
    """
    found = dict(metrics)
    for name, value in row.items():
        if not isinstance(value, int | float):
            continue
        old = found.get(name, Series(np.zeros(0, np.int64), np.zeros(0)))
        kept = old.step != step
        steps = np.append(old.step[kept], step)
        order = np.argsort(steps, kind="stable")
        values = np.append(old.value[kept], float(value))
        found[name] = Series(steps[order], values[order])
    return found


def find_raises(metrics: Metrics) -> list[Raise]:
    """The steps whose `window_raised` is 1, with the numbers of their decision.

    Args:
        metrics: Of the training steps by name, see `read_metrics`. A number that the
            run did not write at that step is NaN; without `window_raised` there are no
            raises.
    """
    if "window_raised" not in metrics:
        return []
    steps = metrics["window_raised"].step[metrics["window_raised"].value == 1]
    decision = ("tau_next", "hit_rate", "deviation", "margin")
    names = ("tau", *(f"window_{name}" for name in decision))
    return [
        Raise(int(s), *(value_at(metrics, name, step=int(s)) for name in names))
        for s in steps
    ]


def running_mean(
    value: Float[np.ndarray, "M"], *, width: int
) -> Float[np.ndarray, "M"]:
    """Centred mean over neighbours.

    Args:
        value: At least one number. What is not finite is left out, and a window that
            holds nothing else gives NaN.
        width: How many neighbours a mean takes, the entry itself among them, 1 or
            more; there are fewer at the ends.
    """
    here = np.isfinite(value)
    kernel = np.ones(min(width, len(value)))
    count = np.convolve(here, kernel, "same")
    total = np.convolve(np.where(here, value, 0.0), kernel, "same")
    return np.divide(total, count, out=np.full(len(value), np.nan), where=count > 0.5)


def value_at(metrics: Metrics, name: str, *, step: int) -> float:
    """The last value of a metric at a step; NaN where it was not written.

    Args:
        metrics: By name, see `read_metrics`.
        name: A metric, which need not be there.
        step: Steps done.
    """
    if name not in metrics:
        return float("nan")
    rows = np.flatnonzero(metrics[name].step == step)
    return float(metrics[name].value[rows[-1]]) if len(rows) else float("nan")
