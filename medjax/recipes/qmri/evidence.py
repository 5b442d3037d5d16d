"""What maps are judged by: gathered where the images are, in the compiled program."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.model import SignalModel
from medjax.mri.motion import Motion, contrast_motion
from medjax.mri.residuals import ContrastSums, bright_voxels, residual_by_contrast
from medjax.recipes.qmri.choice import without_excess
from medjax.systems.puq.scan_checks import Checks


class Trusted(NamedTuple):
    """What a posterior adds to the maps of slices."""

    mean: Float[Array | np.ndarray, "*B H W"]  # s
    low: Float[Array | np.ndarray, "*B H W"]  # s, the lower quantile
    high: Float[Array | np.ndarray, "*B H W"]  # s
    distrust: Int[Array | np.ndarray, "*B H W"]  # a `Distrust`
    weight: Float[Array | np.ndarray, "*B"]  # of the regulariser, for images of 1
    interior: Bool[
        Array | np.ndarray, "*B"
    ]  # whether others predict held-out lines less
    replicas: Float[Array | np.ndarray, "*B R H W"] | None  # s; for regions
    checks: Checks | None = None  # of error bars, without a reference


class Fitted(NamedTuple):
    """Maps of slices, and what they are judged by; no image leaves the program."""

    maps: FitResult
    bright: Bool[Array | np.ndarray, "*B H W"]  # where there is an object
    sums: ContrastSums  # over bright voxels, in the unit of the fitted images
    saturated: Int[Array | np.ndarray, "*B"]  # bright voxels at the top of the range
    clipped: Int[Array | np.ndarray, "*B"]  # at its bottom
    shift: Float[Array | np.ndarray, "*B E 2"]  # pixels off the strongest; NaN: unknown
    trusted: Trusted | None = None  # of a posterior


def gather(
    images: Float[Array, "B E H W"],
    times: Float[Array, "E *#N"],
    maps: FitResult,
    *,
    model: SignalModel,
    magnitude: bool,
    mask: Bool[Array, "B #E #H #W"] | None = None,
    noise: Float[Array, ""] | None = None,
    coils: int | None = None,
    motion: Motion | None = None,
) -> Fitted:
    """Maps of a slab beside what they are judged by.

    Args:
        images: What was fitted.
        times: Of the fit, as `fit_map` takes them beside images [E, B, H, W].
        maps: The fit.
        model: The signal model that was fitted.
        magnitude: Whether the images are absolute values of signed signals.
        mask: What of them are samples; None for all.
        noise: Standard deviation in their unit; None takes it from the residuals.
        coils: The channels of magnitudes whose noise floor was fitted too; else None.
        motion: That they had before they were brought together; None looks for it.
    """
    maps, first = without_excess(maps, model), jnp.moveaxis(images, 1, 0)
    reach = 0.0
    if noise is not None and coils is not None:  # root mean square, and two sd more
        reach = noise * ((2 * coils) ** 0.5 + 2)
    bright = bright_voxels(first, maps, floor=reach)
    motion = contrast_motion(first) if motion is None else motion
    if mask is not None:
        first = jnp.where(jnp.moveaxis(mask, 1, 0), first, jnp.nan)
    size = (len(images), 1, 1)
    level = None if noise is None else jnp.full(size, noise, first.dtype)
    channels = coils or (1 if magnitude else None)
    options = {"level": level, "coils": channels}
    sums = residual_by_contrast(first, times, maps, model, bright, **options)
    none = jnp.zeros(images.shape[:1], jnp.int32)  # counted by who knows the file
    return Fitted(maps, bright, sums, none, none, jnp.moveaxis(motion.shift, 1, 0))


def empty_maps(model: SignalModel, shape: tuple[int, int]) -> FitResult:
    """What `fit_map` finds in a slice that is 0: NaN, and nowhere a signal."""
    nothing = np.full(shape, np.nan, np.float32)
    each = dict.fromkeys(model.parameters, nothing)
    status = np.full(shape, FitStatus.NO_SIGNAL, np.int8)
    return FitResult(each, each, nothing, nothing, status)


def empty_slice(model: SignalModel, shape: tuple[int, int], contrasts: int) -> Fitted:
    """A slice that is 0, and so was not fitted.

    Args:
        model: The signal model of the other slices.
        shape: H and W.
        contrasts: E.
    """
    nothing = np.zeros(contrasts, np.float32)
    sums = ContrastSums(np.zeros((), np.float32), nothing, nothing, nothing, nothing)
    dark, none = np.zeros(shape, bool), np.zeros((), np.int32)
    still = np.full((contrasts, 2), np.nan, np.float32)
    return Fitted(empty_maps(model, shape), dark, sums, none, none, still)
