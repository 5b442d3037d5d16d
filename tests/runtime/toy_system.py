"""A system of a few numbers, with all the parts that a checkpoint must carry."""

from typing import NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from medjax.sharding import optimizer_axes
from medjax.types import System, TrainState

RULES = {"batch": ("data", "fsdp"), "embed": "fsdp", "mlp": "model"}
MESH = {"data": 2, "fsdp": 2, "model": 2}
ONE = {"data": 1, "fsdp": 1, "model": 1}


class Carry(NamedTuple):
    threshold: jax.Array
    noise: jax.Array  # a typed key in the carry


def build(*, width=8, learning_rate=0.1, nan_at=-1, split=False):
    """Linear regression on noisy targets, with a threshold that follows the loss."""
    tx = optax.adam(learning_rate)
    axes = {"kernel": P("embed", "mlp"), "bias": P("mlp")}

    def init(key, params=None):
        if params is None:
            params = {
                "kernel": jax.random.normal(key, (4, width), jnp.float32),
                "bias": jnp.zeros(width, jnp.float32),
            }
        carry = Carry(jnp.zeros((), jnp.float32), jax.random.fold_in(key, 7))
        return TrainState(params, tx.init(params), jnp.zeros((), jnp.int32), carry)

    def loss_fn(params, batch, key):
        noise = jax.random.normal(key, batch["y"].shape, jnp.float32)
        out = batch["x"] @ params["kernel"] + params["bias"][None]
        return jnp.mean((out.mean(1) - batch["y"] - jnp.float32(0.1) * noise) ** 2)

    def update(state, batch, key):
        loss, grads = jax.value_and_grad(loss_fn)(state.params, batch, key)
        loss = jnp.where(state.step == nan_at, jnp.float32(jnp.nan), loss)
        grads = jax.tree.map(lambda g: g + (loss - loss), grads)
        with jax.numpy_dtype_promotion("standard"):  # optax: 1 - decay**count
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
        aux = Carry(
            jnp.float32(0.9) * state.aux.threshold + jnp.float32(0.1) * loss,
            jax.random.fold_in(state.aux.noise, 1),
        )
        new = TrainState(
            optax.apply_updates(state.params, updates), opt_state, state.step + 1, aux
        )
        return new, {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "tau": aux.threshold,
            "tokens": jnp.float32(batch["y"].shape[0]),
        }

    def evaluate(state, batch, key):
        out = (batch["x"] @ state.params["kernel"] + state.params["bias"][None]).mean(1)
        return {"out": out}, {"error": jnp.abs(out - batch["y"])}

    def prepare(state, batch, key):
        return batch | {"y": jax.device_get(batch["y"])}

    shapes = jax.eval_shape(init, jax.random.key(0))
    state_axes = TrainState(
        axes, optimizer_axes(tx, shapes.params, axes), P(), Carry(P(), P())
    )
    return System(init, update, evaluate, state_axes, prepare if split else None)


def source(*, seed=0, rows=8, lengths=(8,)):
    """Batches keyed by (seed, index); the number of rows cycles through `lengths`."""

    def batch(index, rng):
        size = lengths[index % len(lengths)] if lengths else rows
        x = rng.normal(size=(size, 4)).astype(np.float32)
        return {"x": x, "y": x.sum(1)}

    return (
        grain.MapDataset.range(10**6)
        .seed(seed)
        .random_map(batch)
        .to_iter_dataset(grain.ReadOptions(num_threads=0))
    )
