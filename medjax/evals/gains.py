"""How much one contender gains over another on the same answers, with an interval."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from medjax.evals.tables import Interval, group_intervals


class Gain(NamedTuple):
    """Two means, and their difference paired by answer."""

    ours: float  # NaN without an answer
    theirs: float
    difference: Interval  # ours less theirs

    @property
    def verdict(self) -> int:
        """1 where the whole interval is above 0, -1 where it is below, else 0."""
        return int(self.difference.low > 0) - int(self.difference.high < 0)


def paired_gains(
    ours: Float[np.ndarray, "N"],
    others: Mapping[str, Float[np.ndarray, "N"]],
    groups: Shaped[np.ndarray, "N"],
    *,
    num_samples: int,
    level: float,
    seed: int,
) -> dict[str, Gain]:
    """What `ours` gains over each other, resampling groups (cluster bootstrap).

    Differences are taken answer by answer, so that what makes a question hard for both
    does not widen the interval. It says how far other questions of the same kind would
    move the difference, nothing of another seed of a training.

    Args:
        ours: A number for each of N answers, such as 1 where it is right.
        others: The same of each other contender, about the same questions in the same
            order. NaN is left out, of both.
        groups: Whose answers are resampled together; one group gives intervals of width
            0, which say nothing.
        num_samples: How many samples are drawn, 1 or more; 1000 is usual.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: An integer of at least 0; the same seed gives the same intervals.

    Raises:
        ValueError: See `group_intervals`.
    """
    ours = np.asarray(ours, np.float64)
    columns = {n: ours - np.asarray(x, np.float64) for n, x in others.items()}
    found = group_intervals(
        columns, groups, num_samples=num_samples, level=level, seed=seed
    )
    gains = {}
    for name, theirs in others.items():
        known = ~np.isnan(columns[name])
        means = _mean(ours[known]), _mean(np.asarray(theirs)[known])
        gains[name] = Gain(*means, found[name])
    return gains


def _mean(values: Float[np.ndarray, "N"]) -> float:
    return float(np.mean(values, dtype=np.float64)) if len(values) else float("nan")
