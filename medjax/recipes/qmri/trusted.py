"""Joint TV and its posterior, a slab at a time, and what of a map not to trust."""

from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.model import SignalModel
from medjax.mri.posterior import PosteriorFit
from medjax.mri.total_variation import joint_tv_sense
from medjax.recipes.qmri.compute import Inputs, fit_pictures
from medjax.recipes.qmri.evidence import Fitted, Trusted, gather
from medjax.recipes.qmri.joint_tv import tv_images
from medjax.recipes.qmri.methods import image_error
from medjax.systems.puq.calibration import Calibration
from medjax.systems.puq.fits import fit_slices
from medjax.systems.puq.joint_tv import Search
from medjax.systems.puq.network import image_scale
from medjax.systems.puq.posterior_maps import HIGH, LOW, image_posterior, replica_maps
from medjax.systems.puq.scan_checks import check_slices
from medjax.types import QmriBatch

WIDE = 0.5  # of the value: an interval whose half-width is more says little
BEYOND = 3.0  # times u: a residual above it is not the reconstruction's error
NEAR = 0.01  # relative: an end that is so close to that of the range has reached it


class Distrust(IntEnum):
    """Why a voxel's time should not be trusted; the first reason that holds."""

    NONE = 0
    NO_SIGNAL = 1
    FAILED = 2  # there is no posterior
    AT_RANGE = 3  # the interval reaches an end of what was looked at
    WIDE = 4
    MISFIT = 5  # contrasts differ from the model by more than their uncertainty


REASONS = {
    Distrust.NONE: "no reason found",
    Distrust.NO_SIGNAL: "no signal",
    Distrust.FAILED: "no posterior",
    Distrust.AT_RANGE: "the interval reaches the end of the range",
    Distrust.WIDE: "half the interval is more than half of the value",
    Distrust.MISFIT: "contrasts differ from the model beyond their uncertainty",
}


class Trusting(NamedTuple):
    """How a posterior is made of undersampled k-space; static."""

    model: SignalModel
    bounds: tuple[float, float]  # s
    search: Search
    scales: tuple[float, ...]  # of the subspace's coefficients
    calibration: Calibration
    quantiles: tuple[float, float]  # that are written
    replicas: int  # for regions; 0: none are asked for
    check: bool = False  # whether two halves of the lines are held against each other


@partial(jax.jit, static_argnames="how")
def fit_trusted(inputs: Inputs, *, how: Trusting) -> Fitted:
    """Maps of joint TV by `fit_posterior`, and what makes a voxel doubtful.

    The map is the posterior's median and its sigma the posterior's deviation; all other
    numbers, amplitude and residual among them, are those of the least-squares fit.

    Args:
        inputs: A slab of k-space that is ready, and the basis of its subspace.
        how: Static.
    """
    batch, model, bounds = inputs.batch, how.model, how.bounds
    basis = jnp.asarray(inputs.basis)
    scales = jnp.asarray(how.scales, basis.dtype)
    found = tv_images(batch, inputs.key, basis=basis, scales=scales, search=how.search)
    times, rank = inputs.voxel_times(model), basis.shape[1]
    u = image_error(found, batch, how.calibration)
    ends = how.quantiles
    options: dict[str, Any] = {"model": model, "bounds": bounds}
    posterior = image_posterior(found.images, u, times, quantiles=ends, **options)
    maps = fit_slices(found.images, times, rank=rank, **options)
    fitted = gather(
        found.images, times, maps, model=model, magnitude=False, noise=inputs.noise
    )
    reasons = distrust(fitted.maps, posterior, fitted.bright, u, bounds=bounds)
    replicas = None
    if how.replicas:
        weight = found.weight * scale_of(batch)

        def again(kspace: Array) -> Array:
            return joint_tv_sense(
                kspace,
                batch.sens,
                batch.mask,
                weight=weight,
                iterations=how.search.iterations,
                inner=how.search.inner,
                basis=basis,
                scales=scales,
                constraint="real",
            )

        def median(images: Array) -> Array:
            return image_posterior(images, u, times, quantiles=(0.5,), **options).median

        replicas = replica_maps(
            found.images,
            batch,
            jax.random.fold_in(inputs.key, 1),
            noise=jnp.sqrt(found.misfit / 2),
            reconstruct_fn=again,
            fit_fn=median,
            replicas=how.replicas,
        )
    checks = None
    if how.check:
        checks = check_slices(
            batch,
            jax.random.fold_in(inputs.key, 2),
            found,
            fitted.bright,
            basis=basis,
            scales=scales,
            search=how.search,
            calibration=how.calibration,
            times=times,
            **options,
        )
    low, high = posterior.quantiles
    trusted = Trusted(
        posterior.mean,
        low,
        high,
        reasons,
        found.weight,
        found.interior,
        replicas,
        checks,
    )
    return fitted._replace(
        maps=with_posterior(fitted.maps, posterior, model.time_constant),
        trusted=trusted,
    )


class Pictured(NamedTuple):
    """How a posterior is made of images; static."""

    model: SignalModel
    bounds: tuple[float, float]  # s
    magnitude: bool  # absolute values of signed signals
    quantiles: tuple[float, float]


@partial(jax.jit, static_argnames="how")
def fit_pictured(inputs: Inputs, *, how: Pictured) -> Fitted:
    """Maps of images as they are, by a posterior of the noise that is known of them.

    u is one number a slice: the level of the inputs where it is known, else what the
    fits leave: the level of Gaussian noise whose residuals have the median over voxels
    with signal that was found. Systematic errors are not in it.

    Args:
        inputs: A slab of images, whose mask says what of them are samples.
        how: Static.
    """
    batch, model = inputs.batch, how.model
    images, times = batch.target, inputs.voxel_times(model)
    plain = fit_pictures(
        inputs, model=model, bounds=how.bounds, magnitude=how.magnitude
    )
    if inputs.noise is None:
        count, fitted = images.shape[1], len(model.parameters)
        free = max(count - fitted, 1)
        middle = free * (1 - 2 / (9 * free)) ** 3  # about the median of a chi square
        residual = jnp.where(plain.bright, plain.maps.residual, jnp.nan)
        level = jnp.nanmedian(residual, axis=(1, 2)) * (count / middle) ** 0.5
    else:
        level = jnp.broadcast_to(inputs.noise, images.shape[:1])
    u = jnp.broadcast_to(level[:, None, None], plain.bright.shape)
    each = u
    if batch.mask.shape[1] > 1:  # some are no samples
        each = jnp.moveaxis(jnp.where(batch.mask, u[:, None], jnp.inf), 1, 0)
    posterior = image_posterior(
        images,
        each,
        times,
        model=model,
        bounds=how.bounds,
        quantiles=how.quantiles,
        magnitude=how.magnitude,
    )
    reasons = distrust(plain.maps, posterior, plain.bright, u, bounds=how.bounds)
    low, high = posterior.quantiles
    number = jnp.full(level.shape, jnp.nan, level.dtype)
    some = jnp.ones(level.shape, bool)
    trusted = Trusted(posterior.mean, low, high, reasons, number, some, None)
    maps = with_posterior(plain.maps, posterior, model.time_constant)
    return plain._replace(maps=maps, trusted=trusted)


def compute_trusted(inputs: Inputs, *, how: Trusting) -> Fitted:
    """`fit_trusted` with whole lines as such, so that lines are held out and no points.

    Args:
        inputs: Of `fit_trusted`.
        how: Likewise.
    """
    mask = line_mask(np.asarray(inputs.batch.mask))
    return fit_trusted(inputs._replace(batch=inputs.batch._replace(mask=mask)), how=how)


def line_mask(mask: Bool[np.ndarray, "*B E #H W"]) -> Bool[np.ndarray, "*B E #H W"]:
    """[.., E, 1, W] where all columns of a mask are sampled as a whole, else the mask.

    Args:
        mask: Where k-space is sampled.
    """
    whole = np.any(mask, axis=-2, keepdims=True)
    return whole if np.array_equal(np.broadcast_to(whole, mask.shape), mask) else mask


def scale_of(batch: QmriBatch) -> Float[Array, "B"]:
    """What images of about 1 are multiplied by to have the unit of k-space.

    Args:
        batch: k-space in its own unit.
    """
    return image_scale(batch.kspace, batch.sens).reshape(-1)


def with_posterior(maps: FitResult, posterior: PosteriorFit, name: str) -> FitResult:
    """A least-squares fit whose time constant is the posterior's.

    Args:
        maps: Of the same images; what is no time keeps its own value.
        posterior: Its median becomes the map and its sd the map's sigma.
        name: Of the time constant.
    """
    failed = posterior.status > FitStatus.AT_BOUND
    status = jnp.where(failed, posterior.status.astype(maps.status.dtype), maps.status)
    return maps._replace(
        params=maps.params | {name: posterior.median},
        sigma=maps.sigma | {name: posterior.sd},
        status=status,
    )


def distrust(
    maps: FitResult,
    posterior: PosteriorFit,
    bright: Bool[Array, "B H W"],
    u: Float[Array, "B H W"],
    *,
    bounds: tuple[float, float],
) -> Int[Array, "B H W"]:
    """The first reason of `Distrust` that holds, in the order of their numbers.

    Args:
        maps: The least-squares fit; its residual is held against u.
        posterior: Its quantiles are those of the interval, lower end first.
        bright: Where there is an object.
        u: Of the images.
        bounds: Of a map in s; the prior goes on to `LOW` and `HIGH` times them.
    """
    low, high = posterior.quantiles
    first, last = bounds
    reached = low < LOW * first * (1 + NEAR)
    reached |= high > min(last, HIGH * last) * (1 - NEAR)
    wide = (high - low) / 2 > WIDE * posterior.median
    beyond = maps.residual > BEYOND * u
    failed = ~jnp.isfinite(posterior.median)
    conditions = [~bright, failed, reached, wide, beyond]
    codes = jnp.zeros(bright.shape, jnp.uint8)
    for code, holds in reversed(list(enumerate(conditions, start=1))):
        codes = jnp.where(holds, jnp.uint8(code), codes)
    return codes


def empty_trusted(shape: tuple[int, int], replicas: int) -> Trusted:
    """What a slice without signal adds: no value, and nothing to trust.

    Args:
        shape: H and W.
        replicas: As many as the other slices have.
    """
    nothing = np.full(shape, np.nan, np.float32)
    number = np.full((), np.nan, np.float32)
    again = np.full((replicas, *shape), np.nan, np.float32) if replicas else None
    dark = np.full(shape, Distrust.NO_SIGNAL, np.uint8)
    return Trusted(nothing, nothing, nothing, dark, number, np.ones((), bool), again)
