"""A scan's slices made ready and fitted in order, a slab of them at a time.

Ready means: white coils, sensitivities, and the object's phase inside of them.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from medjax.data.scans.formats import Scan, ScanSlice
from medjax.mri.espirit import estimate_sensitivities, noise_share
from medjax.mri.fit import FitResult
from medjax.mri.masks import calibration_size
from medjax.mri.model import SignalModel
from medjax.mri.noise import noise_covariance, whitening_matrix
from medjax.mri.phase import phase_misfit, smooth_phase
from medjax.mri.sense import mix_coils, normalize_sensitivities, root_sum_of_squares
from medjax.recipes.qmri.evidence import Fitted, empty_slice
from medjax.recipes.qmri.sampled import Marked, count_marked, mark_samples
from medjax.runtime.progress import Progress, progress
from medjax.types import QmriBatch

CALIBRATION, KERNEL = 24, 6  # of ESPIRiT: its block at most, its patches
THRESHOLD, MOST = 0.02, 0.5  # of singular values: the least, whatever noise reaches
CROP = 0.8  # of ESPIRiT too: the least eigenvalue inside of the object
COILS = 3  # of fewer, noise can't be told from signal in the calibration
# sin^2 of an angle that takes 1 % of a real part: less moves T2 and T1 by less
MISFIT = 0.02


def fitted_slices(
    scan: Scan,
    compute: Callable[[QmriBatch], Fitted],
    model: SignalModel,
    positive: int | None,
    slab: int,
    *,
    apart: list[int] | None = None,
    whole: bool = False,
) -> Iterator[Fitted]:
    """Fitted slices in order; two slabs are in memory. Empty slices are not fitted.

    Args:
        scan: Its slices are read when their slab's turn comes.
        compute: Maps of a slab, compiled; every slab has the same size.
        model: The signal model that `compute` fits.
        positive: The contrast that has no negative signal; None where no contrast has.
        slab: How many slices are computed at once, 1 or more, while as many are read;
            the last slab is filled up with copies.
        apart: Gets the indices of the slices whose contrasts differ in phase; None does
            not look.
        whole: Whether `compute` takes nothing to be missing in any slice.

    Raises:
        ValueError: A slice cannot be reconstructed, or lacks what none may lack; the
            message names it.
    """
    with progress("maps", first=0, total=scan.num_slices, show=()) as report:
        begun = _begun(scan, compute, model, positive, slab, apart, whole, report)
        for one in _next_begun(begun):
            fitted, rows = jax.device_get(one.fitted), list(one.filled)
            for index, unit in one.units.items():
                if index in rows:
                    row = rows.index(index)
                    found = jax.tree.map(lambda x, row=row: x[row], fitted)
                    found = found._replace(maps=_in_unit(found.maps, model, unit))
                    yield count_marked(found, one.filled[index])
                else:
                    yield empty_slice(model, scan.shape, len(scan.times))
            report.step(max(one.units) + 1, {})


def check_whole(scan: Scan, index: int, found: ScanSlice) -> None:
    """Refuse a slice of k-space that lacks samples beside slices that lack none.

    Args:
        scan: Named in the message.
        index: Of the slice, from 0.
        found: The slice; images and empty ones pass.

    Raises:
        ValueError: Something is missing.
    """
    if found.empty or found.kspace is None or found.mask is None or found.mask.all():
        return
    missing = 100 * float(np.mean(~np.asarray(found.mask)))
    raise ValueError(
        f"{scan.path}, slice {index}: {missing:.0f} % of k-space is not sampled, but "
        "the first slice with signal is fully sampled; expected slices of one "
        "sampling. Say a --config.predict.method for all of them, or hand in the "
        "fully sampled ones alone"
    )


class _Begun(NamedTuple):
    """A slab whose maps are being computed."""

    units: dict[int, Float[np.ndarray, "..."]]  # of its slices' images, by index
    filled: dict[int, Marked | None]  # what is left out of those that are not empty
    fitted: Fitted | None  # None where all are


def _next_begun(begun: Iterator[_Begun]) -> Iterator[_Begun]:
    """Each slab, one or more, when the next one is read and its fit has begun."""
    waiting = next(begun)
    for following in begun:
        yield waiting
        waiting = following
    yield waiting


def _begun(
    scan: Scan,
    compute: Callable[[QmriBatch], Fitted],
    model: SignalModel,
    positive: int | None,
    slab: int,
    apart: list[int] | None,
    whole: bool,
    report: Progress,
) -> Iterator[_Begun]:
    """Slabs in order, each read and handed to `compute`, which compiles the first."""
    compiled = False
    for first in range(0, scan.num_slices, slab):
        indices = range(first, min(first + slab, scan.num_slices))
        read = {i: read_slice(scan, i, positive=positive) for i in indices}
        filled = {i: ready for i, (ready, _) in read.items() if not ready.empty}
        for index, ready in filled.items() if whole else ():
            check_whole(scan, index, ready)
        marked = {i: mark_samples(x, scan.times, model) for i, x in filled.items()}
        filled |= {i: one.ready for i, one in marked.items() if one is not None}
        for index, ready in filled.items():
            if apart is not None:
                misfit = slice_misfit(ready, signed=positive is not None)
                apart.extend([index] if misfit and misfit > MISFIT else ())
        fitted = None
        if filled:
            batch = make_slab(filled, slab)
            busy = report.busy(f"compiling for slabs of {slab}")
            with contextlib.nullcontext() if compiled else busy:
                fitted = compute(batch)
            compiled = True
        yield _Begun({i: unit for i, (_, unit) in read.items()}, marked, fitted)


def read_slice(
    scan: Scan, index: int, *, positive: int | None
) -> tuple[ScanSlice, Float[np.ndarray, "..."]]:
    """A slice ready to be reconstructed, and the unit of its images.

    Args:
        scan: Where the slice is read.
        index: Which one, from 0.
        positive: The contrast whose phase goes into the sensitivities; None for that of
            the sum.

    Raises:
        ValueError: The slice cannot be made ready; the message names it.
    """
    measured = scan.read(index)
    if measured.empty:
        return measured, np.ones((), np.float32)
    try:
        prepared = prepare_slice(measured, positive=positive)
    except ValueError as error:
        raise ValueError(f"{scan.path.name}, slice {index}: {error}") from error
    return prepared, image_unit(measured, prepared)


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


def slice_misfit(ready: ScanSlice, *, signed: bool) -> float | None:
    """The largest share of a contrast's energy that is not in phase, beyond noise.

    More than `MISFIT` is a phase of its own; None where no contrast can be told, for
    images and where the fully sampled centre is too small.

    Args:
        ready: Of `read_slice`, the phase that contrasts share inside its sensitivities.
        signed: Whether contrasts may be negative.
    """
    width = centre_width(ready)
    if ready.kspace is None or width < KERNEL:
        return None
    found = _misfit(ready.kspace, ready.sens, ready.mask, width, signed)
    return float(np.max(np.asarray(found.share) - np.asarray(found.noise)))


def centre_width(measured: ScanSlice) -> int:
    """Width of the fully sampled centre, at most `CALIBRATION`; 0 without one."""
    return 0 if measured.kspace is None else min(_centre(measured))


def _centre(measured: ScanSlice) -> tuple[int, int]:
    return full_centre(np.asarray(measured.mask), np.asarray(measured.kspace).shape)


def _calibration(kspace: Complex[np.ndarray, "K C H W"]) -> tuple[int, int]:
    """The block of lines that were measured for the sensitivities alone."""
    return full_centre(kspace.any(1), kspace.shape)


def full_centre(
    mask: Bool[np.ndarray, "E #H W"],
    shape: tuple[int, ...],
    *,
    limit: int = CALIBRATION,
) -> tuple[int, int]:
    """Rows and columns of the fully sampled centre, at most `limit`; 0 for none.

    Args:
        mask: Where k-space was sampled.
        shape: Of k-space, whose last axes are H and W.
        limit: Of the rows and of the columns.
    """
    *_, rows, columns = shape
    if not mask[..., mask.shape[-2] // 2, columns // 2].all():
        return 0, 0
    return calibration_size(mask, size=(rows, columns), limit=limit)


def prepare_slice(measured: ScanSlice, *, positive: int | None) -> ScanSlice:
    """White coils, sensitivities, and the object's phase inside them: real images.

    A centre too small to show the phase leaves it to the sensitivities that are given.

    Args:
        measured: As the file has it; a slice of images comes back as it is.
        positive: The contrast that has no negative signal; None where no contrast has.

    Raises:
        ValueError: The covariance of the noise is singular; or there are no
            sensitivities, and the centre is too small to estimate them or shows no
            object.
    """
    if measured.kspace is None:
        return measured
    sens, whitening = measured.sens, None
    kspace, apart = jnp.asarray(measured.kspace), measured.calibration
    if measured.noise is not None:
        whitening = whitening_matrix(_covariance(measured.noise))
        kspace = mix_coils(kspace, whitening)
        if sens is not None:
            sens = normalize_sensitivities(mix_coils(sens, whitening), floor=0)
    source, size = kspace, _centre(measured)
    block = size
    if sens is None:
        if apart is not None and min(_calibration(apart)) > min(block):
            source, size = jnp.asarray(apart), _calibration(apart)
            source = source if whitening is None else mix_coils(source, whitening)
        if min(size) < KERNEL:
            raise ValueError(
                f"the fully sampled centre is {size[0]} x {size[1]}; estimating "
                f"sensitivities needs at least {KERNEL} x {KERNEL}. Give them in the "
                "file, or in one of their own: --config.predict.sens=FILE"
            )
        sens = _espirit(source, size)
        if not sens.any():
            raise ValueError(
                "no object was found in the centre of k-space: sensitivities are 0 "
                "everywhere. Is it noise alone, or not centred? Give them in the file"
            )
    if min(block) >= KERNEL:
        sens = _absorb_phase(kspace, sens, min(block), positive)
    elif min(size) >= KERNEL and positive is None:  # that of the lines apart
        sens = _absorb_phase(source, sens, min(size), None)
    return measured._replace(kspace=np.asarray(kspace), sens=np.asarray(sens))


def image_unit(measured: ScanSlice, prepared: ScanSlice) -> Float[np.ndarray, "H W"]:
    """What 1 in an image of white coils is in an image of the file's coils.

    With Psi = L L^H, x S = L (x_white S_white), and S has root sum of squares 1:
    the root sum of squares of L S_white. Times do not depend on it, amplitudes do.
    """
    if measured.noise is None or prepared.sens is None:
        return np.ones((), np.float32)
    lower = jnp.linalg.cholesky(_covariance(measured.noise))
    return np.asarray(root_sum_of_squares(mix_coils(prepared.sens, lower)))


def make_slab(slices: Mapping[int, ScanSlice], size: int) -> QmriBatch:
    """Slices as a batch of a fixed size, the last one repeated to fill it.

    Args:
        slices: Slices ready to be reconstructed by their index in the scan, by which a
            slice draws.
        size: B of the batch, at least the number of slices; the last one is repeated.
    """
    order = [*slices, *[list(slices)[-1]] * (size - len(slices))]
    rows = [slices[index] for index in order]
    valid = np.arange(size) < len(slices)
    ids = np.array(order, np.int32)
    if rows[0].images is not None:
        images = np.stack([np.asarray(row.images) for row in rows])
        blank = np.zeros((size, 1, 1, *images.shape[-2:]), np.complex64)
        roi = np.ones((size, *images.shape[-2:]), bool)
        mask = np.ones((size, 1, 1, 1), bool)
        if any(row.mask is not None for row in rows):
            mask = np.ones(images.shape, bool)
            for kept, row in zip(mask, rows, strict=True):
                kept &= True if row.mask is None else row.mask
        return QmriBatch(blank, mask, blank[:, 0], images, roi, valid, ids)
    kspace, sens = (np.stack([getattr(r, k) for r in rows]) for k in ("kspace", "sens"))
    shape = (size, kspace.shape[1], *kspace.shape[-2:])
    masks = [np.asarray(row.mask) for row in rows]
    full = (shape[1], max(mask.shape[1] for mask in masks), shape[-1])
    mask = np.stack([np.broadcast_to(mask, full) for mask in masks])
    target = np.zeros(shape, np.float32)  # nobody knows
    roi = (np.abs(sens) > 0).any(axis=1)
    return QmriBatch(kspace, mask, sens, target, roi, valid, ids)


def _covariance(noise: Complex[np.ndarray, "C N"]) -> Complex[Array, "C C"]:
    covariance = noise_covariance(jnp.asarray(noise))
    if not jnp.isfinite(jnp.linalg.cholesky(covariance)).all():
        power = np.real(np.diagonal(covariance))
        raise ValueError(
            f"noise: the coils' covariance is singular, their variances are "
            f"{power.min():.3g} to {power.max():.3g}; expected samples of every coil, "
            "independent of each other. Leave the noise out, or measure it again"
        )
    return covariance


@partial(jax.jit, static_argnums=1)
def _espirit(kspace: Array, block: tuple[int, int]) -> Array:
    scaled = kspace / jnp.max(jnp.abs(kspace)).astype(kspace.dtype)
    threshold = jnp.asarray(THRESHOLD, jnp.float32)
    if scaled.shape[1] >= COILS:
        share = noise_share(scaled, calibration=block, kernel=KERNEL)
        threshold = jnp.clip(share.astype(jnp.float32), THRESHOLD, MOST)
    return estimate_sensitivities(
        scaled, calibration=block, kernel=KERNEL, threshold=threshold, crop=CROP
    )


@partial(jax.jit, static_argnums=(3, 4))
def _misfit(kspace: Array, sens: Array, mask: Array, width: int, signed: bool):
    return phase_misfit(kspace, sens, mask, width=width, signed=signed)


@partial(jax.jit, static_argnums=(2, 3))
def _absorb_phase(kspace: Array, sens: Array, width: int, positive: int | None):
    phase = smooth_phase(kspace, sens, width=width, contrast=positive)
    return sens * jax.lax.complex(jnp.cos(phase), jnp.sin(phase))
