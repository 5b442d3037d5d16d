"""Magnitude inversion recovery: the sign comes back, and the best null index wins."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri import catalogue, signals
from medjax.mri.fit import FitStatus, fit_map
from medjax.mri.polarity import restore_sign
from medjax.mri.varpro import Weighted

TI = np.array([2.0, 0.05, 0.2, 0.5, 1.0, 4.0])  # in no order


def images(voxels, noise, seed=0, efficiency=None):
    rng = np.random.default_rng(seed)
    t1 = rng.uniform(0.1, 4.0, voxels)
    clean = np.asarray(signals.signal_t1_ir(1.0, t1, TI, efficiency=efficiency))
    return t1, clean + noise * rng.standard_normal(clean.shape)


@pytest.mark.parametrize(
    "model", [catalogue.T1_IR, catalogue.T1_IR3], ids=lambda m: m.name
)
def test_equals_the_signed_fit(model):
    """At SNR 1000 no sample but the one at the null is in doubt."""
    efficiency = None if model is catalogue.T1_IR else 0.93
    t1, signed = images(60, 0.001, efficiency=efficiency)
    expected = fit_map(signed, TI, model=model)
    found = fit_map(np.abs(signed), TI, model=model, magnitude=True)
    assert np.all(found.status == FitStatus.CONVERGED)
    same = np.isclose(found.residual, expected.residual, rtol=1e-9)
    assert same.mean() > 0.9
    for key in model.parameters:
        ours, theirs = found.params[key], expected.params[key]
        np.testing.assert_allclose(ours[same], theirs[same], rtol=1e-7)
        close = 5 * np.asarray(expected.sigma[key])
        assert np.all(np.abs(np.asarray(ours) - np.asarray(theirs)) < close)
    assert np.all(np.asarray(found.params["s0"]) > 0)
    assert np.median(np.abs(np.asarray(found.params["t1"]) / t1 - 1)) < 0.01


@pytest.mark.parametrize(
    "model", [catalogue.T1_IR, catalogue.T1_IR3], ids=lambda m: m.name
)
def test_no_null_index_is_better(model):
    """Noisy magnitudes: every sign pattern fitted apart, the best one is found."""
    _, signed = images(40, 0.15, seed=1)
    magnitudes = np.abs(signed)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, signed.shape)
    found = fit_map(magnitudes, TI, model=model, weights=weights, magnitude=True)
    order = np.argsort(TI)
    costs = []
    for negative in range(len(TI)):
        signs = np.ones(len(TI))
        signs[order[:negative]] = -1
        y = signs[:, None] * magnitudes
        one = fit_map(y, TI, model=model, weights=weights)
        fitted = signals.signal(model, one.params, TI)
        cost = np.sum(weights * (y - np.asarray(fitted)) ** 2, axis=0)
        costs.append(np.where(np.isfinite(cost), cost, np.inf))
    best = np.min(costs, axis=0)
    fitted = np.abs(np.asarray(signals.signal(model, found.params, TI)))
    ok = np.asarray(found.status) <= FitStatus.AT_BOUND
    assert ok.mean() > 0.8
    # |fit| may be nearer to a sample than the signed fit at the null, never farther.
    cost = np.sum(weights * (magnitudes - fitted) ** 2, axis=0)
    assert np.all(cost[ok] <= best[ok] * (1 + 1e-9))


def test_negative_magnitudes_are_invalid_alone():
    _, signed = images(4, 0.01)
    magnitudes = np.abs(signed)
    clean = fit_map(magnitudes, TI, model=catalogue.T1_IR, magnitude=True)
    magnitudes[2, 1] = -0.1
    found = fit_map(magnitudes, TI, model=catalogue.T1_IR, magnitude=True)
    assert [FitStatus(s).name for s in found.status][1] == "INVALID"
    rest = np.array([0, 2, 3])
    chex.assert_trees_all_equal(
        *(jax.tree.map(lambda x: x[rest], fitted) for fitted in (found, clean))
    )


def test_models_that_do_not_cross_zero_search_nothing():
    times = np.array([0.02, 0.05, 0.1])
    y = np.asarray(signals.signal_t2(np.array([1.0, 2.0]), 0.07, times))
    one = fit_map(y, times, model=catalogue.T2)
    two = fit_map(y, times, model=catalogue.T2, magnitude=True)
    chex.assert_trees_all_close(one, two, rtol=1e-12)


def test_earliest_samples_are_negated():
    y = [jnp.ones(3) for _ in TI]
    data = Weighted([y], [jnp.ones(())] * len(TI), list(jnp.asarray(TI)))
    found = np.array(restore_sign(data, jnp.asarray([0, 2, 6], jnp.int32)).channels[0])
    earliest = TI <= 0.2
    np.testing.assert_array_equal(found[:, 0], 1)
    np.testing.assert_array_equal(found[:, 1], np.where(earliest, -1, 1))
    np.testing.assert_array_equal(found[:, 2], -1)
