from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.signals import signal
from medjax.mri.subspace import exponential_basis
from medjax.systems.puq import maps as quantification
from medjax.systems.puq.fits import (
    fit_images,
    guided_variance,
    reference_fit,
    regressed_map,
)
from medjax.systems.puq.maps import Classical, evaluate_maps, methods_of
from medjax.systems.puq.network import Extras
from medjax.systems.puq.posterior_maps import dropout_posterior
from medjax.systems.puq.reconstruction import init_params
from medjax.types import TrainState
from tests.systems.toy_qmri import HARD, QUANTITY, TIMES, E, toy_batch


@pytest.fixture(scope="module")
def batch():
    return toy_batch()


@pytest.fixture(scope="module")
def params():
    fresh = init_params(HARD, jax.random.key(2))
    # the last norm starts at 0; with a value of its own dropout shows
    weights = fresh["network"]["trained"]["weights"]
    weights["BatchNorm_2"]["scale"] += 0.3
    return fresh | {"misfit": jnp.full((E,), 0.02, jnp.float32)}


def decay(t2):
    parameters = {"s0": jnp.ones_like(t2), "t2": t2}
    return jnp.moveaxis(signal(QUANTITY.model, parameters, TIMES), 0, 1)


def test_a_decay_s_reference_is_itself():
    t2 = jnp.linspace(0.03, 0.5, 24, dtype=jnp.float32).reshape(1, 4, 6)
    images = decay(t2)
    found, model, ok = reference_fit(QUANTITY, images)
    np.testing.assert_allclose(found, t2, rtol=1e-4)
    np.testing.assert_allclose(model, images, atol=1e-5)
    assert ok.all()


def test_what_cannot_be_fitted_is_marked():
    images = decay(jnp.full((1, 1, 2), 0.1, jnp.float32)).at[..., 1].set(0)
    _, model, ok = reference_fit(QUANTITY, images)
    assert ok.tolist() == [[[True, False]]]
    assert jnp.isfinite(model).all()


def test_variance_adds_the_model_s_misfit_at_the_signal_s_scale():
    mean = jnp.array([2.0, 1.0]).reshape(1, 2, 1, 1)
    std = jnp.array([0.3, 0.0]).reshape(1, 2, 1, 1)
    misfit = jnp.array([0.1, 0.2])
    found = guided_variance(mean, std, misfit)[0, :, 0, 0]
    np.testing.assert_allclose(found, [0.3**2 + 0.2**2, 0.4**2], rtol=1e-6)


def test_equal_variances_leave_the_fit_alone(batch):
    images = batch.target[:2]
    plain = fit_images(QUANTITY, images)
    same = fit_images(QUANTITY, images, variance=jnp.full_like(images, 1e-4))
    name = QUANTITY.model.time_constant
    np.testing.assert_allclose(same.params[name], plain.params[name], rtol=1e-3)


def test_sigma_of_a_regressed_map_is_first_order_propagation(batch, params):
    mean, std = batch.target[:1], 0.01 * jnp.ones_like(batch.target[:1])
    estimator = HARD._replace(normalisation="largest")

    def at(x):
        return regressed_map(estimator, params["regressors"], "guided", x, std)

    value, sigma = jax.jit(at)(mean)
    row, column = np.argwhere(np.asarray(batch.roi[0]))[40]
    step, total = 1e-3, 0.0
    for e in range(E):
        up, down = (
            at(mean.at[0, e, row, column].add(sign * step))[0][0, row, column]
            for sign in (1, -1)
        )
        total += float(((up - down) / (2 * step) * 0.01) ** 2)
    # differences of float32 maps near 1 s over 2e-3
    np.testing.assert_allclose(sigma[0, row, column], total**0.5, rtol=0.02)
    assert jnp.isfinite(value[batch.roi[:1]]).all()


def test_sigma_of_images_in_a_subspace_covers_the_truth():
    """Noise in K of E dimensions: the residual's degrees of freedom are K - P."""
    rng = np.random.default_rng(0)
    times = np.linspace(0.0, 0.14, 8)
    quantity = QUANTITY._replace(times=tuple(times.tolist()))
    basis = exponential_basis(times, rank=4, low=0.03, high=2.5, atoms=200)
    truth = np.exp(-times / 0.08)
    noise = 0.01 * rng.normal(size=(8, 60, 60))
    images = np.einsum(
        "ek,fk,fxy->exy", basis, basis, truth[:, None, None] + noise
    ).astype(np.float32)[None]
    fit = fit_images(quantity, jnp.asarray(images), rank=4)
    wrong = np.asarray(fit.params["t2"]) - 0.08
    # the deviation over voxels, against the mean variance that fits claim
    claimed = np.sqrt(np.mean(np.asarray(fit.sigma["t2"]) ** 2))
    assert claimed == pytest.approx(wrong.std(), rel=0.1)
    unknown = fit_images(quantity, jnp.asarray(images), rank=2)
    assert np.isnan(unknown.sigma["t2"]).all()


def evaluate_with(params, batch, guided):
    classical = {"target": Classical(lambda batch, key: batch.target, None)}
    evaluate = partial(evaluate_maps, HARD, classical, passes=4, chunk=2, guided=guided)
    state = TrainState(params, (), jnp.zeros((), jnp.int32))
    return jax.jit(evaluate)(state, batch, jax.random.key(0))


def test_evaluation_holds_every_method_s_map(batch, params):
    found, metrics = evaluate_with(params, batch, guided=True)
    names = methods_of(["target"], guided=True)
    assert set(found.maps) == set(found.sigma) == set(names)
    assert names[-1] == quantification.GUIDED
    np.testing.assert_array_equal(found.maps["target"], found.reference)
    np.testing.assert_allclose(metrics["image nrmse: target"], 0)
    assert (metrics["image nrmse: unrolled"] > 0).all()
    assert (found.std > 0).any()


def test_a_density_and_a_factor_of_the_run_s_own(batch, params):
    """Rows that a run may have beside PUQ's; the factor is what the posterior has."""
    extras = Extras(bins=16, width=8, factors=(1.0, 8.0))
    estimator = HARD._replace(extras=extras)
    more = init_params(estimator, jax.random.key(2))
    factor = jnp.full((), 3.0, jnp.float32)
    counts = {"covered": jnp.asarray([20.0, 80.0], jnp.float32), "factor": factor}
    more["dropout"] |= counts | {"voxels": jnp.full((), 100.0, jnp.float32)}
    more |= {k: params[k] for k in ("network", "misfit")}
    evaluate = partial(evaluate_maps, estimator, {}, passes=4, chunk=2, guided=True)
    state = TrainState(more, (), jnp.zeros((), jnp.int32))
    found, metrics = jax.jit(evaluate)(state, batch, jax.random.key(0))
    assert set(found.maps) == set(methods_of([], guided=True, density=True))
    np.testing.assert_array_equal(metrics[quantification.FACTOR], np.full(8, 3.0))
    share = 0.2 + 0.6 * np.log(3) / np.log(8)  # between 0.2 at 1 and 0.8 at 8
    np.testing.assert_allclose(metrics[quantification.COVERED], share, rtol=1e-5)
    posterior = dropout_posterior(
        found.mean,
        found.std,
        np.asarray(TIMES, np.float32),
        model=QUANTITY.model,
        bounds=QUANTITY.bounds,
        quantiles=(0.025, 0.975),
        factor=3.0,
    )
    for name, value in (
        (quantification.POSTERIOR, posterior.median),
        ("unrolled, posterior mean", posterior.mean),
    ):
        # a posterior's grid of T follows the images, which two programs round otherwise
        np.testing.assert_allclose(found.maps[name], value, rtol=1e-3)
    low, high = np.moveaxis(np.asarray(found.quantiles["unrolled, categorical"]), 1, 0)
    seen = np.isfinite(np.asarray(found.maps[quantification.CATEGORICAL]))
    assert seen.any() and (low[seen] < high[seen]).all()


def test_before_the_second_stage_there_is_the_network_s_own_map(batch, params):
    found, _ = evaluate_with(params, batch, guided=False)
    assert set(found.maps) == {"target", quantification.UNROLLED}
    assert not found.std.any()
