from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.systems.optimizer import make_optimizer
from medjax.systems.puq import guided_fit
from medjax.systems.puq.fits import reference_fit
from medjax.systems.puq.network import Extras
from tests.systems.toy_qmri import (
    HARD,
    QUANTITY,
    changed,
    no_evaluation,
    toy_batch,
    toy_system,
)


@pytest.fixture(scope="module")
def batch():
    return toy_batch()


@pytest.fixture(scope="module")
def fit():
    return guided_fit.build(
        HARD,
        make_optimizer(lr=3e-3, steps=400),
        no_evaluation,
        partial(reference_fit, QUANTITY),
        guided_fit.Schedule(passes=4, chunk=2, minibatches=10, minibatch=128),
    )


def test_learns_from_the_frozen_network(fit, batch):
    system = toy_system()
    state = jax.jit(system.init)(jax.random.key(0))
    update = jax.jit(system.update)
    for step in range(3):
        state, _ = update(state, batch, jax.random.key(step))
    start = jax.jit(fit.init)(jax.random.key(1), state.params)
    step_fit = jax.jit(fit.update)
    state, losses = start, []
    for step in range(8):
        state, metrics = step_fit(state, batch, jax.random.key(step))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert changed(start.params, state.params) == {
        "regressors.guided",
        "regressors.plain",
        "misfit.",
    }


def test_a_density_learns_beside_the_regressors_and_moves_none_of_them(batch):
    estimator = HARD._replace(extras=Extras(bins=16, width=8))
    both = guided_fit.build(
        estimator,
        make_optimizer(lr=3e-3, steps=400, clip_norm=None),
        no_evaluation,
        partial(reference_fit, QUANTITY),
        guided_fit.Schedule(passes=4, chunk=2, minibatches=10, minibatch=128),
    )
    alone = guided_fit.build(
        HARD,
        make_optimizer(lr=3e-3, steps=400, clip_norm=None),
        no_evaluation,
        partial(reference_fit, QUANTITY),
        guided_fit.Schedule(passes=4, chunk=2, minibatches=10, minibatch=128),
    )
    key, found = jax.random.key(1), {}
    for name, system in (("both", both), ("alone", alone)):
        state = jax.jit(system.init)(key)
        state.params["network"]["trained"]["weights"]["BatchNorm_2"]["scale"] += 0.3
        update, rows = jax.jit(system.update), []
        for step in range(6):
            state, metrics = update(state, batch, jax.random.key(step))
            rows.append(metrics)
        found[name] = state, rows
    entropies = [float(row["cross_entropy"]) for row in found["both"][1]]
    assert entropies[0] < 1.1 * np.log(16) and entropies[-1] < 0.8 * entropies[0]
    first, second = (found[name][1] for name in ("both", "alone"))
    assert "cross_entropy" not in second[0]
    for one, other in zip(first, second, strict=True):
        # fits of both images in one program round otherwise
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-3)
        np.testing.assert_allclose(one["grad_norm"], other["grad_norm"], rtol=1e-2)
    inputs = found["both"][0].params["inputs"]
    assert np.isfinite(inputs["centre"]).all() and (inputs["spread"] >= 0.05).all()
    assert float(inputs["spread"][4]) == pytest.approx(0.05)  # log R: all the same


def test_misfit_is_the_root_mean_square_over_all_steps(fit, batch):
    """Relative to a voxel's largest contrast, where it can be fitted; NumPy."""
    state = jax.jit(fit.init)(jax.random.key(1))
    update = jax.jit(fit.update)
    squares = []
    for step, rows in enumerate((batch, batch._replace(valid=jnp.arange(8) < 3))):
        state, _ = update(state, rows, jax.random.key(step))
        _, model, ok = jax.tree.map(np.asarray, reference_fit(QUANTITY, rows.target))
        judged = ok & np.asarray(rows.roi) & np.asarray(rows.valid)[:, None, None]
        residual = np.moveaxis(np.asarray(rows.target) - model, 1, 0)[:, judged]
        scale = np.abs(np.asarray(rows.target)).max(axis=1)[judged]
        squares.append(np.mean((residual / scale) ** 2, axis=1))
    expected = np.sqrt(np.mean(squares, axis=0))
    np.testing.assert_allclose(state.params["misfit"], expected, rtol=1e-4)
    assert (expected > 1e-3).all()  # mixtures of tissues are not mono-exponential


def test_regressor_inputs_are_the_authors():
    mean = jnp.array([2.0, -4.0, 1.0]).reshape(1, 3, 1, 1)
    std = jnp.array([0.2, 0.4, 0.1]).reshape(1, 3, 1, 1)
    inputs, usable = guided_fit.regressor_inputs(mean, std, normalisation="first")
    np.testing.assert_allclose(inputs["plain"][0, 0, 0], [1, -2, 0.5])
    np.testing.assert_allclose(
        inputs["guided"][0, 0, 0], [1, -2, 0.5, 0.1, 0.2, 0.05], rtol=1e-6
    )
    assert usable.all()
    largest, _ = guided_fit.regressor_inputs(mean, std, normalisation="largest")
    np.testing.assert_allclose(largest["plain"][0, 0, 0], [0.5, -1, 0.25])


def test_faint_voxels_give_no_inputs_and_no_nan():
    mean = jnp.array([[1.0, 1e-4], [0.5, 3.0]]).reshape(1, 2, 1, 2)
    inputs, usable = guided_fit.regressor_inputs(mean, mean, normalisation="first")
    assert usable.tolist() == [[[True, False]]]
    np.testing.assert_array_equal(inputs["guided"][0, 0, 1], 0)


def test_unknown_normalisation_is_named():
    one = jnp.ones((1, 2, 1, 1))
    with pytest.raises(
        ValueError, match="expected one of first, largest, found 'second'"
    ):
        guided_fit.regressor_inputs(one, one, normalisation="second")
