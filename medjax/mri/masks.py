"""Undersampling masks of centred k-space, drawn on the host (NumPy) from a seed."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.checks import check_arrays, check_integers, check_ranges

_SEED_RANGE = 0xFFFFFF  # the authors draw the contrasts' seeds from it
_BISECTIONS = 12


def undersampling_mask(
    kind: str,
    *,
    seed: int,
    contrasts: int,
    size: tuple[int, int],
    acceleration: float,
    center_fraction: float,
) -> Bool[np.ndarray, "E #H W"]:
    """Another mask for every contrast, each of exactly int(points / acceleration).

    ===========  ==========  ======================================================
    kind         shape       samples beside the fully sampled centre
    ===========  ==========  ======================================================
    random       [E, 1, W]   columns, uniformly without replacement; PUQ's own rule
    equispaced   [E, 1, W]   columns at equal distances, shifted from contrast to
                             contrast so that together they cover most
    poisson      [E, H, W]   points no closer than a distance that grows linearly
                             from the centre (variable-density Poisson disc)
    ===========  ==========  ======================================================

    Args:
        kind: "random", "equispaced" or "poisson", see the table.
        seed: An integer of at least 0. The same seed gives the same masks on every
            machine: it makes a seed for each contrast, which draws that contrast's
            mask, so that the first of more contrasts are the same ones ("random" and
            "poisson").
        contrasts: How many masks E to draw, at least 1.
        size: (rows, columns) of k-space, at least 1 each.
        acceleration: R, a finite number of at least 1 (every point is sampled). The
            `points` are W columns, or H x W points for "poisson". The centre counts
            among the samples, so that points / samples is R but for the rounding down.
        center_fraction: The share of the columns (of the rows and of the columns for
            "poisson") that the fully sampled centre has, 0 to 1, rounded to whole ones;
            the authors take 0.08. With 0 there is no centre, and nothing makes sure
            that the very centre is sampled.

    Returns:
        True where centred k-space, whose origin stands at [H // 2, W // 2], is sampled;
        a NumPy array of bool.

    Raises:
        ValueError: an unknown kind, a number out of its range, no sample at all, or
            fewer samples than the centre alone has.

    Source: "random" is the code of PUQ's authors (fastMRI's rule, but with an exact
    count), and gives their masks number by number where W is even.
    """
    if kind not in ("random", "equispaced", "poisson"):
        raise ValueError(
            f"undersampling_mask: kind: expected 'random', 'equispaced' or 'poisson', "
            f"found {kind!r}"
        )
    check_integers(
        "undersampling_mask", seed=(seed, 0, None), contrasts=(contrasts, 1, None)
    )
    for side in size:
        check_integers("undersampling_mask", size=(side, 1, None))
    if not 1 <= acceleration < np.inf:
        raise ValueError(
            "undersampling_mask: acceleration: expected a finite number of at least "
            f"1, found {acceleration}"
        )
    if not 0 <= center_fraction <= 1:
        raise ValueError(
            "undersampling_mask: center_fraction: expected 0 to 1, found "
            f"{center_fraction}"
        )
    height, width = size
    seeds = np.random.default_rng(seed).choice(_SEED_RANGE, contrasts)
    columns = _center(width, center_fraction)
    if kind == "poisson":
        center = _center(height, center_fraction)[:, None] & columns
    else:
        center = columns[None, :]
    samples = int(center.size / acceleration)
    others = samples - int(center.sum())
    if others < 0 or samples == 0:
        raise ValueError(
            f"undersampling_mask: acceleration {acceleration} leaves {samples} of "
            f"{center.size} samples a contrast, {int(center.sum())} of them for the "
            "centre: lower acceleration or center_fraction"
        )
    if kind == "random":
        masks = [_random(center, others, s) for s in seeds]
    elif kind == "equispaced":
        offset = np.random.default_rng(seeds[0]).random()
        shifts = (offset + np.arange(contrasts) / contrasts) % 1
        masks = [_equispaced(center, others, shift) for shift in shifts]
    else:
        distance = _distance(height, width)
        slope = _fitting_slope(distance, center, others, seeds[0])
        masks = [_poisson(distance, center, others, slope, s) for s in seeds]
    return np.stack(masks)


def calibration_size(
    mask: Bool[np.ndarray, "*B E #H #W"], *, size: tuple[int, int], limit: int
) -> tuple[int, int]:
    """(h, w) of the largest fully sampled centre block, sides at most `limit`.

    Fully sampled in every contrast (and slice). The block starts at row H // 2 - h // 2
    and column W // 2 - w // 2. Its sides grow in turn, by one each, rows first, until
    neither can: among blocks of different shapes it is one that cannot grow.

    Args:
        mask: Booleans, or integers of which all but 0 count as 1: 1 where centred
            k-space is sampled, [.., E, 1, W] for whole columns. At least one contrast.
        size: (H, W) of k-space, which a mask of whole columns does not know; at least 1
            each.
        limit: The longest side to return, in points of k-space, any number but NaN;
            below 1 it counts as 1.

    Returns:
        Two Python integers, at least 1: what `estimate_sensitivities` takes as
        `calibration`.

    Raises:
        ValueError: the very centre is not sampled in every contrast; a mask of floats,
            without a contrast, or of another size; a limit of NaN.
    """
    check_ranges("calibration_size", limit=(limit, -math.inf, math.inf))
    for side in size:
        check_integers("calibration_size", size=(side, 1, None))
    mask = np.asarray(mask)
    check_arrays("calibration_size", mask=(mask, "... _ _ _", (bool, int)))
    fits = all(n in (1, m) for n, m in zip(mask.shape[-2:], size, strict=True))
    if not fits or 0 in mask.shape:
        raise ValueError(
            "calibration_size: mask: expected [.., E, H, W] or [.., E, 1, W] with E of "
            f"at least 1 and H, W = {tuple(size)}, found {mask.shape}"
        )
    every = mask.astype(bool).reshape(-1, *mask.shape[-2:]).all(axis=0)
    every = np.broadcast_to(every, size)

    def full(h: int, w: int) -> bool:
        top, left = size[0] // 2 - h // 2, size[1] // 2 - w // 2
        return bool(every[top : top + h, left : left + w].all())

    best = [1, 1]
    if not full(1, 1):
        raise ValueError(
            "calibration_size: the centre of k-space is not sampled in every contrast: "
            "sensitivities cannot be estimated from these data; give them"
        )
    growing = [True, True]
    while any(growing):
        for axis in (0, 1):
            larger = [side + (i == axis) for i, side in enumerate(best)]
            growing[axis] = larger[axis] <= min(limit, size[axis]) and full(*larger)
            best = larger if growing[axis] else best
    return best[0], best[1]


def _center(points: int, fraction: float) -> Bool[np.ndarray, "W"]:
    """The authors' centre block; it holds the centre points // 2."""
    low = round(points * fraction)
    start = (points - low + 1) // 2
    index = np.arange(points)
    return (index >= start) & (index < start + low)


def _random(
    center: Bool[np.ndarray, "1 W"], others: int, seed: int
) -> Bool[np.ndarray, "1 W"]:
    rest = np.flatnonzero(~center)
    mask = center.copy()
    mask[0, np.random.default_rng(seed).choice(rest, others, replace=False)] = True
    return mask


def _equispaced(
    center: Bool[np.ndarray, "1 W"], others: int, shift: float
) -> Bool[np.ndarray, "1 W"]:
    """Every (rest / others)-th of the lines outside the centre; 0 <= shift < 1."""
    rest = np.flatnonzero(~center)
    mask = center.copy()
    if others:
        place = np.floor((np.arange(others) + shift) * (rest.size / others))
        mask[0, rest[place.astype(np.int64)]] = True
    return mask


def _distance(height: int, width: int) -> Float[np.ndarray, "H W"]:
    """From the centre of k-space; 1 in the middle of an edge."""
    rows = (np.arange(height) - height // 2) / max(height / 2, 1)
    cols = (np.arange(width) - width // 2) / max(width / 2, 1)
    return np.hypot(rows[:, None], cols)


def _fitting_slope(
    distance: Float[np.ndarray, "H W"],
    center: Bool[np.ndarray, "H W"],
    others: int,
    seed: int,
) -> float:
    """The steepest growth of the distance at which enough points still fit."""
    low, high = 0.0, float(max(distance.shape))
    for _ in range(_BISECTIONS):
        slope = (low + high) / 2
        enough = _disc(distance, center, slope, seed).size >= others
        low, high = (slope, high) if enough else (low, slope)
    return low


def _poisson(
    distance: Float[np.ndarray, "H W"],
    center: Bool[np.ndarray, "H W"],
    others: int,
    slope: float,
    seed: int,
) -> Bool[np.ndarray, "H W"]:
    """As many points as asked; each contrast's own random order finds a few more."""
    points = _disc(distance, center, slope, seed)
    while points.size < others:
        slope *= 0.97
        points = _disc(distance, center, slope, seed)
    keep = np.random.default_rng([seed, 1]).choice(points, others, replace=False)
    mask = center.copy()
    mask.flat[keep] = True
    return mask


def _disc(
    distance: Float[np.ndarray, "H W"],
    center: Bool[np.ndarray, "H W"],
    slope: float,
    seed: int,
) -> Int[np.ndarray, "N"]:
    """Points in random order, each unless one before it lies within that one's radius.

    The radius is max(1, slope * distance) pixels; the centre block excludes nobody.
    """
    height, width = distance.shape
    radius = np.maximum(slope * distance, 1.0)
    free = ~center
    found = []
    for point in np.random.default_rng(seed).permutation(distance.size):
        row, col = divmod(int(point), width)
        if not free[row, col]:
            continue
        found.append(point)
        reach = int(radius[row, col])
        rows = np.arange(max(row - reach, 0), min(row + reach + 1, height))
        cols = np.arange(max(col - reach, 0), min(col + reach + 1, width))
        near = np.hypot(rows[:, None] - row, cols - col) < radius[row, col]
        free[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] &= ~near
    return np.asarray(found, np.int64)
