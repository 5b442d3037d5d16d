"""PUQ: reconstruction with phase-wise uncertainty, then a fit guided by it.

Two systems over one tree of parameters, trained one after the other:

`puq.build`         the unrolled network, by the squared error of its images
`guided_fit.build`  per-voxel regressors from mean and standard deviation of Monte-Carlo
                    dropout passes to T1 or T2, and the misfit of the signal model that
                    a weighted fit has to allow for

Source: the authors' public code (Haozhoong/PUQ); the paper's text was not available.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from medjax.masked import masked_mean
from medjax.models.denoiser import Regressor
from medjax.mri.moments import monte_carlo_moments
from medjax.sharding import optimizer_axes
from medjax.systems.puq.network import Design, init_network, reconstruct
from medjax.types import Key, Params, QmriBatch, System, TrainState


def init_params(
    design: Design, regressor: Regressor, contrasts: int, key: Key
) -> Params:
    """{"network", "regressors": {"guided", "plain"}, "misfit": [E]}."""
    keys = jax.random.split(key, 3)
    inputs = {"guided": 2 * contrasts, "plain": contrasts}
    regressors = {
        name: regressor.init(k, jnp.zeros((1, size), jnp.float32))["params"]
        for (name, size), k in zip(inputs.items(), keys[1:], strict=True)
    }
    return {
        "network": init_network(design, keys[0]),
        "regressors": regressors,
        "misfit": jnp.zeros((contrasts,), jnp.float32),
    }


def slice_keys(key: Key, sample_id: Array) -> Key:
    """One key a slice, whatever batch it is in."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, sample_id)


def image_moments(
    design: Design,
    network: Params,
    batch: QmriBatch,
    key: Key,
    *,
    basis: Float[Array, "E K"] | None,
    passes: int,
    chunk: int,
) -> tuple[Float[Array, "B E H W"], Float[Array, "B E H W"]]:
    """Mean and sample standard deviation of passes with dropout: PUQ's uncertainty.

    Norms use their running statistics. The authors take 100 passes.
    """

    def draw(key):
        keys = slice_keys(key, batch.sample_id)
        samples = (batch.kspace, batch.mask, batch.sens)
        return reconstruct(
            design, network, *samples, keys, basis=basis, training=False
        )[0]

    return monte_carlo_moments(draw, key, passes=passes, chunk=chunk)


def build(
    design: Design,
    regressor: Regressor,
    optimizer: optax.GradientTransformation,
    evaluate: Callable[..., Any],
    *,
    contrasts: int,
    basis: Float[Array, "E K"] | None,
) -> System:
    """Train the network: mean squared error of the real part, over whole slices.

    Args:
        design: of the network.
        regressor: of the next stage, whose parameters are kept here.
        optimizer: for the network.
        evaluate: as `System.evaluate`.
        contrasts: E.
        basis: of a subspace.
    """

    def init(key: Key, start: Params | None = None) -> TrainState:
        fresh = init_params(design, regressor, contrasts, key)
        params = fresh if start is None else start
        opt_state = optimizer.init(params["network"]["trained"])
        return TrainState(params, opt_state, jnp.zeros((), jnp.int32))

    def update(
        state: TrainState, batch: QmriBatch, key: Key
    ) -> tuple[TrainState, dict[str, Array]]:
        network = state.params["network"]
        keys = slice_keys(key, batch.sample_id)

        def loss_fn(trained):
            images, statistics = reconstruct(
                design,
                {"trained": trained, "statistics": network["statistics"]},
                batch.kspace,
                batch.mask,
                batch.sens,
                keys,
                basis=basis,
                training=True,
            )
            error = jnp.square(images - batch.target).mean((1, 2, 3))
            return masked_mean(error, batch.valid), (images, statistics)

        grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (images, statistics)), grads = grad(network["trained"])
        updates, opt_state = optimizer.update(
            grads, state.opt_state, network["trained"]
        )
        trained = optax.apply_updates(network["trained"], updates)
        network = {"trained": trained, "statistics": statistics}
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "nrmse": masked_mean(image_nrmse(images, batch), batch.valid),
        }
        params = state.params | {"network": network}
        return TrainState(params, opt_state, state.step + 1), metrics

    axes = state_axes(design, regressor, optimizer, contrasts, ("network", "trained"))
    return System(init, update, evaluate, axes)


def image_nrmse(images: Float[Array, "B E H W"], batch: QmriBatch) -> Float[Array, "B"]:
    """|x - target| / |target| over the region of interest and all contrasts."""
    roi = batch.roi[:, None]
    error = jnp.where(roi, jnp.square(images - batch.target), 0).sum((1, 2, 3))
    power = jnp.where(roi, jnp.square(batch.target), 0).sum((1, 2, 3))
    return jnp.sqrt(error / jnp.where(power > 0, power, 1))


def state_axes(
    design: Design,
    regressor: Regressor,
    optimizer: optax.GradientTransformation,
    contrasts: int,
    trained: tuple[str, ...],
) -> TrainState:
    """Everything is held whole by every device: the networks are small.

    `trained` is the path in the parameters of what the optimiser moves.
    """
    shapes = jax.eval_shape(
        lambda key: init_params(design, regressor, contrasts, key), jax.random.key(0)
    )
    axes = jax.tree.map(lambda _: PartitionSpec(), shapes)
    part, part_axes = shapes, axes
    for name in trained:
        part, part_axes = part[name], part_axes[name]
    return TrainState(axes, optimizer_axes(optimizer, part, part_axes), PartitionSpec())
