"""Agreement of measured values with references: bias and limits of agreement."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

WITHIN = 1.96  # standard deviations on both sides of the bias


class Limit(NamedTuple):
    """A bias or a limit of agreement between the ends of its interval; NaN: unknown."""

    value: float
    low: float
    high: float


class Agreement(NamedTuple):
    """What differences of pairs say; all in the unit of the differences."""

    count: int  # of pairs
    bias: Limit  # their mean
    sd: float  # their standard deviation, with count - 1
    lower: Limit  # bias - 1.96 sd
    upper: Limit  # bias + 1.96 sd


def bland_altman(
    difference: Float[np.ndarray, "N"], *, level: float = 0.95
) -> Agreement:
    """Bias and limits of agreement of N differences, each with its interval.

    bias = mean(d), limits = bias +- 1.96 sd. Half an interval is t s / sqrt(N) of the
    bias and t s sqrt(1/N + 1.96^2 / (2 (N - 1))) of a limit, t the quantile of N - 1
    degrees of freedom. They hold for differences that are Gaussian, independent, and
    spread alike whatever the value: where they grow with it, take them in per cent.

    Args:
        difference: Measured minus reference of each pair, finite, in any unit. One
            pair has a bias alone, and the rest is NaN.
        level: What the intervals are to cover, above 0 and below 1; the limits are at
            1.96 sd in any case.

    Raises:
        ValueError: No pair, a difference that is not finite, or a level outside (0, 1).

    Source: Bland and Altman, Stat. Methods Med. Res. 8 (1999), section 2.
    """
    difference = np.asarray(difference, np.float64)
    if difference.ndim != 1 or not len(difference):
        raise ValueError(f"differences {difference.shape}: expected at least one, [N]")
    if not np.isfinite(difference).all():
        raise ValueError("differences: expected finite ones; leave other pairs out")
    if not 0 < level < 1:
        raise ValueError(f"level {level}: expected one between 0 and 1")
    count, bias = len(difference), float(difference.mean())
    if count == 1:
        unknown = Limit(*[float("nan")] * 3)
        alone = Limit(bias, float("nan"), float("nan"))
        return Agreement(count, alone, float("nan"), unknown, unknown)
    sd = float(difference.std(ddof=1))
    t = float(special.stdtrit(count - 1, (1 + level) / 2))

    def limit(value: float, variance: float) -> Limit:
        half = t * sd * variance**0.5
        return Limit(value, value - half, value + half)

    wide = 1 / count + WITHIN**2 / (2 * (count - 1))
    return Agreement(
        count,
        limit(bias, 1 / count),
        sd,
        limit(bias - WITHIN * sd, wide),
        limit(bias + WITHIN * sd, wide),
    )
