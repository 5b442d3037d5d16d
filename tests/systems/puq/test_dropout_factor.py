"""The factor on dropout's deviation: counted as outside of the program, and bounded."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.systems.puq import dropout_factor
from medjax.systems.puq.calibration import factor_for_coverage
from medjax.systems.puq.dropout_factor import Counting, factor_at
from medjax.systems.puq.fits import reference_fit
from medjax.systems.puq.network import Extras
from medjax.systems.puq.posterior_maps import dropout_posterior
from medjax.systems.puq.reconstruction import image_moments
from tests.systems.toy_qmri import (
    DESIGN,
    HARD,
    QUANTITY,
    TIMES,
    changed,
    no_evaluation,
    toy_batch,
)

FACTORS = (0.01, 1.0, 8.0, 1000.0)
COUNTING = Counting(coverage=0.9, passes=4, chunk=2)


def build(estimator):
    return dropout_factor.build(
        estimator._replace(extras=Extras(factors=FACTORS)),
        no_evaluation,
        partial(reference_fit, QUANTITY),
        COUNTING,
    )


def begin(system):
    """With a norm of its own behind the dropout, whose effect then shows."""
    state = jax.jit(system.init)(jax.random.key(2))
    state.params["network"]["trained"]["weights"]["BatchNorm_2"]["scale"] += 0.3
    return state


@pytest.mark.parametrize("seed", range(20))
def test_the_factor_is_that_of_the_host(seed):
    rng = np.random.default_rng(seed)
    factors = np.sort(rng.uniform(0.1, 30, 7)).astype(np.float32)
    shares = np.sort(rng.uniform(0, 1, 7)).astype(np.float32)
    shares[0], shares[-1] = 0.01, 0.99
    shares[3] = shares[2]  # no voxel between two factors
    found = factor_at(jnp.asarray(factors), jnp.asarray(shares), coverage=0.9)
    expected = factor_for_coverage(factors, shares, coverage=0.9)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_coverage_out_of_reach_gives_the_nearest_factor():
    factors = jnp.asarray([1.0, 2.0, 4.0], jnp.float32)
    for shares, factor in (((0.1, 0.2, 0.3), 4.0), ((0.96, 0.97, 0.98), 1.0)):
        found = factor_at(factors, jnp.asarray(shares, jnp.float32), coverage=0.95)
        assert float(found) == factor


def test_counts_are_those_of_the_posterior_s_intervals():
    system, batch, key = build(HARD), toy_batch(), jax.random.key(5)
    batch = batch._replace(valid=jnp.arange(len(batch.valid)) < 3)
    start = begin(system)
    state, metrics = jax.jit(system.update)(start, batch, key)
    mean, std = image_moments(
        HARD, start.params["network"], batch, key, passes=4, chunk=2
    )
    value, _, fitted = map(np.asarray, reference_fit(QUANTITY, batch.target))
    judged = fitted & np.asarray(batch.roi) & np.asarray(batch.valid)[:, None, None]
    judged &= (value < 0.999 * QUANTITY.longest) & (np.asarray(std).max(1) > 0)
    counted = state.params["dropout"]
    assert float(counted["voxels"]) == judged.sum() > 0
    for n, factor in enumerate(FACTORS):
        found = dropout_posterior(
            mean,
            std,
            np.asarray(TIMES, np.float32),
            model=QUANTITY.model,
            bounds=QUANTITY.bounds,
            quantiles=(0.05, 0.95),
            factor=factor,
        )
        low, high = np.asarray(found.quantiles)
        inside = (judged & (low <= value) & (value <= high)).sum()
        # an end of an interval may be rounded to the other side of a voxel's value
        np.testing.assert_allclose(counted["covered"][n], inside, atol=3)
    assert FACTORS[0] <= float(metrics["factor"]) <= FACTORS[-1]
    names = changed(start.params, state.params)
    assert {name.split(".")[0] for name in names} == {"dropout"}
    again, _ = jax.jit(system.update)(state, batch, key)
    np.testing.assert_allclose(
        again.params["dropout"]["covered"], 2 * counted["covered"]
    )


def test_without_dropout_nothing_counts_and_all_stays_finite():
    still = HARD._replace(design=DESIGN._replace(dropout=0.0))
    system = build(still)
    state, metrics = jax.jit(system.update)(
        begin(system), toy_batch(), jax.random.key(0)
    )
    assert float(state.params["dropout"]["voxels"]) == 0
    assert all(np.isfinite(float(x)) for x in metrics.values())
    assert float(metrics["coverage"]) == 0  # says that the factor means nothing
