"""A scan's slices fitted one after the other, a slab of them at a time."""

import contextlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jaxtyping import Float

from medjax.data.scans.formats import Scan, ScanSlice
from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.signals import SignalModel
from medjax.recipes.qmri.slices import image_unit, make_slab, prepare_slice
from medjax.runtime.progress import progress
from medjax.types import QmriBatch


def fitted_slices(
    scan: Scan,
    compute: Callable[[QmriBatch], FitResult],
    model: SignalModel,
    positive: int | None,
    slab: int,
) -> Iterator[FitResult]:
    """Fitted slices in order; what is in memory is a slab. Empty ones are not fitted.

    Args:
        scan: to be read.
        compute: of a slab, compiled.
        model: of the fit.
        positive: contrast that has no negative signal; None where no contrast has.
        slab: slices in it.

    Raises:
        ValueError: a slice that cannot be reconstructed; names it.
    """
    compiled = False
    with progress("maps", first=0, total=scan.num_slices, show=()) as report:
        for first in range(0, scan.num_slices, slab):
            indices = range(first, min(first + slab, scan.num_slices))
            read = {index: _read(scan, index, positive) for index in indices}
            filled = {i: found for i, (found, _) in read.items() if not found.empty}
            fitted = None
            if filled:
                batch = make_slab(filled, slab)
                busy = report.busy(f"compiling for slabs of {slab}")
                with contextlib.nullcontext() if compiled else busy:
                    fitted = jax.device_get(compute(batch))
                compiled = True
            rows = list(filled)
            for index, (_, unit) in read.items():
                if index in filled:
                    row = rows.index(index)
                    maps = jax.tree.map(lambda x, row=row: x[row], fitted)
                    yield _in_unit(maps, model, unit)
                else:
                    yield empty_maps(model, scan.shape)
            report.step(indices[-1] + 1, {})


def _read(
    scan: Scan, index: int, positive: int | None
) -> tuple[ScanSlice, Float[np.ndarray, "..."]]:
    """A slice ready to be reconstructed, and the unit of its images."""
    found = scan.read(index)
    if found.empty:
        return found, np.ones((), np.float32)
    try:
        prepared = prepare_slice(found, positive=positive)
    except ValueError as error:
        raise ValueError(f"{scan.path.name}, slice {index}: {error}") from error
    return prepared, image_unit(found, prepared)


def _in_unit(
    maps: FitResult, model: SignalModel, unit: Float[np.ndarray, "..."]
) -> FitResult:
    """Amplitudes and the residual in the unit of the file's images."""
    factors = {
        name: unit if of == "image" else np.ones((), np.float32)
        for name, of in zip(model.parameters, model.units, strict=True)
    }
    return maps._replace(
        params={name: x * factors[name] for name, x in maps.params.items()},
        sigma={name: x * factors[name] for name, x in maps.sigma.items()},
        residual=maps.residual * unit,
    )


def empty_maps(model: SignalModel, shape: tuple[int, int]) -> FitResult:
    """What `fit_map` finds in a slice that is 0: NaN, and nowhere a signal."""
    nothing = np.full(shape, np.nan, np.float32)
    each = dict.fromkeys(model.parameters, nothing)
    status = np.full(shape, FitStatus.NO_SIGNAL, np.int8)
    return FitResult(each, each, nothing, nothing, status)
