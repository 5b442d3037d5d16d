from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.sharding import batch_sharding, make_mesh, shard_tree
from medjax.systems.puq import reconstruction
from tests.systems.toy_qmri import HARD, LOW_RANK, changed, toy_batch, toy_system


@pytest.fixture(scope="module")
def batch():
    return toy_batch()


@pytest.fixture(scope="module")
def hard():
    system = toy_system()
    return system, jax.jit(system.init)(jax.random.key(0)), jax.jit(system.update)


def test_reconstruction_learns_and_leaves_the_fit_alone(hard, batch):
    _, state, update = hard
    start, losses = state.params, []
    for step in range(12):
        state, metrics = update(state, batch, jax.random.key(step))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert int(state.step) == 12
    assert changed(start, state.params) == {"network.trained", "network.statistics"}


def test_subspace_and_shared_stages_learn_with_their_damping(batch):
    system = toy_system(LOW_RANK)
    state = jax.jit(system.init)(jax.random.key(0))
    update = jax.jit(system.update)
    start = state.params["network"]
    losses = []
    for step in range(8):
        state, metrics = update(state, batch, jax.random.key(step))
        losses.append(float(metrics["loss"]))
    network = state.params["network"]
    assert losses[-1] < losses[0]
    kernel = network["trained"]["weights"]["Conv_0"]["kernel"]
    assert kernel.shape == (3, 3, 4, 6)  # one for all stages
    moved = network["trained"]["log_damping"] - start["trained"]["log_damping"]
    assert (jnp.abs(moved) > 0).all()


def test_a_step_needs_nothing_from_the_host(hard, batch):
    _, state, update = hard
    key = jax.random.key(3)
    update(state, batch, key)
    with jax.transfer_guard("disallow"):
        update(state, batch, key)


def test_eight_devices_give_what_one_gives(hard, batch):
    system, state, update = hard
    alone, metrics = update(state, batch, jax.random.key(1))
    mesh = make_mesh({"data": 8})
    rules = {"batch": ("data",)}
    spread = shard_tree(batch, batch_sharding(batch, mesh, rules))
    shared, many = jax.jit(system.update)(state, spread, jax.random.key(1))
    # sums over the batch's voxels are taken in another order
    for name in ("loss", "nrmse", "grad_norm"):
        np.testing.assert_allclose(many[name], metrics[name], rtol=1e-5)
    old, new = (s.params["network"]["statistics"] for s in (alone, shared))
    for x, y in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        np.testing.assert_allclose(y, x, atol=1e-5)


def test_rows_that_only_fill_the_batch_do_not_count(hard, batch):
    _, state, update = hard
    few = batch._replace(valid=jnp.arange(8) < 4)
    other = few._replace(target=few.target.at[4:].add(1.0))
    _, metrics = update(state, few, jax.random.key(0))
    _, same = update(state, other, jax.random.key(0))
    assert float(metrics["loss"]) == float(same["loss"])


def test_moments_do_not_depend_on_the_batch_s_layout(hard, batch):
    _, state, update = hard
    trained, _ = update(state, batch, jax.random.key(0))
    moments = jax.jit(partial(reconstruction.image_moments, HARD, passes=4, chunk=2))
    key = jax.random.key(9)
    mean, std = moments(trained.params["network"], batch, key)
    order = jnp.array([5, 2, 7, 0, 1, 3, 4, 6])
    moved = jax.tree.map(lambda x: x[order], batch)
    again = moments(trained.params["network"], moved, key)
    for x, y in zip((mean, std), again, strict=True):
        np.testing.assert_allclose(y, x[order], atol=1e-6)
    assert float(std.mean()) > 0
