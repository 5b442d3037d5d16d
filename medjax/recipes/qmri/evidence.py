"""What maps are judged by: gathered where the images are, in the compiled program."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.residuals import ContrastSums, bright_voxels, residual_by_contrast
from medjax.mri.signals import SignalModel
from medjax.recipes.qmri.choice import without_excess


class Fitted(NamedTuple):
    """Maps of slices, and what they are judged by; no image leaves the program."""

    maps: FitResult
    bright: Bool[Array | np.ndarray, "*B H W"]  # where there is an object
    sums: ContrastSums  # over bright voxels, in the unit of the fitted images


def gather(
    images: Float[Array, "B E H W"],
    times: Float[Array, "E *#N"],
    maps: FitResult,
    *,
    model: SignalModel,
    magnitude: bool,
) -> Fitted:
    """Maps of a slab beside what they are judged by.

    Args:
        images: What was fitted.
        times: Of the fit, as `fit_map` takes them beside images [E, B, H, W].
        maps: The fit.
        model: The signal model that was fitted.
        magnitude: Whether the images are absolute values of signed signals.
    """
    maps, first = without_excess(maps, model), jnp.moveaxis(images, 1, 0)
    bright = bright_voxels(first, maps)
    sums = residual_by_contrast(first, times, maps, model, bright, magnitude=magnitude)
    return Fitted(maps, bright, sums)


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
    return Fitted(empty_maps(model, shape), np.zeros(shape, bool), sums)
