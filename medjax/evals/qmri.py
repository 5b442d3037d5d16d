"""Scores of relaxation-time maps and of their sigma, a slice at a time, and tables.

Host code in NumPy and SciPy; times in seconds, scores in milliseconds or per cent where
their name says so. NaN stands for a score that a slice cannot have (no CSF in it, no
sigma given), never for a failed voxel: those count with their whole error.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from medjax.evals.calibration import (
    calibration_error,
    sparsification_error,
    spearman,
)
from medjax.evals.tables import Table, group_intervals, interval_cell

WINDOW = 11  # pixels of the SSIM's window
# Score -> (column's head, decimals): what `method_table` shows, in this order.
COLUMNS = {
    "nrmse": ("NRMSE", 4),
    "ssim": ("SSIM", 4),
    "tissue_ms": ("tissue, ms", 2),
    "tissue_percent": ("tissue, %", 2),
    "csf_ms": ("CSF, ms", 1),
    "csf_percent": ("CSF, %", 2),
    "coverage": ("coverage", 3),
    "spearman": ("Spearman", 3),
    "calibration_error": ("ECE", 3),
    "ause": ("AUSE", 3),
    "failed": ("failed", 4),
}


def nrmse(
    estimate: Float[np.ndarray, "H W"], reference: Float[np.ndarray, "H W"]
) -> float:
    """sqrt(mean((T - Tref)^2) / mean(Tref^2)), as PUQ's authors score maps.

    Args:
        estimate: T, in any unit; a NaN in it makes the score NaN.
        reference: Tref, in the same unit, not 0 everywhere.
    """
    error = np.mean(np.square(estimate - reference, dtype=np.float64))
    return float(np.sqrt(error / np.mean(np.square(reference, dtype=np.float64))))


def ssim(
    estimate: Float[np.ndarray, "H W"],
    reference: Float[np.ndarray, "H W"],
    *,
    data_range: float,
) -> float:
    """Mean structural similarity (Wang et al. 2004) in uniform windows of 11 x 11.

    Sample covariances, K1 = 0.01, K2 = 0.03 and windows wholly inside the image, so
    equal to skimage.metrics.structural_similarity(win_size=11).

    Args:
        estimate: At least 11 x 11 pixels, in any unit; a NaN makes the score NaN.
        reference: Of the same shape and unit.
        data_range: The span of values that the constants are fractions of, above 0, in
            that unit.

    Raises:
        ValueError: An image smaller than the window.
    """
    x, y = np.asarray(estimate, np.float64), np.asarray(reference, np.float64)
    if min(x.shape) < WINDOW:
        raise ValueError(f"image {x.shape}: expected at least {WINDOW} x {WINDOW}")

    def mean(image: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(image, WINDOW)

    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mx, my = mean(x), mean(y)
    vx, vy, vxy = (
        unbiased * (mean(a * b) - ma * mb)
        for a, b, ma, mb in ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my))
    )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = ((2 * mx * my + c1) * (2 * vxy + c2)) / (
        (mx**2 + my**2 + c1) * (vx + vy + c2)
    )
    inside = WINDOW // 2
    return float(np.mean(similarity[inside:-inside, inside:-inside]))


def map_scores(
    estimate: Float[np.ndarray, "H W"],
    sigma: Float[np.ndarray, "H W"] | None,
    reference: Float[np.ndarray, "H W"],
    roi: Bool[np.ndarray, "H W"],
    *,
    limit: float,
    tissue_below: float,
    error_cap: float = float("inf"),
    interval: Float[np.ndarray, "2 H W"] | None = None,
) -> dict[str, float]:
    """Every score of one slice's map against its reference.

    The map is clipped to [0, limit] and set to 0 outside the region, as PUQ's authors
    do, for NRMSE and SSIM (data range: the largest reference). A voxel where the fit
    failed (not finite) counts as 0 there and in the errors in ms. Sigma is judged on
    the map as it came, where map and sigma are finite and the reference lies below the
    limit.

    Args:
        estimate: T1 or T2 in s; not finite where the fit failed.
        sigma: Its standard deviation in s; not finite where there is none, and such a
            voxel counts as failed. None where the method gives no sigma: what judges
            it is then NaN.
        reference: The truth in s, finite and above 0 inside the region; values above
            `limit` count as `limit`.
        roi: True for the voxels that count, at least one.
        limit: The largest value of a map in s (2 for T2, 5 for T1).
        tissue_below: A voxel is tissue where its reference is below this, in s (0.2
            for T2), and CSF elsewhere; a score of an empty class is NaN.
        error_cap: Absolute errors above this, in s, count as this; infinity caps none.
        interval: Both ends of a 95 % interval in s, lower first, whose coverage is then
            that of the scores; None takes 1.96 sigma on both sides. It is not read
            without a sigma.

    Returns:
        The keys of `COLUMNS`, and `tissue_median_percent`, `roi_ms`,
        `tissue_coverage`. Shares (coverage, failed) are from 0 to 1.

    Raises:
        ValueError: Shapes that differ, an empty region, a reference in it that is not
            finite and positive, or one that looks like ms instead of s.
    """
    _check(estimate, sigma, reference, roi, limit)
    if interval is not None and np.shape(interval) != (2, *np.shape(roi)):
        raise ValueError(
            f"interval {np.shape(interval)}: expected both ends, {(2, *np.shape(roi))}"
        )
    fitted = np.isfinite(estimate)
    reference = np.where(roi, np.clip(reference, 0, limit), 0).astype(np.float64)
    clipped = np.clip(np.where(roi & fitted, estimate, 0), 0, limit).astype(np.float64)
    error = np.minimum(np.abs(clipped - reference), error_cap)
    tissue, csf = roi & (reference < tissue_below), roi & (reference >= tissue_below)
    relative = error / np.where(roi, reference, 1)

    def mean(values: np.ndarray, where: np.ndarray) -> float:
        return float(np.mean(values[where])) if where.any() else float("nan")

    scores = {
        "nrmse": nrmse(clipped, reference),
        "ssim": ssim(clipped, reference, data_range=float(reference.max())),
        "roi_ms": 1e3 * mean(error, roi),
        "tissue_ms": 1e3 * mean(error, tissue),
        "tissue_percent": 100 * mean(relative, tissue),
        "tissue_median_percent": (
            100 * float(np.median(relative[tissue])) if tissue.any() else float("nan")
        ),
        "csf_ms": 1e3 * mean(error, csf),
        "csf_percent": 100 * mean(relative, csf),
        "failed": mean(~fitted, roi),
    }
    if sigma is None:
        names = ("coverage", "tissue_coverage", "spearman", "calibration_error", "ause")
        return scores | dict.fromkeys(names, float("nan"))
    judged = roi & fitted & np.isfinite(sigma) & (reference < limit)
    e, s = np.abs(estimate[judged] - reference[judged]), sigma[judged]
    covered = np.zeros(roi.shape, bool)
    if interval is None:
        covered[judged] = e <= 1.96 * s
    else:
        low, high = interval
        covered = judged & (low <= reference) & (reference <= high)
    return scores | {
        "coverage": mean(covered, judged),
        "tissue_coverage": mean(covered, judged & tissue),
        "spearman": spearman(s, e),
        "calibration_error": calibration_error(e, s),
        "ause": sparsification_error(e, s),
        "failed": mean(~(fitted & np.isfinite(sigma)), roi),
    }


def method_table(
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    subjects: Shaped[np.ndarray, "N"],
    *,
    title: str,
    num_samples: int,
    level: float,
    seed: int,
    columns: Sequence[str] = tuple(COLUMNS),
    intervals: bool = True,
) -> Table:
    """One row a method: means over slices, intervals over subjects.

    Columns that no method has are left out; with one subject there are no intervals.

    Args:
        scores: `map_scores` of the same N slices by method, in the order of
            `subjects`. NaN is left out of a mean.
        subjects: A name or number that says whose slice each of the N is. Slices of
            one subject are not independent, so intervals resample subjects.
        title: What was scored; the numbers of slices and subjects are added to it.
        num_samples: How many times the subjects are resampled, 1 or more.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Of the resampling; the same seed gives the same intervals.
        columns: Which keys of `COLUMNS` are shown, in this order.
        intervals: False shows the means alone.

    Raises:
        ValueError: A method with another number of slices than `subjects`.
    """
    for name, rows in scores.items():
        if len(rows) != len(subjects):
            raise ValueError(
                f"{name}: scores of {len(rows)} slices, expected {len(subjects)}; "
                "score every method on the same slices in the same order"
            )
    people = len(np.unique(subjects))
    intervals = intervals and people > 1
    means = {
        name: group_intervals(
            {key: np.array([row[key] for row in rows]) for key in columns},
            np.asarray(subjects),
            num_samples=num_samples,
            level=level,
            seed=seed,
        )
        for name, rows in scores.items()
    }
    shown = [
        key
        for key in columns
        if any(not np.isnan(row[key].value) for row in means.values())
    ]
    rows = tuple(
        (name,)
        + tuple(
            interval_cell(row[key], digits=COLUMNS[key][1], alone=not intervals)
            for key in shown
        )
        for name, row in means.items()
    )
    title = f"{title}: slices {len(subjects)}, subjects {people}"
    title += f", {100 * level:g} % intervals over subjects" * intervals
    return Table(title, ("", *(COLUMNS[key][0] for key in shown)), rows)


def _check(
    estimate: np.ndarray,
    sigma: np.ndarray | None,
    reference: np.ndarray,
    roi: np.ndarray,
    limit: float,
) -> None:
    shapes = {
        "estimate": np.shape(estimate),
        "sigma": np.shape(estimate if sigma is None else sigma),
        "reference": np.shape(reference),
        "roi": np.shape(roi),
    }
    if len(set(shapes.values())) > 1 or len(shapes["roi"]) != 2:
        raise ValueError(f"shapes {shapes}: expected one [H, W] for all")
    if roi.dtype != bool or not roi.any():
        raise ValueError("roi: expected booleans, at least one of them true")
    inside = reference[roi]
    if not np.all(np.isfinite(inside) & (inside > 0)):
        raise ValueError(
            "reference: expected finite times above 0 inside the region; take voxels "
            "without a reference out of it"
        )
    if np.median(inside) > 10 * limit:
        raise ValueError(
            f"reference: median {np.median(inside):g} s against a limit of {limit:g} "
            "s; expected seconds, these look like milliseconds"
        )
