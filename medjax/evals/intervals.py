"""Are intervals what they claim? Coverage by level, width, and the interval score.

Intervals are judged by their own ends and not as 1.96 sd: what a posterior gives is
lopsided. N voxels, L confidence levels; times in any one unit.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)


class LevelScores(NamedTuple):
    """Central intervals of one nominal level over the voxels that are judged."""

    nominal: float  # 0 to 1
    coverage: float  # share of references inside, ends included; 0 to 1
    width: float  # median of high - low, in the unit of the references
    score: float  # mean interval score, likewise


class Sparsified(NamedTuple):
    """The mean error of what is left when the least certain voxels are taken out."""

    removed: Float[np.ndarray, "P"]  # shares taken out, from 0 to below 1
    error: Float[np.ndarray, "P"]  # by sigma, in units of the mean error of all
    oracle: Float[np.ndarray, "P"]  # by the errors themselves, in the same unit


def level_probabilities(levels: Sequence[float] = LEVELS) -> tuple[float, ...]:
    """The rising probabilities whose quantiles are the ends of central intervals.

    (1 - p) / 2 and (1 + p) / 2 of each level p, and 1/2 between them for the median:
    2 L + 1 numbers, to be handed to `fit_posterior` as its `quantiles`.

    Args:
        levels: Rising, above 0 and below 1, at least one.

    Raises:
        ValueError: No levels, or some that do not rise between 0 and 1.
    """
    if not levels or list(levels) != sorted({p for p in levels if 0 < p < 1}):
        raise ValueError(f"levels {levels}: expected rising ones between 0 and 1")
    below = [round((1 - p) / 2, 9) for p in reversed(levels)]
    return (*below, 0.5, *(round(1 - p, 9) for p in reversed(below)))


def interval_score(
    reference: Float[np.ndarray, "N"],
    low: Float[np.ndarray, "N"],
    high: Float[np.ndarray, "N"],
    *,
    level: float,
) -> Float[np.ndarray, "N"]:
    """Width + 2 / (1 - level) times what the reference lies outside; smaller is better.

    A proper score: on average nothing beats the true quantiles, neither intervals that
    are wide to be safe nor narrow ones that miss.

    Args:
        reference: The truth of each voxel, finite, in any unit.
        low: The lower ends in that unit; NaN or an infinity makes the score that.
        high: The upper ends, at least `low`.
        level: What the intervals claim to cover, above 0 and below 1.

    Source: Gneiting and Raftery, J. Am. Stat. Assoc. 102 (2007), section 6.2.
    """
    reference, low, high = (np.asarray(x, np.float64) for x in (reference, low, high))
    outside = np.maximum(low - reference, 0) + np.maximum(reference - high, 0)
    return (high - low) + 2 / (1 - level) * outside


def interval_scores(
    reference: Float[np.ndarray, "N"],
    quantiles: Float[np.ndarray, "Q N"],
    probabilities: Sequence[float],
    *,
    levels: Sequence[float] = LEVELS,
) -> list[LevelScores]:
    """How the central interval of each level does over N voxels.

    A voxel whose interval is not finite is not covered; it is left out of width and
    score, which are NaN where no voxel is left. Without voxels all three are NaN.

    Args:
        reference: The truth, finite, in any unit.
        quantiles: One row for each probability, in that unit.
        probabilities: What the rows are quantiles for; both ends of every level must be
            among them, see `level_probabilities`.
        levels: Nominal coverages, above 0 and below 1.

    Raises:
        ValueError: A level whose ends are missing, or shapes that do not fit.
    """
    reference, quantiles = np.asarray(reference, float), np.asarray(quantiles, float)
    if quantiles.shape != (len(probabilities), *reference.shape):
        raise ValueError(
            f"quantiles {quantiles.shape}: expected {len(probabilities)} rows, one for "
            f"each probability, of {reference.shape}"
        )
    found = []
    for level in levels:
        low, high = (
            quantiles[_row(probabilities, p, level)]
            for p in ((1 - level) / 2, (1 + level) / 2)
        )
        known = np.isfinite(low) & np.isfinite(high)
        inside = known & (low <= reference) & (reference <= high)
        some = known.any()
        each = interval_score(reference[known], low[known], high[known], level=level)
        found.append(
            LevelScores(
                float(level),
                float(inside.mean()) if len(reference) else float("nan"),
                float(np.median((high - low)[known])) if some else float("nan"),
                float(each.mean()) if some else float("nan"),
            )
        )
    return found


def scores_by_part(
    reference: Float[np.ndarray, "N"],
    quantiles: Float[np.ndarray, "Q N"],
    probabilities: Sequence[float],
    parts: Mapping[str, Bool[np.ndarray, "N"]],
    *,
    levels: Sequence[float] = LEVELS,
) -> dict[str, list[LevelScores]]:
    """`interval_scores` of some of the voxels at a time: tissue, fluid, one R.

    Args:
        reference: Of `interval_scores`, like the two that follow.
        quantiles: Likewise.
        probabilities: Likewise.
        parts: Which voxels belong to each part, by its name; parts may overlap, and one
            without voxels is left out.
        levels: Of `interval_scores`.
    """
    return {
        name: interval_scores(
            reference[chosen], quantiles[:, chosen], probabilities, levels=levels
        )
        for name, chosen in parts.items()
        if chosen.any()
    }


def sparsification_curve(
    error: Float[np.ndarray, "N"], sigma: Float[np.ndarray, "N"], *, points: int = 50
) -> Sparsified:
    """What is left of the mean error when a share of least certain voxels is removed.

    The area between the two curves is `sparsification_error`. Voxels of equal sigma
    stay in their order.

    Args:
        error: Of at least one voxel, finite, in any unit; its sign does not count.
        sigma: Finite, in any unit, as its order alone counts.
        points: How many shares from 0 on, 1 or more; the last is 1 - 1 / points.

    Raises:
        ValueError: No voxels, other numbers of sigmas, or errors that are all 0.
    """
    error = np.abs(np.asarray(error, np.float64))
    if not len(error) or len(error) != len(sigma) or not error.any():
        raise ValueError(
            f"{len(error)} errors and {len(sigma)} sigmas: expected as many of both, "
            "at least one, and an error above 0"
        )
    shares = np.arange(points) / points
    kept = np.maximum(np.round((1 - shares) * len(error)).astype(int), 1)

    def left(order: np.ndarray) -> np.ndarray:
        means = np.cumsum(error[order]) / np.arange(1, len(error) + 1)
        return means[kept - 1] / error.mean()

    by_sigma = np.argsort(sigma, kind="stable")
    return Sparsified(shares, left(by_sigma), left(np.argsort(error, kind="stable")))


def bound_scores(
    error: Float[np.ndarray, "N"], bound: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """z = error / Cramer-Rao sigma: beyond the noise alone where its spread is above 1.

    Args:
        error: Of each voxel, signed, in the unit of `bound`.
        bound: The least standard deviation that an unbiased fit can have at the noise
            that was measured (`cramer_rao_bound`); NaN where it is not above 0.
    """
    bound = np.asarray(bound, np.float64)
    return np.asarray(error, np.float64) / np.where(bound > 0, bound, np.nan)


def _row(probabilities: Sequence[float], wanted: float, level: float) -> int:
    near = np.abs(np.asarray(probabilities) - wanted)
    if not len(near) or near.min() > 1e-6:
        raise ValueError(
            f"level {level:g}: its end {wanted:g} is not among the probabilities "
            f"{tuple(probabilities)}"
        )
    return int(near.argmin())
