"""Numbers that maps are judged by, and what of them makes the maps doubtful."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.mri.fit import FitStatus
from medjax.mri.residuals import ContrastSums, even_odd_misfit
from medjax.mri.signals import SignalModel
from medjax.recipes.qmri.choice import shown_parameter
from medjax.recipes.qmri.evidence import Fitted
from medjax.recipes.qmri.floor import FOUND, Floor
from medjax.recipes.qmri.moved import NOTED, WAY, distances

LEVELS = {int(s): s.name.lower().replace("_", " ") for s in FitStatus}
FAILED = int(FitStatus.NOT_CONVERGED)  # and all codes above
# Of the voxels with signal, failed or at a bound. Of sound scans at SNR 10 a tenth are
# at a bound (fluid, and what noise makes of the faint), so a tenth is no reason.
MANY = 0.2
MISFIT = 0.02  # mean residual of a contrast, as a share of the mean signal
BENT = 0.05  # the same of undersampled k-space: aliasing and priors bend signals
ERRORS = 5.0  # standard errors of that mean
REACHED = (-0.1, 1.2)  # of an inversion's efficiency, 0 to 1, with room for noise
# s: of tissue, fluid and phantoms; T2 has bounds of its own as close as these
PLAUSIBLE = {"t1": (0.02, 6.0)}
STRAY = 0.02  # of the slices: as many by themselves are errors of the estimate
SATURATED = 1e-3  # of the voxels with signal
CLIPPED = 0.05
FLOOR = 0.05  # samples of magnitudes below two noise levels
TURNS = 0.01  # of the signal, by which echoes alternate
LOUD = 2.0  # residuals above so many known noise levels


class SliceMaps(NamedTuple):
    """What the summary and the figures need of one slice."""

    value: Float[np.ndarray, "H W"]  # s
    sigma: Float[np.ndarray, "H W"]  # s
    r_squared: Float[np.ndarray, "H W"]
    status: Int[np.ndarray, "H W"]
    bright: Bool[np.ndarray, "H W"]
    sums: ContrastSums
    shift: Float[np.ndarray, "E 2"]  # pixels
    saturated: int = 0  # voxels
    clipped: int = 0
    efficiency: Float[np.ndarray, "H W"] | None = None  # of an inversion


class Known(NamedTuple):
    """What maps are held against."""

    model: SignalModel
    bounds: tuple[float, float]  # s
    repetition: float | None = None  # s, the shortest where images differ
    floor: Floor = Floor()  # its level in the unit of the sums
    registered: bool = False  # whether contrasts were brought together
    full: bool = True  # nothing is missing: images, or fully sampled k-space


class Residuals(NamedTuple):
    """What a fit leaves by contrast, over the voxels with signal."""

    share: list[float]  # mean residual, as a share of the mean signal over contrasts
    errors: list[float]  # the same in standard errors
    over_noise: float | None  # residuals' RMS in known noise levels
    faint: float  # share of samples below two noise levels, beyond that of the best
    alternation: float  # even against odd contrasts: see `even_odd_misfit`
    alternation_errors: float  # the same in standard errors


class Summary(NamedTuple):
    """Numbers over the voxels with signal; None where there is none."""

    parameter: str  # of the maps
    voxels: int
    median_ms: float | None
    quartiles_ms: tuple[float | None, float | None]
    median_sigma_ms: float | None
    median_r_squared: float | None
    share_at_bounds: float  # 0 to 1
    failed: int  # voxels
    share_failed: float  # 0 to 1
    status: dict[str, int]  # voxels
    saturated: int  # voxels with samples left out for it
    clipped: int  # likewise
    motion: list[float]  # by contrast: pixels off the strongest one, at most
    moved_slices: list[int]  # by more than half a pixel, where it is not one of many
    slices_without_signal: list[int]
    residual: Residuals | None
    not_inverted: float | None = None  # 0 to 1: efficiencies far from 0 to 1


def slice_maps(fitted: Fitted, model: SignalModel) -> SliceMaps:
    """What the summary needs of a slice."""
    maps, name = fitted.maps, shown_parameter(model)
    return SliceMaps(
        np.asarray(maps.params[name]),
        np.asarray(maps.sigma[name]),
        np.asarray(maps.r_squared),
        np.asarray(maps.status),
        np.asarray(fitted.bright),
        fitted.sums,
        np.asarray(fitted.shift),
        int(fitted.saturated),
        int(fitted.clipped),
        np.asarray(maps.params["efficiency"]) if _inverts(model) else None,
    )


def _outside(reached: Float[np.ndarray, "N"]) -> float | None:
    """Share of efficiencies that are none; None where there are none."""
    low, high = REACHED
    return float(np.mean((reached < low) | (reached > high))) if reached.size else None


def _inverts(model: SignalModel) -> bool:
    """Whether it has the share of an inversion that was reached as a parameter."""
    return "efficiency" in model.parameters


def summarise(slices: Sequence[SliceMaps], known: Known) -> Summary:
    """What was found, over all voxels with signal.

    Args:
        slices: Every slice of the scan, in order, at least one.
        known: The model, whose `shown_parameter` is judged, and what else is known.
    """
    value, sigma, r_squared, status = (
        np.concatenate([getattr(one, name)[one.bright] for one in slices])
        for name in ("value", "sigma", "r_squared", "status")
    )
    reached = np.concatenate(
        [x.efficiency[x.bright] for x in slices if x.efficiency is not None] or [[]]
    )
    times = 1e3 * value[np.isfinite(value)]
    errors = 1e3 * sigma[np.isfinite(sigma)]

    def quantile(x: np.ndarray, q: float) -> float | None:
        return float(np.quantile(x, q)) if x.size else None

    count = int(status.size)
    moved = [
        z for z, one in enumerate(slices) if (distances([one.shift]) > NOTED).any()
    ]
    failed, bound = status >= FAILED, status == FitStatus.AT_BOUND
    return Summary(
        parameter=shown_parameter(known.model),
        voxels=count,
        median_ms=quantile(times, 0.5),
        quartiles_ms=(quantile(times, 0.25), quantile(times, 0.75)),
        median_sigma_ms=quantile(errors, 0.5),
        median_r_squared=quantile(r_squared[np.isfinite(r_squared)], 0.5),
        share_at_bounds=float(np.mean(bound)) if count else 0.0,
        failed=int(failed.sum()),
        share_failed=float(np.mean(failed)) if count else 0.0,
        status={LEVELS[c]: int((status == c).sum()) for c in LEVELS},
        saturated=sum(one.saturated for one in slices),
        clipped=sum(one.clipped for one in slices),
        motion=distances([one.shift for one in slices]).tolist(),
        moved_slices=moved if len(moved) > STRAY * len(slices) else [],
        slices_without_signal=empty_slices(slices),
        residual=_residuals([one.sums for one in slices], known),
        not_inverted=_outside(reached[np.isfinite(reached)]),
    )


def _residuals(sums: Sequence[ContrastSums], known: Known) -> Residuals | None:
    """What is left by contrast, and in all against the noise."""
    count, signal, residual, square, faint = (
        np.sum([getattr(one, name) for one in sums], axis=0, dtype=np.float64)
        for name in ContrastSums._fields
    )
    level = float(np.mean(signal))
    if not count or not level:
        return None
    mean = residual / count
    # What rounding leaves is no residual: float32 holds 7 digits, and a fit loses one.
    spread = np.sqrt(np.maximum(square / count - mean**2, 0)) + 1e-6 * level / count
    free = len(residual) - len(known.model.parameters)
    over = None
    if known.floor.level and known.floor.source != FOUND and free > 0:
        over = float(np.sqrt(np.sum(square) / (count * free)) / known.floor.level)
    errors = mean / spread * np.sqrt(count)
    # Voxels of the background that count as bright are faint in every contrast.
    low = float(np.mean(faint - np.min(faint)) / count)
    total = ContrastSums(count, signal, residual, square, count)
    turn, error = (float(x) for x in even_odd_misfit(jax.tree.map(jnp.asarray, total)))
    share = (residual / level).tolist()
    error += 1e-6  # of rounding
    return Residuals(share, errors.tolist(), over, low, turn, turn / error)


def doubts(summary: Summary, known: Known) -> list[str]:
    """What makes the maps of a summary doubtful, a line each; [] for none.

    A low R^2 is no reason: noise alone makes one, and T2 of 80 ms at SNR 10 is fitted
    rightly with .8.

    Args:
        summary: As `summarise` gives it.
        known: As it was given to `summarise`.
    """
    lines = []
    if summary.slices_without_signal:
        lines.append(
            f"slices without signal: {ranges(summary.slices_without_signal)}; "
            "k-space, images or sensitivities are 0 there, maps are NaN"
        )
    if summary.median_ms is None:
        return [*lines, "no voxel could be fitted"]
    shares = {
        "could not be fitted": summary.share_failed,
        "lie at a bound": summary.share_at_bounds,
    }
    for what, share in shares.items():
        if share > MANY:
            lines.append(
                f"{100 * share:.0f} % of the voxels with signal {what}: see "
                "status.nii.gz; are times, contrast and model those of the scan?"
            )
    lines += _no_samples(summary)
    if summary.moved_slices and not known.registered:
        far = np.flatnonzero(np.array(summary.motion) > NOTED).tolist()
        lines.append(
            f"contrasts {ranges(far)} lie up to {max(summary.motion):.1f} pixels from "
            f"the strongest one, in slices {ranges(summary.moved_slices)}; "
            + (WAY if known.full else "edges are wrong there")
        )
    lines += _implausible(summary, known)
    if summary.median_sigma_ms is None:
        lines.append("no voxel has a sigma: the maps are without error bars")
    return lines


def _no_samples(summary: Summary) -> list[str]:
    """Voxels of which values were left out."""
    lines, voxels = [], summary.voxels
    if summary.saturated > SATURATED * voxels:
        lines.append(
            f"{summary.saturated} voxels are at the largest value that the images "
            "hold: saturated. These samples are left out; export the images with "
            "another scaling"
        )
    if summary.clipped > CLIPPED * voxels:
        lines.append(
            f"{summary.clipped} of {voxels} voxels with signal are clipped to 0, or to "
            "the background's value, in some contrasts. These samples are left out; "
            "what noise leaves above the clipping level may still lengthen times"
        )
    return lines


def _implausible(summary: Summary, known: Known) -> list[str]:
    """A fit that is not that of the scan, by what it leaves and what it finds."""
    lines, name, median = [], summary.parameter, summary.median_ms or 0.0
    for bound in known.bounds:
        if abs(median / (1e3 * bound) - 1) < 1e-3:
            lines.append(f"the median of {name} is its bound, {1e3 * bound:g} ms")
    low, high = PLAUSIBLE.get(name, (0.0, np.inf))
    if not 1e3 * low <= median <= 1e3 * high:
        lines.append(
            f"the median of {name}, {median:.0f} ms, is of no tissue or fluid, "
            f"{1e3 * low:g} to {1e3 * high:g} ms: are times, angles and repetition "
            "time those of the scan, in seconds and degrees?"
        )
    if summary.not_inverted is not None and summary.not_inverted > 0.5:
        lines.append(
            f"{100 * summary.not_inverted:.0f} % of the voxels have an efficiency of "
            "the inversion that is not 0 to 1: the signals do not recover from an "
            "inversion. Are the times inversion times, and in the order of the images?"
        )
    if summary.residual is not None:
        lines += _misfit(summary.residual, known)
    if known.repetition and name.startswith("t2") and median > 1e3 * known.repetition:
        lines.append(
            f"the median of {name}, {median:.0f} ms, is above the repetition time, "
            f"{1e3 * known.repetition:g} ms"
        )
    return lines


def _misfit(found: Residuals, known: Known) -> list[str]:
    """Residuals that have a mean, or are above the noise."""
    lines = []
    limit = MISFIT if known.full else BENT
    large, sure = np.abs(found.share) > limit, np.abs(found.errors) > ERRORS
    wrong = np.flatnonzero(large & sure).tolist()
    if wrong:
        worst = max(wrong, key=lambda e: abs(found.share[e]))
        lines.append(
            f"{known.model.name} does not fit: contrasts {ranges(wrong)} differ from "
            f"it by up to {100 * found.share[worst]:+.1f} % of the mean signal "
            f"(contrast {worst}), and not by noise. Look at times, order, model "
            "(--config.predict.model), stimulated echoes, scaling and motion"
        )
    turns, sure = found.alternation, abs(found.alternation_errors) > ERRORS
    limit, name = TURNS if known.full else BENT, known.model.name
    if name in ("t2", "t2_offset") and abs(turns) > limit and sure:
        lines.append(
            f"even and odd echoes differ from {name} in turn, by {100 * turns:+.1f} % "
            "of the signal, as stimulated echoes do, which make T2 too long. Of a "
            "spin-echo train say --config.predict.model=t2_epg, or leave the first "
            "echo out by predict.skip=1, which mends a part"
        )
    floor = known.floor
    if floor.way and not floor.coils and found.faint > FLOOR:
        where = f"{floor.level:.4g} by {floor.source}" if floor.source else "unknown"
        lines.append(
            f"{100 * found.faint:.0f} % of the samples are below twice the noise (its "
            f"level is {where}), where magnitudes are not 0: {known.model.name} comes "
            f"out too long. {floor.way}"
        )
    if found.over_noise is not None and found.over_noise > LOUD:
        lines.append(
            f"residuals are {found.over_noise:.1f} times the known noise: the model is "
            "not that of the scan, or the noise level has another unit or bandwidth"
        )
    return lines


def empty_slices(slices: Sequence[SliceMaps]) -> list[int]:
    """Indices of slices where no voxel has a signal."""
    nothing = FitStatus.NO_SIGNAL
    return [z for z, one in enumerate(slices) if (one.status == nothing).all()]


def ranges(indices: Sequence[int]) -> str:
    """Rising indices in words: `[0, 1, 2, 7]` becomes `0 to 2, 7`."""
    parts: list[list[int]] = []
    for n in indices:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)
