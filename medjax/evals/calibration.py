"""Does sigma say how large the errors are? N voxels, K bins, L confidence levels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special, stats


class Calibration(NamedTuple):
    """Curves that show whether sigma says how large errors are."""

    sigma: Float[np.ndarray, "K"]  # RMS of sigma in bins of equal numbers of voxels
    error: Float[np.ndarray, "K"]  # RMS of the error in the same bins
    nominal: Float[np.ndarray, "L"]  # confidence levels
    observed: Float[np.ndarray, "L"]  # share of voxels inside the level's interval


def spearman(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]) -> float:
    """Correlation of ranks, from -1 to 1; ties share their mean rank.

    Args:
        x: One number for each of N voxels, in any unit; infinite ones have a rank.
        y: As many numbers, in any unit. Fewer than 2 voxels, an x or a y that does not
            vary, and a NaN in either give NaN.
    """
    rx, ry = stats.rankdata(x), stats.rankdata(y)
    if len(rx) < 2 or np.ptp(rx) == 0 or np.ptp(ry) == 0:
        return float("nan")
    return float(np.corrcoef(rx, ry)[0, 1])


def calibration(
    error: Float[np.ndarray, "N"], sigma: Float[np.ndarray, "N"], *, bins: int
) -> Calibration:
    """RMS error by sigma (Levi et al. 2020) and coverage by level (Kuleshov 2018).

    An interval of level p is |error| <= sqrt(2) erfinv(p) sigma. Levels 0.05 ... 0.95.

    Args:
        error: The error of each of N voxels, in any unit; its sign does not count. NaN
            counts as outside every interval and makes the error of its bin NaN.
        sigma: The standard deviation that was claimed, in the same unit, 0 or more and
            finite; with a negative one no voxel is inside an interval.
        bins: The voxels are sorted by sigma into so many bins of equal numbers, 1 or
            more, or N where there are fewer voxels. Without voxels there are no bins,
            and the coverage is NaN.

    Raises:
        ValueError: less than one bin, or errors and sigmas of different numbers.
    """
    if bins < 1 or len(error) != len(sigma):
        raise ValueError(
            f"bins {bins} of {len(error)} errors and {len(sigma)} sigmas: expected at "
            "least 1 bin, and as many sigmas as errors"
        )
    error = np.abs(np.asarray(error, np.float64))
    sigma = np.asarray(sigma, np.float64)
    bins = min(bins, len(sigma))
    parts = np.array_split(np.argsort(sigma, kind="stable"), bins) if bins else []
    nominal = np.linspace(0.05, 0.95, 19)
    half = np.sqrt(2) * special.erfinv(nominal)[:, None] * sigma
    return Calibration(
        sigma=np.array([np.sqrt(np.mean(sigma[part] ** 2)) for part in parts]),
        error=np.array([np.sqrt(np.mean(error[part] ** 2)) for part in parts]),
        nominal=nominal,
        observed=np.mean(error <= half, axis=1) if bins else np.full(19, np.nan),
    )


def calibration_error(
    error: Float[np.ndarray, "N"], sigma: Float[np.ndarray, "N"]
) -> float:
    """Mean over levels of |observed coverage - nominal|, from 0 (calibrated) to 0.5.

    Args:
        error: Of N voxels, in any unit; its sign does not count. None of them: NaN.
        sigma: The standard deviation that was claimed, in the same unit, 0 or more.
    """
    curves = calibration(error, sigma, bins=1)
    return float(np.mean(np.abs(curves.observed - curves.nominal)))


def sparsification_error(
    error: Float[np.ndarray, "N"], sigma: Float[np.ndarray, "N"]
) -> float:
    """AUSE: how much worse sigma orders the errors than the errors themselves.

    The mean error of what is left after the k voxels of largest sigma are taken out, in
    units of the mean error of all, less the same with the k largest errors taken out;
    mean over k = 0 ... N - 1. 0 is a perfect order.

    Args:
        error: Of N voxels, in any unit; its sign does not count. Without voxels, or
            where all errors are 0, the result is NaN.
        sigma: In any unit, since only its order counts; equal sigmas count as in
            random order.
    """
    error = np.abs(np.asarray(error, np.float64))
    if not len(error) or not error.any():
        return float("nan")
    _, tied = np.unique(sigma, return_inverse=True)
    tied = tied.reshape(-1)
    expected = np.bincount(tied, weights=error) / np.bincount(tied)
    left = np.arange(1, len(error) + 1)
    ordered = np.cumsum(np.repeat(expected, np.bincount(tied))) / left
    oracle = np.cumsum(np.sort(error)) / left
    return float(np.mean(ordered - oracle) / np.mean(error))
