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

from medjax.masked import masked_mean
from medjax.mri.moments import monte_carlo_moments
from medjax.sharding import optimizer_axes
from medjax.systems.puq.network import Estimator, init_network, reconstruct
from medjax.types import Key, Params, QmriBatch, System, TrainState

Evaluate = Callable[[TrainState, QmriBatch, Key], tuple[Any, dict[str, Array]]]
TRAINED = ("network", "trained")  # path in the parameters of what is trained here


def init_params(estimator: Estimator, key: Key) -> Params:
    """{"network", "regressors": {"guided", "plain"}, "misfit": [E]}."""
    contrasts = len(estimator.quantity.times)
    keys = jax.random.split(key, 3)
    inputs = {"guided": 2 * contrasts, "plain": contrasts}
    regressors = {
        name: estimator.regressor.init(k, jnp.zeros((1, size), jnp.float32))["params"]
        for (name, size), k in zip(inputs.items(), keys[1:], strict=True)
    }
    return {
        "network": init_network(estimator.design, keys[0]),
        "regressors": regressors,
        "misfit": jnp.zeros((contrasts,), jnp.float32),
    }


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
    """Everything is held whole by every device, for the networks are small."""
    shapes = jax.eval_shape(partial(init_params, estimator), jax.random.key(0))
    axes = jax.tree.map(lambda _: PartitionSpec(), shapes)
    part = optimizer_axes(optimizer, _at(shapes, trained), _at(axes, trained))
    return TrainState(axes, part, PartitionSpec())


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def slice_keys(key: Key, sample_id: Array) -> Key:
    """One key a slice, whatever batch it is in."""
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

    Norms use their running statistics. The authors take 100 passes; `chunk` of them are
    computed at a time, a number that divides `passes`.
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
    """One step on a batch of slices; rows that are not valid teach nothing."""
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
    """|x - target| / |target| over the region of interest and all contrasts."""
    roi = batch.roi[:, None]
    error = jnp.where(roi, jnp.square(images - batch.target), 0).sum((1, 2, 3))
    power = jnp.where(roi, jnp.square(batch.target), 0).sum((1, 2, 3))
    return jnp.sqrt(error / jnp.where(power > 0, power, 1))
