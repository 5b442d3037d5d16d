"""PUQ: reconstruction with phase-wise uncertainty, then a fit guided by it.

Two systems over one tree of parameters, trained one after the other:

`reconstruction.build`  the unrolled network, by the squared error of its images
`guided_fit.build`      per-voxel regressors from mean and standard deviation of
                        Monte-Carlo dropout passes to T1 or T2, and the misfit of the
                        signal model that a weighted fit has to allow for

Source: the authors' public code (Haozhoong/PUQ); the paper's text was not available.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from medjax.checks import check_arrays
from medjax.masked import masked_mean
from medjax.mri.moments import monte_carlo_moments
from medjax.sharding import optimizer_axes
from medjax.systems.puq.categorical import INPUTS, init_layers, to_params
from medjax.systems.puq.network import Estimator, init_network, reconstruct
from medjax.types import Key, Params, QmriBatch, System, TrainState

Evaluate = Callable[[TrainState, QmriBatch, Key], tuple[Any, dict[str, Array]]]
TRAINED = ("network", "trained")  # path in the parameters of what is trained here


def init_params(estimator: Estimator, key: Key) -> Params:
    """{"network", "regressors": {"guided", "plain"}, "misfit": [E]}, all float32.

    With the estimator's extras there are more: the layers of a density among the
    regressors and what its "inputs" were like, and of "dropout" the factor on its
    deviation and the counts that it follows from.

    Args:
        estimator: Decides the shapes; static.
        key: One typed key, not to be used again.
    """
    contrasts = len(estimator.quantity.times)
    keys = jax.random.split(key, 3)
    inputs = {"guided": 2 * contrasts, "plain": contrasts}
    regressors = {
        name: estimator.regressor.init(k, jnp.zeros((1, size), jnp.float32))["params"]
        for (name, size), k in zip(inputs.items(), keys[1:], strict=True)
    }
    params = {
        "network": init_network(estimator.design, keys[0]),
        "regressors": regressors,
        "misfit": jnp.zeros((contrasts,), jnp.float32),
    }
    bins, width, factors = estimator.extras
    if bins:
        own, scale = jax.random.fold_in(key, 3), jnp.ones((INPUTS,), jnp.float32)
        layers = init_layers(own, (INPUTS, width, width, bins))
        regressors["categorical"] = to_params(layers)
        params["inputs"] = {"centre": 0 * scale, "spread": scale}
    if factors:
        one = jnp.ones((), jnp.float32)
        counts = {"covered": jnp.zeros(len(factors), jnp.float32), "voxels": 0 * one}
        params["dropout"] = {"factor": one, **counts}
    return params


def init_state(
    estimator: Estimator,
    optimizer: optax.GradientTransformation,
    trained: tuple[str, ...],
    key: Key,
    start: Params | None = None,
) -> TrainState:
    """A state before its first step.

    Args:
        estimator: Decides the shapes of the parameters.
        optimizer: Its state is made for the trained part alone.
        trained: Path in the parameters of what the optimiser moves.
        key: Decides fresh parameters; not used where `start` is given.
        start: Parameters to begin with, as a stage before left them.
    """
    params = init_params(estimator, key) if start is None else start
    part = _at(params, trained)
    return TrainState(params, optimizer.init(part), jnp.zeros((), jnp.int32))


def state_axes(
    estimator: Estimator,
    optimizer: optax.GradientTransformation,
    trained: tuple[str, ...],
) -> TrainState:
    """Logical axes of the state: everything is held whole by every device.

    Nothing is computed; the networks are small.

    Args:
        estimator: Decides which parameters there are.
        optimizer: Its state is that of the trained part.
        trained: Path in the parameters of what the optimiser moves.
    """
    shapes = jax.eval_shape(partial(init_params, estimator), jax.random.key(0))
    axes = jax.tree.map(lambda _: PartitionSpec(), shapes)
    part = optimizer_axes(optimizer, _at(shapes, trained), _at(axes, trained))
    return TrainState(axes, part, PartitionSpec())


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def slice_keys(key: Key, sample_id: Array) -> Key:
    """One key a slice, fold_in(key, sample_id), whatever batch the slice is in.

    Args:
        key: One typed key.
        sample_id: [B] integers; equal ones get equal keys.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, sample_id)


def image_moments(
    estimator: Estimator,
    network: Params,
    batch: QmriBatch,
    key: Key,
    *,
    passes: int,
    chunk: int,
) -> tuple[Float[Array, "B E H W"], Float[Array, "B E H W"]]:
    """Mean and sample standard deviation of passes with dropout: PUQ's uncertainty.

    Norms use their running statistics.

    Args:
        estimator: The network's design.
        network: Its parameters, as `init_network` makes them.
        batch: Only its k-space, mask, sensitivities and `sample_id` are read.
        key: One typed key; decides which channels are dropped, with a slice's
            `sample_id` and not with the batch that it is in.
        passes: How many passes, a static integer of at least 2; the authors take 100.
        chunk: How many to compute at a time, a static divisor of `passes`.

    Returns:
        Mean and deviation of the real images, in the unit of k-space.
    """

    def draw(key):
        keys = slice_keys(key, batch.sample_id)
        return reconstruct(estimator, network, batch, keys, training=False)[0]

    return monte_carlo_moments(draw, key, passes=passes, chunk=chunk)


def build(
    estimator: Estimator, optimizer: optax.GradientTransformation, evaluate: Evaluate
) -> System:
    """Train the network: mean squared error of the real part, over whole slices.

    The regressors of the next stage are kept in the parameters and left alone.

    Args:
        estimator: The network's design.
        optimizer: Moves the network's weights alone.
        evaluate: Becomes `System.evaluate`; training does not call it.
    """
    return System(
        partial(init_state, estimator, optimizer, TRAINED),
        partial(update_network, estimator, optimizer),
        evaluate,
        state_axes(estimator, optimizer, TRAINED),
    )


def update_network(
    estimator: Estimator,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: QmriBatch,
    key: Key,
) -> tuple[TrainState, dict[str, Array]]:
    """One step on a batch of slices; rows that are not valid teach nothing.

    Norms, loss and metrics are those of the whole batch.

    Args:
        estimator: The network's design.
        optimizer: Moves the parameters "network" / "trained" alone.
        state: Its parameters are those of `init_params`.
        batch: Slices with their noiseless images.
        key: One typed key; decides which channels are dropped.

    Returns:
        The state one step later, and scalars: "loss" (mean squared error, in the unit
        of the images squared), "grad_norm", and "nrmse" (`image_nrmse`, the mean over
        valid slices).
    """
    network = state.params["network"]
    keys = slice_keys(key, batch.sample_id)

    def loss_fn(trained):
        params = {"trained": trained, "statistics": network["statistics"]}
        images, statistics = reconstruct(estimator, params, batch, keys, training=True)
        error = jnp.square(images - batch.target).mean((1, 2, 3))
        return masked_mean(error, batch.valid), (images, statistics)

    grad = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (images, statistics)), grads = grad(network["trained"])
    updates, opt_state = optimizer.update(grads, state.opt_state, network["trained"])
    trained = optax.apply_updates(network["trained"], updates)
    metrics = {
        "loss": loss,
        "grad_norm": optax.tree.norm(grads),
        "nrmse": masked_mean(image_nrmse(images, batch), batch.valid),
    }
    network = {"trained": trained, "statistics": statistics}
    params = state.params | {"network": network}
    return TrainState(params, opt_state, state.step + 1), metrics


def image_nrmse(images: Float[Array, "B E H W"], batch: QmriBatch) -> Float[Array, "B"]:
    """|x - target| / |target| over the region of interest and all contrasts.

    Args:
        images: Real, in the unit of `batch.target`. What stands outside the region of
            interest is not read.
        batch: Only `target` and `roi` are read.

    Returns:
        One number a slice, at least 0; |x - target| where the target is 0 in the
        region, as in an empty one, which gives 0.

    Raises:
        ValueError: images of another shape than the target.
    """
    check_arrays(
        "image_nrmse",
        target=(batch.target, "B E H W", float),
        roi=(batch.roi, "B H W", bool),
        images=(images, "B E H W", float),
    )
    roi = batch.roi[:, None]
    error = jnp.where(roi, jnp.square(images - batch.target), 0).sum((1, 2, 3))
    power = jnp.where(roi, jnp.square(batch.target), 0).sum((1, 2, 3))
    return jnp.sqrt(error / jnp.where(power > 0, power, 1))
