"""Numbers that the maps of a scan are judged by: over the voxels with signal."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.mri.fit import FitStatus
from medjax.mri.model import SignalModel
from medjax.mri.residuals import ContrastSums, even_odd_misfit
from medjax.recipes.qmri.choice import shown_parameter
from medjax.recipes.qmri.evidence import Fitted
from medjax.recipes.qmri.floor import FOUND, Floor
from medjax.recipes.qmri.moved import NOTED, distances

LEVELS = {int(s): s.name.lower().replace("_", " ") for s in FitStatus}
FAILED = int(FitStatus.NOT_CONVERGED)  # and all codes above
REACHED = (-0.1, 1.2)  # of an inversion's efficiency, 0 to 1, with room for noise
STRAY = 0.02  # of the slices: as many by themselves are errors of the estimate


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
    half_width: Float[np.ndarray, "H W"] | None = None  # s, of a posterior's interval
    distrust: Int[np.ndarray, "H W"] | None = None  # likewise


class Known(NamedTuple):
    """What maps are held against."""

    model: SignalModel
    bounds: tuple[float, float]  # s
    repetition: float | None = None  # s, the shortest where images differ
    floor: Floor = Floor()  # its level in the unit of the sums
    registered: bool = False  # whether contrasts were brought together
    full: bool = True  # nothing is missing: images, or fully sampled k-space
    noted: float = NOTED  # pixels from which on motion is told of


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
    moved_slices: list[int]  # by more than `Known.noted`, where it is not one of many
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
        *_widths(fitted),
    )


def _widths(fitted: Fitted) -> tuple[np.ndarray | None, np.ndarray | None]:
    trusted = fitted.trusted
    if trusted is None:
        return None, None
    width = (np.asarray(trusted.high) - np.asarray(trusted.low)) / 2
    return width, np.asarray(trusted.distrust)


def _outside(reached: Float[np.ndarray, "N"]) -> float | None:
    """Share of efficiencies that are none; None where there are none."""
    low, high = REACHED
    inside = (reached >= low) & (reached <= high)  # no share of a signal of 0 is
    return float(np.mean(~inside)) if reached.size else None


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
    fitted = np.isfinite(value)
    times = 1e3 * value[fitted]
    errors = 1e3 * sigma[np.isfinite(sigma)]

    def quantile(x: np.ndarray, q: float) -> float | None:
        return float(np.quantile(x, q)) if x.size else None

    count = int(status.size)
    moved = [
        z
        for z, one in enumerate(slices)
        if (distances([one.shift]) > known.noted).any()
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
        not_inverted=_outside(reached[fitted] if reached.size else reached),
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
    turn, error = (float(x) for x in jax.jit(even_odd_misfit)(total))
    share = (residual / level).tolist()
    error += 1e-6  # of rounding
    return Residuals(share, errors.tolist(), over, low, turn, turn / error)


def empty_slices(slices: Sequence[SliceMaps]) -> list[int]:
    """Indices of slices where no voxel has a signal."""
    nothing = FitStatus.NO_SIGNAL
    return [z for z, one in enumerate(slices) if (one.status == nothing).all()]
