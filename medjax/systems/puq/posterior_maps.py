"""The posterior of images whose error is known, and maps of the same lines drawn anew.

What `--mode=predict`, the evaluation and the benchmarks do with images and their u, as
pure functions, so that all of them do the same.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from medjax.mri.model import SignalModel
from medjax.mri.posterior import PosteriorFit, fit_posterior
from medjax.mri.sense import sense_forward
from medjax.systems.puq.reconstruction import slice_keys
from medjax.types import Key, QmriBatch

LOW, HIGH = 2.0, 1.25  # times a map's bounds: where the flat prior begins and ends
DROPOUT_SHORT = 4.5  # times, see `dropout_posterior`


def image_posterior(
    images: Float[Array, "B E H W"],
    u: Float[Array, "B H W"],
    times: Float[Array, "E *#N"],
    *,
    model: SignalModel,
    bounds: tuple[float, float],
    quantiles: tuple[float, ...],
    magnitude: bool = False,
) -> PosteriorFit:
    """`fit_posterior` of a batch, flat in log T on 2 low to 1.25 high, clipped to high.

    Args:
        images: Real, in any unit.
        u: One deviation a voxel in that unit; where it is not above 0 and finite the
            voxel alone is flagged.
        times: Of `fit_posterior`, beside images [E, B, H, W].
        model: Static.
        bounds: (low, high) of a map in s; static.
        quantiles: Probabilities between 0 and 1; static.
        magnitude: Whether images are absolute values of signed signals; static.

    A decay's amplitude is taken to be 0 or more; that of a signal that crosses 0 may
    have either sign, as the phase of long time constants can be turned by 180 degrees.
    """
    low, high = bounds
    positive = len(model.parameters) == 2 and not model.crosses_zero
    return fit_posterior(
        jnp.moveaxis(images, 1, 0),
        times,
        u,
        model=model,
        quantiles=quantiles,
        low=LOW * low,
        high=HIGH * high,
        limit=high,
        amplitude="marginalised",
        positive=positive and not jnp.iscomplexobj(images),
        magnitude=magnitude,
    )


def dropout_posterior(
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
    times: Float[Array, "E *#N"],
    *,
    model: SignalModel,
    bounds: tuple[float, float],
    quantiles: tuple[float, ...],
    factor: Array | float = DROPOUT_SHORT,
) -> PosteriorFit:
    """`image_posterior` of a network's images, by the spread of its passes.

    u is a factor times the root mean square over contrasts of the passes' deviation,
    one number a voxel: by 4.5 the deviation of dropout falls short of the error of the
    demo's network (96 x 96, 6 validation subjects, R of 4 to 10). Another network or
    share of dropout needs another factor, see `dropout_factor`: intervals are
    calibrated for that one alone.

    Args:
        mean: Over passes, in any unit.
        std: Of the passes, in that unit. A voxel that never varied is INVALID.
        times: As in `image_posterior`, like all others.
        model: Static.
        bounds: In s; static.
        quantiles: Static.
        factor: Above 0; a scalar that may be traced.
    """
    u = dropout_level(std, factor)
    return image_posterior(
        mean, u, times, model=model, bounds=bounds, quantiles=quantiles
    )


def dropout_level(
    std: Float[Array, "B E H W"], factor: Array | float
) -> Float[Array, "B H W"]:
    """u of a network's images: factor sqrt(mean_e std_e^2), in the unit of `std`.

    Args:
        std: Of the passes with dropout.
        factor: By how much it falls short of the error; a scalar.
    """
    return factor * jnp.sqrt(jnp.mean(jnp.square(std), axis=1))


def replica_maps(
    images: Float[Array, "B E H W"],
    batch: QmriBatch,
    key: Key,
    *,
    noise: Float[Array, "B"],
    reconstruct_fn: Callable[[Complex[Array, "B E C H W"]], Float[Array, "B E H W"]],
    fit_fn: Callable[[Float[Array, "B E H W"]], Float[Array, "B H W"]],
    replicas: int,
) -> Float[Array, "B R H W"]:
    """Maps of the same lines of the same images with other noise: how voxels err alike.

    k-space of the images, with white noise at every sampled point, is reconstructed and
    fitted as the scan was: a parametric bootstrap.

    Args:
        images: What was reconstructed of the scan, in the unit of its k-space.
        batch: Its sensitivities, mask and `sample_id` are read.
        key: One typed key; a slice's noise is drawn by its `sample_id`.
        noise: Deviation of the real and of the imaginary part of a sample, by slice, in
            that unit; 0 or NaN makes all maps of the slice equal or NaN.
        reconstruct_fn: From k-space to images, at the weight of the scan.
        fit_fn: From images to the map in s.
        replicas: How many, 1 or more; static. One is computed at a time.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 6.5.
    """
    clean = sense_forward(images.astype(batch.kspace.dtype), batch.sens, batch.mask)
    scale = noise[:, None, None, None, None]
    shape = batch.kspace.shape[1:]

    def one(number: Array) -> Float[Array, "B H W"]:
        keys = slice_keys(jax.random.fold_in(key, number), batch.sample_id)
        draw = jax.vmap(lambda k: jax.random.normal(k, (2, *shape), scale.dtype))(keys)
        white = jax.lax.complex(scale * draw[:, 0], scale * draw[:, 1])
        return fit_fn(reconstruct_fn(clean + white))

    found = jax.lax.map(one, jnp.arange(replicas, dtype=jnp.int32))
    return jnp.moveaxis(found, 0, 1)
