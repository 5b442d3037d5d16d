"""From images and their uncertainty to T1 or T2 maps with error bars."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.models.denoiser import Regressor
from medjax.mri.fit import FitResult, fit_map
from medjax.mri.signals import SignalModel, signal
from medjax.systems.puq.guided_fit import regressor_inputs
from medjax.systems.puq.network import Design, reconstruct
from medjax.systems.puq.reconstruction import image_moments, image_nrmse
from medjax.types import Key, Params, QmriBatch, TrainState

ROUNDING = 1e-3  # of the largest contrast: no sample is trusted beyond this
# Rows of a table that a network makes; the other ones are the caller's `classical`.
UNROLLED, WEIGHTED = "unrolled", "unrolled, weighted fit"
PLAIN, GUIDED = "PUQ without guidance", "PUQ"


class Maps(NamedTuple):
    """What an evaluation gives: maps in s by method, NaN where a fit failed."""

    roi: Bool[Array, "B H W"]  # where they are judged
    reference: Float[Array, "B H W"]  # fit of the noiseless, fully sampled images
    maps: dict[str, Float[Array, "B H W"]]
    sigma: dict[str, Float[Array, "B H W"]]
    mean: Float[Array, "B E H W"]  # of the passes with dropout
    std: Float[Array, "B E H W"]


class Classical(NamedTuple):
    """A reconstruction without a network."""

    reconstruct: Callable[[QmriBatch, Key], Float[Array, "B E H W"]]
    rank: int | None  # K of the subspace its images lie in; None = all contrasts


class Quantity(NamedTuple):
    """What is measured, and how it is fitted; hashable."""

    model: SignalModel
    times: tuple[float, ...]  # s
    bounds: tuple[float, float]  # of the time constant, s

    @property
    def longest(self) -> float:
        """Largest value of a map, s."""
        return self.bounds[1]


def fit_images(
    quantity: Quantity,
    images: Float[Array, "B E H W"],
    *,
    variance: Float[Array, "B E H W"] | None = None,
    rank: int | None = None,
) -> FitResult:
    """`fit_map` of a batch; with variances, weighted by their inverse.

    Without them sigma comes from the residual. Images of a subspace leave K - P degrees
    of freedom to it and not the E - P that a fit counts with, P the model's parameters:
    sigma is sqrt((E - P) / (K - P)) times as large, and unknown (NaN) where K = P.
    """
    times = np.array(quantity.times, images.dtype)
    how = {"model": quantity.model, "bounds": quantity.bounds}
    first = jnp.moveaxis(images, 1, 0)
    if variance is None:
        fit = fit_map(first, times, **how)
        if rank is None:
            return fit
        fitted = len(quantity.model.parameters)
        free = max(rank - fitted, 0)
        factor = ((len(times) - fitted) / free) ** 0.5 if free else float("nan")
        return fit._replace(sigma={k: factor * x for k, x in fit.sigma.items()})
    weights = 1 / jnp.moveaxis(variance, 1, 0)
    return fit_map(first, times, weights=weights, noise="known", **how)


def reference_fit(
    quantity: Quantity, images: Float[Array, "B E H W"]
) -> tuple[
    Float[Array, "B H W"],
    Float[Array, "B E H W"],
    Bool[Array, "B H W"],
]:
    """What `guided_fit` learns from: (time constant, the model's images, fitted)."""
    result = fit_images(quantity, images)
    ok = jnp.isfinite(result.params[quantity.model.time_constant])
    params = {name: jnp.where(ok, x, 1) for name, x in result.params.items()}
    images = jnp.moveaxis(signal(quantity.model, params, quantity.times), 0, 1)
    return params[quantity.model.time_constant], images, ok


def guided_variance(
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
    misfit: Float[Array, "E"],
) -> Float[Array, "B E H W"]:
    """u^2 + tau^2: of a phase's mean, for a fit weighted by its inverse.

    tau_e = misfit_e max_e |m_e| is what the signal model is wrong by even on perfect
    images. Without it a fit follows the phases of small u, whose misfit then shifts the
    time constant. A floor keeps a phase that never varied from infinite weight.
    """
    largest = jnp.max(jnp.abs(mean), axis=1, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1)
    tau = largest * jnp.maximum(misfit, ROUNDING)[None, :, None, None]
    return jnp.square(std) + jnp.square(tau)


def regressed_map(
    regressor: Regressor,
    params: Params,
    kind: str,
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
    *,
    normalisation: str,
    longest: float,
) -> tuple[Float[Array, "B H W"], Float[Array, "B H W"]]:
    """PUQ's map by a regressor, and what u means for it to first order.

    sigma^2 = sum_e (dT/dm_e u_e)^2 with u held fixed; the authors give no sigma. NaN
    where a voxel is too faint.

    Args:
        regressor: its shape.
        params: its parameters.
        kind: "guided" (means and deviations) or "plain".
        mean: m.
        std: u.
        normalisation: of the inputs.
        longest: what 1 stands for, s.
    """

    def value(mean):
        inputs, usable = regressor_inputs(mean, std, normalisation=normalisation)
        fraction: Any = regressor.apply({"params": params}, inputs[kind])
        found = longest * fraction
        return found.sum(), (found, usable)

    slopes, (found, usable) = jax.grad(value, has_aux=True)(mean)
    sigma = jnp.sqrt(jnp.square(slopes * std).sum(1))
    return jnp.where(usable, found, jnp.nan), jnp.where(usable, sigma, jnp.nan)


def make_evaluate(
    design: Design,
    regressor: Regressor,
    quantity: Quantity,
    classical: Mapping[str, Classical],
    *,
    basis: Float[Array, "E K"] | None,
    passes: int,
    chunk: int,
    normalisation: str,
    guided: bool,
) -> Callable[..., tuple[Maps, dict[str, Array]]]:
    """`System.evaluate`: every method's map of the same slices, beside the reference.

    Args:
        design: of the network.
        regressor: of the guided fit.
        quantity: what is fitted.
        classical: reconstructions by name, each followed by an unweighted fit.
        basis: of the network's subspace.
        passes: with dropout.
        chunk: passes at a time.
        normalisation: of the regressors' inputs.
        guided: whether the second stage's parts are trained: the weighted fit and
            PUQ's regressors; else the network's own pass alone is fitted.
    """

    def evaluate(
        state: TrainState, batch: QmriBatch, key: Key
    ) -> tuple[Maps, dict[str, Array]]:
        params, name = state.params, quantity.model.time_constant
        images = {m: found.reconstruct(batch, key) for m, found in classical.items()}
        ranks = {m: found.rank for m, found in classical.items()}
        ranks[UNROLLED] = None if basis is None else design.channels
        if guided:
            mean, std = image_moments(
                design,
                params["network"],
                batch,
                key,
                basis=basis,
                passes=passes,
                chunk=chunk,
            )
        else:
            samples = (batch.kspace, batch.mask, batch.sens)
            mean, _ = reconstruct(
                design, params["network"], *samples, None, basis=basis, training=False
            )
            std = jnp.zeros_like(mean)
        images[UNROLLED] = mean
        fits = {m: fit_images(quantity, x, rank=ranks[m]) for m, x in images.items()}
        maps = {method: fit.params[name] for method, fit in fits.items()}
        sigma = {method: fit.sigma[name] for method, fit in fits.items()}
        if guided:
            variance = guided_variance(mean, std, params["misfit"])
            fit = fit_images(quantity, mean, variance=variance)
            maps[WEIGHTED], sigma[WEIGHTED] = fit.params[name], fit.sigma[name]
            for method, kind in ((PLAIN, "plain"), (GUIDED, "guided")):
                maps[method], sigma[method] = regressed_map(
                    regressor,
                    params["regressors"][kind],
                    kind,
                    mean,
                    std,
                    normalisation=normalisation,
                    longest=quantity.longest,
                )
        reference = fit_images(quantity, batch.target).params[name]
        errors = {f"image nrmse: {k}": image_nrmse(x, batch) for k, x in images.items()}
        found = Maps(batch.roi, reference, maps, sigma, mean, std)
        return found, errors | {"valid": batch.valid}

    return evaluate


def methods_of(classical: Sequence[str], *, guided: bool) -> list[str]:
    """The methods of an evaluation, in a table's order."""
    return [*classical, UNROLLED, *((WEIGHTED, PLAIN, GUIDED) if guided else ())]
