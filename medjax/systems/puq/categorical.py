"""A density of the time constant that is learned: classes of log T from maps.

It takes the place of PUQ's regressor where the data are those of its training: what it
has learned is the training's distribution of time constants and of the reconstruction's
errors. On a measured slice a prototype of it, trained on simulated subjects, had an
NRMSE of 0.28 to 1.39 where the posterior without training has 0.22 to 0.25, and most
inputs were inside the training's range. `categorical_maps` warns of measured data.
"""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from medjax.checks import check_arrays, check_integers
from medjax.mri.posterior import PosteriorFit
from medjax.types import Key, Params

INPUTS = 21  # numbers a voxel, see `categorical_inputs`
MEASURED = (  # why not
    "a density that was learned from simulated subjects is not reliable on measured "
    "data, and its own intervals do not show it"
)
FEWEST_BINS = 8
_BLUR = 0.7  # bins: sd of the target, so that neighbours are not wholly wrong
_FAR = 4.0  # sd of the training's inputs: what is beyond counts as this
_JUMP = 2.0  # largest difference to a neighbour, of logs
_CHUNK = 8192  # voxels at a time: 72 classes of each are held
_MEDIAN = 0.5
_NARROW = 0.05  # least spread of an input, all of which are logarithms


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
        bins=(bins, FEWEST_BINS, None),
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
    centre, spread = input_range(inputs, jnp.ones(len(inputs), bool))
    place = bin_place(times, edges, bins=bins)
    start, draws = jax.random.split(key)
    layers = init_layers(start, (inputs.shape[1], width, width, bins), dtype)
    optimizer = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-3)

    def loss(layers: tuple[Layer, ...], x: Array, at: Array) -> Array:
        return jnp.mean(
            cross_entropy(Categorical(layers, centre, spread, edges), x, at)
        )

    def step(carry, number):
        layers, state = carry
        own = jax.random.fold_in(draws, number)
        chosen = jax.random.randint(own, (batch,), 0, len(inputs), jnp.int32)
        grads = jax.grad(loss)(layers, inputs[chosen], place[chosen])
        updates, state = optimizer.update(grads, state, layers)
        return (optax.apply_updates(layers, updates), state), None

    carry = (layers, optimizer.init(layers))
    (layers, _), _ = jax.lax.scan(step, carry, jnp.arange(steps, dtype=jnp.int32))
    return Categorical(layers, centre, spread, edges)


def init_layers(
    key: Key, sizes: tuple[int, ...], dtype: Any = jnp.float32
) -> tuple[Layer, ...]:
    """Layers before training, He's scale but a tenth of it in the last one.

    Args:
        key: One typed key, not to be used again.
        sizes: Of the inputs, of each hidden layer and of the classes; static.
        dtype: Of all arrays.
    """
    layers = []
    pairs = list(zip(sizes, sizes[1:], strict=False))
    for number, (before, after) in enumerate(pairs):
        scale = (2 / before) ** 0.5 * (0.1 if number == len(pairs) - 1 else 1)
        own = jax.random.fold_in(key, number)
        weight = scale * jax.random.normal(own, (before, after), dtype)
        layers.append(Layer(weight, jnp.zeros((after,), dtype)))
    return tuple(layers)


def to_params(layers: tuple[Layer, ...]) -> dict[str, Any]:
    """Layers by number, with the names that an optimiser knows a network's arrays by.

    Args:
        layers: At most ten.
    """
    return {str(n): {"kernel": x.weight, "bias": x.bias} for n, x in enumerate(layers)}


def from_params(params: Params) -> tuple[Layer, ...]:
    """Layers again, of `to_params`.

    Args:
        params: Kernel and bias by the layer's number.
    """
    return tuple(Layer(params[n]["kernel"], params[n]["bias"]) for n in sorted(params))


def input_range(
    inputs: Float[Array, "*N D"], counts: Bool[Array, "*N"]
) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
    """Mean and deviation of each input, the latter 0.05 at least.

    An input that is the same in all of the training, such as log R of one acceleration,
    then says little where it is slightly another.

    Args:
        inputs: Of `categorical_inputs`; a voxel that does not count may be NaN.
        counts: The voxels that are looked at; without any, 0 and 0.05.
    """
    where = counts.reshape(-1, 1)
    kept = jnp.where(where, inputs.reshape(-1, inputs.shape[-1]), 0)
    size = jnp.maximum(jnp.sum(counts, dtype=inputs.dtype), 1)
    centre = jnp.sum(kept, axis=0) / size
    away = jnp.where(where, kept - centre[None], 0)
    spread = jnp.sqrt(jnp.sum(jnp.square(away), axis=0) / size)
    return centre, jnp.maximum(spread, _NARROW)


def bin_place(
    times: Float[Array, "*N"], edges: Float[Array, "2"], *, bins: int
) -> Float[Array, "*N"]:
    """Where log T lies among classes, 0 in the middle of the first of them.

    Args:
        times: T in s, above 0; beyond the edges it counts as the nearest class.
        edges: log of the first class's beginning and of the last one's end.
        bins: How many classes; static.
    """
    place = (jnp.log(times) - edges[0]) / (edges[1] - edges[0]) * bins - 0.5
    return jnp.clip(place, 0, bins - 1)


def cross_entropy(
    model: Categorical, inputs: Float[Array, "N D"], place: Float[Array, "N"]
) -> Float[Array, "N"]:
    """Of each voxel, to a Gaussian of 0.7 classes about the place of its T.

    Args:
        model: Before or in training.
        inputs: Of `categorical_inputs`, finite.
        place: Of `bin_place`.
    """
    numbers = jnp.arange(len(model.layers[-1].bias), dtype=inputs.dtype)[None]
    target = jnp.exp(-0.5 * jnp.square((numbers - place[:, None]) / _BLUR))
    target = target / jnp.sum(target, axis=1, keepdims=True)
    found = jax.vmap(lambda x: _log_shares(model, x))(inputs)
    return -jnp.sum(target * found, axis=1)


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
            f"categorical_maps: {MEASURED}; use fit_posterior, or pass measured=False "
            "for simulated data",
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
    asked = jnp.asarray([*quantiles, _MEDIAN], inputs.dtype)

    def one(x: Float[Array, "D"]) -> tuple[Array, ...]:
        good = jnp.all(jnp.isfinite(x))
        shares = jnp.exp(_log_shares(model, jnp.where(good, x, model.centre)))
        found = _summarise(shares, model.edges, asked, limit)
        far = jnp.abs((x - model.centre) / model.spread) >= _FAR
        values = (*found, jnp.mean(far, dtype=x.dtype))
        return tuple(jnp.where(good, value, jnp.nan) for value in values)

    mean, sd, found, outside = jax.lax.map(one, flat, batch_size=_CHUNK)
    found = jnp.moveaxis(found, 1, 0).reshape(-1, *shape)
    return CategoricalMaps(
        mean.reshape(shape),
        found[-1],
        sd.reshape(shape),
        found[:-1],
        outside.reshape(shape),
    )


def _summarise(
    shares: Float[Array, "F"],
    edges: Float[Array, "2"],
    quantiles: Float[Array, "Q"],
    limit: float | None,
) -> tuple[Array, Array, Float[Array, "Q"]]:
    """Mean, sd and quantiles in s of a density of log T that each bin has constant.

    `mri.posterior_summary.summarise` is faster on many voxels, and slow to compile.
    """
    bins = len(shares)
    width = (edges[1] - edges[0]) / bins
    numbers = jnp.arange(bins, dtype=shares.dtype)
    times = jnp.exp(edges[0] + width * (numbers + 0.5))
    below = jnp.cumsum(shares)  # up to the end of each bin
    at = jnp.sum(below[None, :] < quantiles[:, None], axis=1)
    at = jnp.minimum(at, bins - 1)
    inside = (quantiles - (below - shares)[at]) / jnp.maximum(shares[at], 1e-30)
    found = jnp.exp(edges[0] + width * (at + jnp.clip(inside, 0, 1)))
    if limit is not None:
        times, found = jnp.minimum(times, limit), jnp.minimum(found, limit)
    mean = jnp.sum(shares * times)
    return mean, jnp.sqrt(jnp.sum(shares * jnp.square(times - mean))), found
