"""A density of the time constant that is learned: classes of log T from maps.

It takes the place of PUQ's regressor where the data are those of its training: what it
has learned is the training's distribution of time constants and of the reconstruction's
errors. On a measured slice a prototype of it, trained on simulated subjects, had an
NRMSE of 0.28 to 1.39 where the posterior without training has 0.22 to 0.25, and most
inputs were inside the training's range. `categorical_maps` warns of measured data.
"""

import functools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from medjax.checks import check_arrays, check_integers
from medjax.mri.posterior import PosteriorFit
from medjax.mri.posterior_density import Window
from medjax.mri.posterior_summary import summarise
from medjax.types import Key

_BLUR = 0.7  # bins: sd of the target, so that neighbours are not wholly wrong
_FAR = 4.0  # sd of the training's inputs: what is beyond counts as this
_JUMP = 2.0  # largest difference to a neighbour, of logs
_CHUNK = 8192  # voxels at a time: 72 classes of each are held
_MEDIAN = 0.5


class Layer(NamedTuple):
    """x -> x weight + bias."""

    weight: Float[Array, "D F"]
    bias: Float[Array, "F"]


class Categorical(NamedTuple):
    """A trained density: its network, and what its inputs were like."""

    layers: tuple[Layer, ...]
    centre: Float[Array, "D"]  # of the training's inputs
    spread: Float[Array, "D"]
    edges: Float[Array, "2"]  # log of the shortest and the longest T, T in s


class CategoricalMaps(NamedTuple):
    """Maps in s, NaN where an input is not finite."""

    mean: Float[Array, "*N"]
    median: Float[Array, "*N"]
    sd: Float[Array, "*N"]
    quantiles: Float[Array, "Q *N"]
    outside: Float[Array, "*N"]  # share of a voxel's inputs beyond the training's


def categorical_inputs(
    images: Float[Array, "B E H W"],
    u: Float[Array, "B H W"],
    times: Float[Array, "B H W"],
    posterior: PosteriorFit,
    acceleration: Float[Array, "B"],
    *,
    bounds: tuple[float, float],
) -> Float[Array, "B H W D"]:
    """What the network sees of a voxel, all without a unit; D = 21.

    log T of the fit, log(u / amplitude), log(sd / mean) and log(median / T) of the
    posterior, log R, and the eight neighbours' differences of log T and log amplitude,
    cut at 2. The amplitude is the root mean square over contrasts.

    Args:
        images: Real, in any unit.
        u: One deviation a voxel, in that unit, above 0.
        times: Of a fit, in s; one that failed counts as the bounds' geometric mean.
        posterior: Of the same images and u.
        acceleration: R of each slice, above 0.
        bounds: Of T in s; static. Values beyond count as these.

    Returns:
        NaN where there is no posterior.
    """
    check_arrays(
        "categorical_inputs",
        images=(images, "B E H W", float),
        u=(u, "B H W", float),
        times=(times, "B H W", float),
        acceleration=(acceleration, "B", float),
    )
    low, high = bounds
    known = jnp.where(jnp.isfinite(times), times, (low * high) ** 0.5)
    log_time = jnp.log(jnp.clip(known, low, high))
    size = jnp.sqrt(jnp.mean(jnp.square(images), axis=1))
    largest = jnp.max(size, axis=(1, 2), keepdims=True)
    size = jnp.maximum(size, 1e-3 * jnp.where(largest > 0, largest, 1))
    log_size = jnp.log(size)
    inputs = [
        log_time,
        jnp.log(u / size),
        jnp.log(posterior.sd / posterior.mean + 1e-3),
        jnp.log(posterior.median) - log_time,
        jnp.broadcast_to(jnp.log(acceleration)[:, None, None], log_time.shape),
    ]
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            for x in (log_time, log_size) if (down, right) != (0, 0) else ():
                other = jnp.roll(x, (down, right), axis=(1, 2))
                inputs.append(jnp.clip(other - x, -_JUMP, _JUMP))
    return jnp.stack(inputs, axis=-1)


def train_categorical(
    inputs: Float[Array, "N D"],
    times: Float[Array, "N"],
    key: Key,
    *,
    low: float,
    high: float,
    bins: int = 72,
    width: int = 64,
    steps: int = 1500,
    batch: int = 2048,
    rate: float = 3e-3,
) -> Categorical:
    """Fit the classes of log T by cross-entropy: two hidden layers, Adam, cosine decay.

    The target is a Gaussian of 0.7 bins about the true log T.

    Args:
        inputs: Of voxels inside the object, finite: NaN makes all NaN.
        times: The true T in s; beyond `low` and `high` it counts as these.
        key: One typed key, for the start and the draws.
        low: The first bin's edge in s, above 0; static, as all below are.
        high: The last bin's.
        bins: Even in log T, at least 8.
        width: Of the hidden layers, at least 1.
        steps: Of the optimiser, at least 1.
        batch: Voxels in each, drawn with putting back, at least 1.
        rate: Learning rate at the start, above 0.
    """
    check_arrays(
        "train_categorical", inputs=(inputs, "N D", float), times=(times, "N", float)
    )
    check_integers(
        "train_categorical",
        bins=(bins, 8, None),
        width=(width, 1, None),
        steps=(steps, 1, None),
        batch=(batch, 1, None),
    )
    if not 0 < low < high:
        raise ValueError(
            f"train_categorical: low, high: expected 0 < low < high in s; found {low} "
            f"and {high}"
        )
    options = {"bins": bins, "width": width, "steps": steps, "batch": batch}
    edges = jnp.log(jnp.asarray([low, high], inputs.dtype))
    return _train(inputs, times, key, edges, rate=rate, **options)


@functools.partial(jax.jit, static_argnames=("bins", "width", "steps", "batch", "rate"))
def _train(
    inputs: Float[Array, "N D"],
    times: Float[Array, "N"],
    key: Key,
    edges: Float[Array, "2"],
    *,
    bins: int,
    width: int,
    steps: int,
    batch: int,
    rate: float,
) -> Categorical:
    dtype = inputs.dtype
    centre, spread = jnp.mean(inputs, axis=0), jnp.std(inputs, axis=0) + 1e-6
    place = (jnp.log(times) - edges[0]) / (edges[1] - edges[0]) * bins - 0.5
    place = jnp.clip(place, 0, bins - 1)
    start, draws = jax.random.split(key)
    sizes = [inputs.shape[1], width, width, bins]
    layers = []
    for number, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        scale = (2 / before) ** 0.5 * (0.1 if after == bins else 1)
        own = jax.random.fold_in(start, number)
        weight = scale * jax.random.normal(own, (before, after), dtype)
        layers.append(Layer(weight, jnp.zeros((after,), dtype)))
    model = Categorical(tuple(layers), centre, spread, edges)
    numbers = jnp.arange(bins, dtype=dtype)[None]
    optimizer = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-3)

    def loss(layers: tuple[Layer, ...], x: Array, at: Array) -> Array:
        target = jnp.exp(-0.5 * jnp.square((numbers - at[:, None]) / _BLUR))
        target = target / jnp.sum(target, axis=1, keepdims=True)
        found = jax.vmap(lambda x: _log_shares(model._replace(layers=layers), x))(x)
        return -jnp.mean(jnp.sum(target * found, axis=1))

    def step(carry, number):
        layers, state = carry
        own = jax.random.fold_in(draws, number)
        chosen = jax.random.randint(own, (batch,), 0, len(inputs), jnp.int32)
        grads = jax.grad(loss)(layers, inputs[chosen], place[chosen])
        updates, state = optimizer.update(grads, state, layers)
        return (optax.apply_updates(layers, updates), state), None

    carry = (model.layers, optimizer.init(model.layers))
    (layers, _), _ = jax.lax.scan(step, carry, jnp.arange(steps, dtype=jnp.int32))
    return model._replace(layers=layers)


def _log_shares(model: Categorical, inputs: Float[Array, "D"]) -> Float[Array, "F"]:
    """Of one voxel."""
    x = jnp.clip((inputs - model.centre) / model.spread, -_FAR, _FAR)
    for layer in model.layers[:-1]:
        x = jax.nn.gelu(x @ layer.weight + layer.bias)
    last = model.layers[-1]
    return jax.nn.log_softmax(x @ last.weight + last.bias)


def categorical_maps(
    model: Categorical,
    inputs: Float[Array, "*N D"],
    *,
    quantiles: tuple[float, ...] = (0.025, 0.5, 0.975),
    limit: float | None = None,
    measured: bool = True,
) -> CategoricalMaps:
    """Mean, median, sd and quantiles of the learned density, constant in each bin.

    Args:
        model: Of `train_categorical`.
        inputs: Of `categorical_inputs`, of as many numbers a voxel as in training.
        quantiles: Of (0, 1), in any order; static.
        limit: Longer T count as this, in s; static. None for none.
        measured: Whether the data are other than simulated like the training's: then a
            UserWarning is given, once a call, because nothing in the inputs tells.

    Returns:
        Maps in s. `outside` is the share of a voxel's inputs that lie 4 deviations or
        more from the training's mean; a low share does not say that a map is right.

    Raises:
        ValueError: inputs of another number than in training.
    """
    if inputs.shape[-1] != len(model.centre):
        raise ValueError(
            f"categorical_maps: inputs: expected {len(model.centre)} numbers a voxel, "
            f"as in training; found {inputs.shape[-1]}"
        )
    if measured:
        warnings.warn(
            "categorical_maps: a density that was learned from simulated subjects is "
            "not reliable on measured data, and its own intervals do not show it; "
            "use fit_posterior, or pass measured=False for simulated data",
            stacklevel=2,
        )
    return _maps(model, inputs, quantiles=tuple(quantiles), limit=limit)


@functools.partial(jax.jit, static_argnames=("quantiles", "limit"))
def _maps(
    model: Categorical,
    inputs: Float[Array, "*N D"],
    *,
    quantiles: tuple[float, ...],
    limit: float | None,
) -> CategoricalMaps:
    shape = inputs.shape[:-1]
    flat = inputs.reshape(-1, inputs.shape[-1])
    asked = tuple(dict.fromkeys((*quantiles, _MEDIAN)))

    def one(x: Float[Array, "D"]) -> tuple[Array, ...]:
        good = jnp.all(jnp.isfinite(x))
        shares = _log_shares(model, jnp.where(good, x, model.centre))
        window = Window(model.edges[0], model.edges[1], model.edges[0])
        found = summarise(shares, window, asked, limit)
        far = jnp.abs((x - model.centre) / model.spread) >= _FAR
        values = (found.mean, found.sd, *found.quantiles, jnp.mean(far, dtype=x.dtype))
        return tuple(jnp.where(good, value, jnp.nan) for value in values)

    mean, sd, *found, outside = jax.lax.map(one, flat, batch_size=_CHUNK)
    by_share = dict(zip(asked, found, strict=True))
    several = [by_share[q] for q in quantiles]
    stacked = jnp.stack(several) if several else jnp.zeros((0, len(flat)), flat.dtype)
    return CategoricalMaps(
        mean.reshape(shape),
        by_share[_MEDIAN].reshape(shape),
        sd.reshape(shape),
        stacked.reshape(-1, *shape),
        outside.reshape(shape),
    )
