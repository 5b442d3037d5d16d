"""Mean, median and interval of regions of a map whose voxels err together.

A regulariser makes neighbours err alike, so the mean of n voxels is known less well
than one voxel's sigma / sqrt(n). How alike is read off replicas: the map was taken for
the truth, measured by the same lines with other noise, and made again. Deviations of
these maps from it, each voxel's scaled to its own sigma, are summed over the region;
what the regulariser does to a whole region is in them, as it is in all replicas.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

LEAST = 8  # replicas: of fewer the interval is mostly that of its own width


class RegionSums(NamedTuple):
    """What one slice adds to a region."""

    values: Float[np.ndarray, "N"]  # of the voxels that have one, s
    variance: float  # sum of sigma^2, s^2
    deviations: Float[np.ndarray, "R"] | None  # sums over the voxels, s; None: free
    missing: int  # voxels without a value or sigma
    distrusted: int  # of the others, those that something is said against


class Region(NamedTuple):
    """One region of a map in the map's unit, NaN where no voxel has a value."""

    label: int
    name: str  # "" where nobody gave one
    voxels: int  # that have a value
    missing: int  # that have none, and do not count
    distrusted: int  # that have one which something is said against; they count
    mean: float
    median: float
    low: float  # ends of the interval of the mean; NaN where nothing is known of it
    high: float
    independent: float  # voxels: how many that err alone would know the mean as well
    q25: float = float("nan")  # quarter of the voxels lie below
    q75: float = float("nan")  # and above: the interquartile range is between


def region_sums(
    labels: Int[np.ndarray, "H W"],
    value: Float[np.ndarray, "H W"],
    sigma: Float[np.ndarray, "H W"],
    replicas: Float[np.ndarray, "R H W"] | None,
    distrusted: Bool[np.ndarray, "H W"] | None = None,
) -> dict[int, RegionSums]:
    """What a slice adds to each of its regions, by label.

    Args:
        labels: Whole numbers; 0 is no region.
        value: The map in s; a voxel whose value, sigma or replicas are not finite is
            missing.
        sigma: Its standard deviation in s, 0 or more.
        replicas: Maps in s that were made again of `value`, at least `LEAST`; None
            where voxels err independently of each other.
        distrusted: Voxels that something is said against, to be counted; None: none.

    Raises:
        ValueError: Shapes that differ, or too few replicas.
    """
    shapes = {np.shape(labels), np.shape(value), np.shape(sigma)}
    if replicas is not None:
        shapes.add(replicas.shape[1:])
    if len(shapes) > 1:
        raise ValueError(f"shapes {sorted(shapes)}: expected one [H, W] for all")
    if replicas is not None and len(replicas) < LEAST:
        raise ValueError(f"{len(replicas)} replicas: expected at least {LEAST}")
    known = np.isfinite(value) & np.isfinite(sigma)
    scaled = None
    if replicas is not None:
        known &= np.isfinite(replicas).all(axis=0)
        apart = replicas - value
        spread = np.sqrt(np.mean(np.square(apart), axis=0))
        unit = np.where(spread > 0, spread, np.inf)  # one that never varies adds none
        scaled = apart / unit * sigma
    found = {}
    for label in np.unique(labels[labels != 0]).tolist():
        inside = labels == label
        chosen = inside & known
        together = None if scaled is None else scaled[:, chosen].sum(axis=1)
        found[label] = RegionSums(
            value[chosen].astype(np.float64),
            float(np.sum(np.square(sigma[chosen], dtype=np.float64))),
            together,
            int((inside & ~known).sum()),
            0 if distrusted is None else int((chosen & distrusted).sum()),
        )
    return found


def region_table(
    slices: list[dict[int, RegionSums]],
    *,
    names: Mapping[int, str],
    level: float,
    intervals: bool = True,
) -> list[Region]:
    """The regions of a scan in the order of their labels.

    The interval of a mean is mean +- t sd, sd^2 the mean over R replicas of the squared
    mean deviation, t the quantile of R degrees of freedom; where voxels err alone, sd^2
    = sum sigma^2 / n^2, t that of a Gaussian. It holds what the voxels' sigmas hold:
    errors that all of a scan's voxels share, as those of B1, are in no replica.

    Args:
        slices: `region_sums` of each slice, replicas in the same order in all of them.
        names: Of regions by label; a label without a name gets "".
        level: What an interval is to cover, above 0 and below 1.
        intervals: False leaves them NaN: nothing is known of how voxels err.

    Raises:
        ValueError: A level outside (0, 1), or slices with and without replicas.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level}: expected one between 0 and 1")
    table = []
    for label in sorted({label for one in slices for label in one}):
        parts = [one[label] for one in slices if label in one]
        values = np.concatenate([part.values for part in parts])
        missing = sum(part.missing for part in parts)
        against = sum(part.distrusted for part in parts)
        row = (label, names.get(label, ""), len(values), missing, against)
        if not len(values):
            nothing = float("nan")
            table.append(Region(*row, nothing, nothing, nothing, nothing, 0.0))
            continue
        mean, median = float(values.mean()), float(np.median(values))
        alone = sum(part.variance for part in parts)
        sd, t, independent = _deviation(parts, alone, level)
        half = t * sd / len(values) if intervals else float("nan")
        kept = independent * len(values) if intervals else float("nan")
        q25, q75 = (float(q) for q in np.quantile(values, (0.25, 0.75)))
        table.append(
            Region(*row, mean, median, mean - half, mean + half, kept, q25, q75)
        )
    return table


def _deviation(
    parts: list[RegionSums], alone: float, level: float
) -> tuple[float, float, float]:
    """(sd of the sum, its t, share of voxels that count as independent)."""
    replicas = [part.deviations for part in parts]
    filled = [one for one in replicas if one is not None]
    if not filled:
        return alone**0.5, float(special.ndtri((1 + level) / 2)), 1.0
    if len(filled) != len(replicas):
        raise ValueError("slices with and without replicas: expected all of one kind")
    together = np.sum(filled, axis=0)
    variance = float(np.mean(np.square(together)))
    t = float(special.stdtrit(len(together), (1 + level) / 2))
    return variance**0.5, t, alone / variance if variance > 0 else 1.0
