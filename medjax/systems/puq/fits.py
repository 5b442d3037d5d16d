"""Fits of images and their uncertainty: T1 or T2 with its deviation, in seconds."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.checks import check_arrays
from medjax.mri.fit import FitResult, fit_map
from medjax.mri.model import SignalModel
from medjax.mri.signals import signal
from medjax.systems.puq.guided_fit import Reference, regressor_inputs
from medjax.systems.puq.network import Estimator, Quantity
from medjax.systems.puq.reconstruction import image_moments
from medjax.types import Key, Params, QmriBatch

ROUNDING = 1e-3  # of the largest contrast: no sample is trusted beyond this


def fit_images(
    quantity: Quantity,
    images: Float[Array, "B E H W"],
    *,
    variance: Float[Array, "B E H W"] | None = None,
    rank: int | None = None,
) -> FitResult:
    """`fit_slices` at the quantity's own times.

    Args:
        quantity: The signal model, its times and bounds in s.
        images: Of `fit_slices`, like all others.
        variance: Likewise.
        rank: Likewise.
    """
    return fit_slices(
        images,
        np.array(quantity.times, images.dtype),
        model=quantity.model,
        bounds=quantity.bounds,
        variance=variance,
        rank=rank,
    )


def fit_slices(
    images: Float[Array, "B E H W"],
    times: Float[Array | np.ndarray, "E *#N"],
    *,
    model: SignalModel,
    bounds: tuple[float, float],
    magnitude: bool = False,
    variance: Float[Array, "B E H W"] | None = None,
    rank: int | None = None,
    angle: Float[Array, "B H W"] | None = None,
) -> FitResult:
    """`fit_map` of a batch; with variances, weighted by their inverse.

    Without them sigma comes from the residual. Images of a subspace leave K - P degrees
    of freedom to it and not the E - P that a fit counts with, P the model's parameters:
    sigma is sqrt((E - P) / (K - P)) times as large, and unknown (NaN) where K <= P.

    Args:
        images: Real, in any unit; as many contrasts as times. A voxel that is not
            finite fails alone.
        times: Seconds (flip angles: radians), one list for all voxels or one for each
            of [B, H, W], where an axis of 1 stands for all. They may be traced.
        model: The signal model; static.
        bounds: Of the time constant in seconds; static.
        magnitude: Whether images are absolute values and not signed; static.
        variance: Of each voxel and contrast, in the unit of `images` squared; above 0.
        rank: K of the subspace that the images lie in, a static integer; None for
            images of which each contrast is free. It is not read with a variance.
        angle: Of refocusing, in radians, where it is known; for t2_epg alone.

    Returns:
        Parameters and sigma by name, [B, H, W] each; NaN where a fit failed.
    """
    first = jnp.moveaxis(images, 1, 0)
    options = {"model": model, "bounds": bounds, "magnitude": magnitude}
    options |= {"angle": angle}
    if variance is None:
        fit = fit_map(first, times, **options)
        if rank is None:
            return fit
        fitted = len(model.parameters)
        free = max(rank - fitted, 0)
        factor = ((len(first) - fitted) / free) ** 0.5 if free else float("nan")
        return fit._replace(sigma={k: factor * x for k, x in fit.sigma.items()})
    weights = 1 / jnp.moveaxis(variance, 1, 0)
    return fit_map(first, times, weights=weights, noise="known", **options)


def reference_fit(quantity: Quantity, images: Float[Array, "B E H W"]) -> Reference:
    """What the guided fit learns from: an unweighted fit of full, noiseless images.

    Args:
        quantity: The signal model, its times and bounds in s.
        images: Real and signed, in any unit; as many contrasts as times.

    Returns:
        The time constant in s, the signal model's images in the unit of `images`, and
        where the fit found a value; elsewhere all parameters are 1.
    """
    result = fit_images(quantity, images)
    fitted = jnp.isfinite(result.params[quantity.model.time_constant])
    params = {name: jnp.where(fitted, x, 1) for name, x in result.params.items()}
    images = jnp.moveaxis(signal(quantity.model, params, quantity.times), 0, 1)
    return Reference(params[quantity.model.time_constant], images, fitted)


def guided_variance(
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
    misfit: Float[Array, "E"],
) -> Float[Array, "B E H W"]:
    """u^2 + tau^2: of a phase's mean, for a fit weighted by its inverse.

    tau_e = misfit_e max_e |m_e| is what the signal model is wrong by even on perfect
    images. Without it a fit follows the phases of small u, whose misfit then shifts the
    time constant. A floor keeps a phase that never varied from infinite weight.

    Args:
        mean: m of each contrast, in any unit; at least one contrast. A voxel that is 0
            in all counts as one of largest contrast 1.
        std: u of each contrast, in the unit of `mean`; not negative.
        misfit: A share of the largest contrast, for each; below 1e-3 it counts as 1e-3.

    Returns:
        The variance in the unit of `mean` squared, above 0.

    Raises:
        ValueError: shapes that do not fit, or no contrast.
    """
    check_arrays(
        "guided_variance",
        mean=(mean, "B E H W", float),
        std=(std, "B E H W", float),
        misfit=(misfit, "E", float),
    )
    if mean.shape[1] == 0:
        raise ValueError(
            f"guided_variance: mean: expected at least one contrast, found {mean.shape}"
        )
    largest = jnp.max(jnp.abs(mean), axis=1, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1)
    tau = largest * jnp.maximum(misfit, ROUNDING)[None, :, None, None]
    return jnp.square(std) + jnp.square(tau)


def regressed_map(
    estimator: Estimator,
    regressors: Params,
    kind: str,
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
) -> tuple[Float[Array, "B H W"], Float[Array, "B H W"]]:
    """PUQ's map by a regressor [s], and what u means for it to first order [s].

    sigma^2 = sum_e (dT/dm_e u_e)^2 with u held fixed; the authors give no sigma. NaN
    where a voxel is too faint.

    Args:
        estimator: Gives the regressors' shape, their inputs' scale and the largest T.
        regressors: Parameters of both kinds, by their names.
        kind: "guided" (sees means and deviations) or "plain" (means alone).
        mean: m of each contrast, in any unit.
        std: u of each contrast, in the unit of m; not negative.
    """
    value = partial(_regressed, estimator, regressors[kind], kind, std)
    slopes, (times, usable) = jax.grad(value, has_aux=True)(mean)
    sigma = jnp.sqrt(jnp.square(slopes * std).sum(1))
    return jnp.where(usable, times, jnp.nan), jnp.where(usable, sigma, jnp.nan)


def _regressed(
    estimator: Estimator,
    params: Params,
    kind: str,
    std: Float[Array, "B E H W"],
    mean: Float[Array, "B E H W"],
) -> tuple[Array, tuple[Float[Array, "B H W"], Bool[Array, "B H W"]]]:
    """The sum over all voxels, whose gradient is each voxel's own; (map, usable)."""
    inputs, usable = regressor_inputs(mean, std, normalisation=estimator.normalisation)
    fraction: Any = estimator.regressor.apply({"params": params}, inputs[kind])
    times = estimator.quantity.longest * fraction
    return times.sum(), (times, usable)


def network_fit(
    estimator: Estimator,
    params: Params,
    batch: QmriBatch,
    key: Key,
    *,
    fit: str,
    passes: int,
    chunk: int,
) -> tuple[FitResult, Float[Array, "B E H W"]]:
    """Maps of a trained network's images, and the images.

    Args:
        estimator: The network, and the quantity that is fitted.
        params: Those of both stages; "plain" reads the network's alone.
        batch: Slices, whose target and region of interest are not read.
        key: Decides which channels are dropped; a slice's draw depends on its
            `sample_id` and not on the batch that it is in.
        fit: "plain" (sigma from the residual), "weighted" (by `guided_variance`), or
            "puq": the time constant by the guided regressor, the rest as "weighted".
        passes: Passes with dropout over which the images are averaged, at least 2.
        chunk: Passes computed at a time; divides `passes` and changes no number's draw.

    Returns:
        Parameters and sigma by name, [B, H, W] each, time constants in s, NaN where a
        fit failed; and the mean images.
    """
    quantity = estimator.quantity
    moments = {"passes": passes, "chunk": chunk}
    mean, std = image_moments(estimator, params["network"], batch, key, **moments)
    if fit == "plain":
        return fit_images(quantity, mean, rank=estimator.rank), mean
    variance = guided_variance(mean, std, params["misfit"])
    weighted = fit_images(quantity, mean, variance=variance)
    if fit == "weighted":
        return weighted, mean
    value, sigma = regressed_map(estimator, params["regressors"], "guided", mean, std)
    name = quantity.model.time_constant
    values, errors = weighted.params | {name: value}, weighted.sigma | {name: sigma}
    return weighted._replace(params=values, sigma=errors), mean
