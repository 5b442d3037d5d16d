"""Every method's map of T1 or T2 and its error, side by side in one program."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.mri.posterior import PosteriorFit
from medjax.systems.puq.categorical import categorical_maps
from medjax.systems.puq.fits import fit_images, guided_variance, regressed_map
from medjax.systems.puq.network import Estimator, Quantity, reconstruct
from medjax.systems.puq.network_density import (
    dropout_coverage,
    dropout_scale,
    network_inputs,
    trained_density,
)
from medjax.systems.puq.posterior_maps import dropout_level, image_posterior
from medjax.systems.puq.reconstruction import image_moments, image_nrmse
from medjax.types import Key, QmriBatch, TrainState

# Metrics of every slice: the run's factor on dropout's deviation, and what it covers.
FACTOR, COVERED = "dropout factor", "dropout coverage"
# Rows of a table that a network makes; the other ones are the caller's `classical`.
UNROLLED, WEIGHTED = "unrolled", "unrolled, weighted fit"
CATEGORICAL = "unrolled, categorical"
PLAIN, GUIDED = "PUQ without guidance", "PUQ"
# Behind the name of a method whose images have an uncertainty: the posterior's maps.
MEAN, MEDIAN = ", posterior mean", ", posterior"
POSTERIOR = UNROLLED + MEDIAN


class Maps(NamedTuple):
    """What an evaluation gives: maps in s by method, NaN where a fit failed."""

    roi: Bool[Array, "B H W"]  # where they are judged
    reference: Float[Array, "B H W"]  # fit of the noiseless, fully sampled images
    maps: dict[str, Float[Array, "B H W"]]
    sigma: dict[str, Float[Array, "B H W"]]
    mean: Float[Array, "B E H W"]  # of the passes with dropout
    std: Float[Array, "B E H W"]
    # s, at the probabilities that were asked for, of methods with a posterior
    quantiles: dict[str, Float[Array, "B Q H W"]]


class Classical(NamedTuple):
    """A reconstruction without a network."""

    reconstruct: Callable[[QmriBatch, Key], Float[Array, "B E H W"]]
    rank: int | None  # K of the subspace its images lie in; None = all contrasts
    # images and their u, one deviation a voxel, where it is known
    trusted: (
        Callable[
            [QmriBatch, Key], tuple[Float[Array, "B E H W"], Float[Array, "B H W"]]
        ]
        | None
    ) = None


def evaluate_maps(
    estimator: Estimator,
    classical: Mapping[str, Classical],
    state: TrainState,
    batch: QmriBatch,
    key: Key,
    *,
    passes: int,
    chunk: int,
    guided: bool,
    probabilities: tuple[float, ...] = (0.025, 0.975),
) -> tuple[Maps, dict[str, Array]]:
    """`System.evaluate`: every method's map of the same slices, beside the reference.

    Args:
        estimator: The network, and the quantity that is fitted.
        classical: Reconstructions by name, each followed by an unweighted fit.
        state: Its parameters are read, and nothing else.
        batch: Slices with their noiseless images, whose fit is the reference.
        key: Decides which channels are dropped, and what classical methods draw.
        passes: Passes with dropout, at least 2; not made where nothing is guided.
        chunk: Passes computed at a time; divides `passes`.
        guided: Whether the second stage's parts are trained: the weighted fit, the
            posterior by dropout's deviation, the learned density where the estimator
            has one, and PUQ's regressors; else the network's
            own pass alone, without dropout, is fitted.
        probabilities: Of the posteriors' quantiles, between 0 and 1; static.

    Returns:
        Maps in s of all methods beside the reference, and metrics [B]: `image nrmse:
        METHOD` of each reconstruction, `valid`, and the factor on dropout's deviation.
    """
    params, quantity = state.params, estimator.quantity
    name = quantity.model.time_constant
    known: dict[str, tuple[Array, Array]] = {
        m: method.trusted(batch, key)
        for m, method in classical.items()
        if method.trusted is not None
    }
    images: dict[str, Array] = {
        m: known[m][0] if m in known else method.reconstruct(batch, key)
        for m, method in classical.items()
    }
    ranks = {m: method.rank for m, method in classical.items()}
    network = params["network"]
    if guided:
        moments = {"passes": passes, "chunk": chunk}
        mean, std = image_moments(estimator, network, batch, key, **moments)
    else:
        mean, _ = reconstruct(estimator, network, batch, None, training=False)
        std = jnp.zeros_like(mean)
    images[UNROLLED], ranks[UNROLLED] = mean, estimator.rank
    fits = {m: fit_images(quantity, x, rank=ranks[m]) for m, x in images.items()}
    maps = {method: fit.params[name] for method, fit in fits.items()}
    sigma = {method: fit.sigma[name] for method, fit in fits.items()}
    quantiles = {}
    if guided:
        variance = guided_variance(mean, std, params["misfit"])
        fit = fit_images(quantity, mean, variance=variance)
        maps[WEIGHTED], sigma[WEIGHTED] = fit.params[name], fit.sigma[name]
        for method, kind in ((PLAIN, "plain"), (GUIDED, "guided")):
            maps[method], sigma[method] = regressed_map(
                estimator, params["regressors"], kind, mean, std
            )
    if guided:
        known[UNROLLED] = mean, dropout_level(std, dropout_scale(params))
    posteriors = _posteriors(quantity, known, probabilities)
    for method, posterior in posteriors.items():
        ends = jnp.moveaxis(posterior.quantiles, 0, 1)
        for suffix, value in ((MEAN, posterior.mean), (MEDIAN, posterior.median)):
            maps[method + suffix], sigma[method + suffix] = value, posterior.sd
            quantiles[method + suffix] = ends
    if guided and estimator.extras.bins:
        inputs = network_inputs(
            estimator, params, mean, std, maps[UNROLLED], posteriors[UNROLLED], batch
        )
        # Who scores a measured slice warns of it: a program cannot.
        found = categorical_maps(
            trained_density(estimator, params),
            inputs,
            quantiles=probabilities,
            limit=quantity.longest,
            measured=False,
        )
        maps[CATEGORICAL], sigma[CATEGORICAL] = found.mean, found.sd
        quantiles[CATEGORICAL] = jnp.moveaxis(found.quantiles, 0, 1)
    reference = fit_images(quantity, batch.target).params[name]
    errors = {f"image nrmse: {k}": image_nrmse(x, batch) for k, x in images.items()}
    if guided:
        own = dropout_scale(params), dropout_coverage(estimator, params)
        for label, value in zip((FACTOR, COVERED), own, strict=True):
            errors[label] = jnp.full(len(mean), value, jnp.float32)
    result = Maps(batch.roi, reference, maps, sigma, mean, std, quantiles)
    return result, errors | {"valid": batch.valid}


def _posteriors(
    quantity: Quantity,
    known: Mapping[str, tuple[Float[Array, "B E H W"], Float[Array, "B H W"]]],
    quantiles: tuple[float, ...],
) -> dict[str, PosteriorFit]:
    """Of each method's images and u; one program for all, as it compiles slowly."""
    if not known:
        return {}
    images, u = (jnp.concatenate(x) for x in zip(*known.values(), strict=True))
    found = image_posterior(
        images,
        u,
        np.array(quantity.times, images.dtype),
        model=quantity.model,
        bounds=quantity.bounds,
        quantiles=quantiles,
    )
    count = len(known)

    def split(x: Array) -> list[Array]:
        return jnp.split(x, count, axis=x.ndim - 3)

    parts = [jax.tree.map(lambda x, n=n: split(x)[n], found) for n in range(count)]
    return dict(zip(known, parts, strict=True))


def methods_of(
    classical: Sequence[str],
    *,
    guided: bool,
    trusted: Sequence[str] = (),
    density: bool = False,
) -> list[str]:
    """The methods of an evaluation, in a table's order.

    Args:
        classical: Names of reconstructions without a network, which stand first.
        trusted: Those of them whose images have an uncertainty: the posterior's maps
            stand behind each.
        guided: Whether the second stage is trained: then its five methods stand last,
            behind the network's own fit.
        density: Whether a density of T is trained in it, whose map stands among them.
    """
    first = [
        name + suffix
        for name in classical
        for suffix in (("", MEAN, MEDIAN) if name in trusted else ("",))
    ]
    learned = (CATEGORICAL,) if density else ()
    posterior = (UNROLLED + MEAN, POSTERIOR)
    last = (WEIGHTED, *posterior, *learned, PLAIN, GUIDED) if guided else ()
    return [*first, UNROLLED, *last]
