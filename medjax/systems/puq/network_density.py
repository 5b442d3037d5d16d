"""A learned density of T on a network's images, guided by the spread of its passes.

Its layers are trained beside PUQ's regressors on the same voxels, see `guided_fit`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.mri.posterior import PosteriorFit
from medjax.systems.puq.categorical import (
    Categorical,
    categorical_inputs,
    from_params,
)
from medjax.systems.puq.network import Estimator
from medjax.systems.puq.posterior_maps import (
    DROPOUT_SHORT,
    HIGH,
    LOW,
    dropout_level,
    dropout_posterior,
)
from medjax.types import Params, QmriBatch


def dropout_scale(params: Params) -> Array | float:
    """The factor on dropout's deviation: the run's own, or that of the demo's network.

    Args:
        params: Of a stage behind `dropout_factor`, if they have "dropout".
    """
    return params["dropout"]["factor"] if "dropout" in params else DROPOUT_SHORT


def dropout_coverage(estimator: Estimator, params: Params) -> Array:
    """The share of validation voxels in their interval at the factor; NaN if not known.

    Args:
        estimator: Its extras have the factors that were tried.
        params: See `dropout_scale`.
    """
    if "dropout" not in params:
        return jnp.asarray(jnp.nan, jnp.float32)
    found = params["dropout"]
    shares = found["covered"] / jnp.maximum(found["voxels"], 1)
    logs = jnp.log(jnp.asarray(estimator.extras.factors, shares.dtype))
    return jnp.interp(jnp.log(found["factor"]), logs, shares)


def network_posterior(
    estimator: Estimator,
    params: Params,
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
    *,
    quantiles: tuple[float, ...] = (),
) -> PosteriorFit:
    """`dropout_posterior` of a network's images at the run's own factor.

    Args:
        estimator: Gives the signal model, its times and bounds.
        params: See `dropout_scale`.
        mean: Over passes, in any unit.
        std: Of the passes, in that unit.
        quantiles: Between 0 and 1; static.
    """
    quantity = estimator.quantity
    return dropout_posterior(
        mean,
        std,
        jnp.asarray(quantity.times, mean.dtype),
        model=quantity.model,
        bounds=quantity.bounds,
        quantiles=quantiles,
        factor=dropout_scale(params),
    )


def network_inputs(
    estimator: Estimator,
    params: Params,
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
    times: Float[Array, "B H W"],
    posterior: PosteriorFit,
    batch: QmriBatch,
) -> Float[Array, "B H W D"]:
    """`categorical_inputs` of a network's images; NaN where there is no posterior.

    Args:
        estimator: Gives the bounds of T.
        params: See `dropout_scale`.
        mean: Over passes, in any unit.
        std: Of the passes, in that unit.
        times: Of an unweighted fit to the means, in s; NaN where it failed.
        posterior: Of `network_posterior`.
        batch: Its mask says R, 1 / sampled share.
    """
    sampled = jnp.broadcast_to(batch.mask, mean.shape).mean((1, 2, 3), mean.dtype)
    return categorical_inputs(
        mean,
        dropout_level(std, dropout_scale(params)),
        times,
        posterior,
        1 / sampled,
        bounds=estimator.quantity.bounds,
    )


def log_edges(estimator: Estimator) -> Float[Array, "2"]:
    """log of the first and the last T of the density's classes: the posterior's prior.

    Args:
        estimator: Gives the bounds of a map.
    """
    low, high = estimator.quantity.bounds
    return jnp.log(jnp.asarray([LOW * low, HIGH * high], jnp.float32))


def trained_density(estimator: Estimator, params: Params) -> Categorical:
    """The density that a run has trained.

    Args:
        estimator: One whose extras have classes.
        params: Of `init_params`.
    """
    layers = from_params(params["regressors"]["categorical"])
    inputs = params["inputs"]
    edges = log_edges(estimator)
    return Categorical(layers, inputs["centre"], inputs["spread"], edges)
