"""The regression of errors, the factor for coverage, how far a calibration holds."""

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.systems.puq.calibration import (
    Calibration,
    Protocol,
    calibrated_sd,
    covered,
    factor_for_coverage,
    kappa_at,
    protocol_doubts,
    regress_error,
)

RNG = np.random.default_rng(0)
TIMES = (0.0, 0.05, 0.1)
MADE = Calibration(
    reconstruction="joint TV",
    protocol=Protocol("t2", TIMES, 2.0, 8),
    features=("gradient", "doubling"),
    exponents=(0.25, 0.75),
    level=0.5,
    rate=0.4,
    accelerations=(4.0, 8.0),
    kappa=(1.0, 2.0),
    coverage=0.95,
)


def voxels(noise, count=20_000):
    features = np.exp(RNG.normal(-4, 1, (3, count)))
    rates = RNG.choice([4.0, 6.0, 8.0], count)
    logs = np.array([0.3, 0.9, -0.2]) @ np.log(features) + 0.7 + 0.5 * np.log(rates / 6)
    return features, np.exp(logs + noise * RNG.standard_normal(count)), rates


def test_exponents_come_back():
    found = regress_error(*voxels(0.0))
    np.testing.assert_allclose(found.exponents, [0.3, 0.9, -0.2], atol=1e-10)
    np.testing.assert_allclose([found.level, found.rate], [0.7, 0.5], atol=1e-10)


def test_level_is_that_of_the_mean_square():
    """Log-normal spread s: the mean square lies exp(2 s^2) above that of the median."""
    features, error, rates = voxels(0.5)
    features[:, :7] = [[0], [np.nan], [1]]  # left out
    found = regress_error(features, error, rates)
    np.testing.assert_allclose(found.exponents.sum(), 1, atol=1e-12)
    # 20,000 voxels: standard error of an exponent 0.004
    np.testing.assert_allclose(found.exponents, [0.3, 0.9, -0.2], atol=0.02)
    np.testing.assert_allclose(found.level, 0.7 + 0.5**2, atol=0.05)
    u = np.exp(found.exponents @ np.log(features[:, 7:]) + found.level)
    u = u * (rates[7:] / 6) ** found.rate
    np.testing.assert_allclose(np.mean((error[7:] / u) ** 2), 1, rtol=1e-10)


def test_one_acceleration_has_no_rate():
    features, error, rates = voxels(0.1)
    chosen = rates == 6
    found = regress_error(features[:, chosen], error[chosen], rates[chosen])
    assert found.rate == 0 and abs(found.level - 0.7) < 0.05
    with pytest.raises(ValueError, match="99 voxels with an error"):
        regress_error(features[:, :99], error[:99], rates[:99])
    with pytest.raises(ValueError, match="regress_error: features"):
        regress_error(features, error[1:], rates)


def test_factor_is_interpolated_in_its_logarithm():
    factors, shares = (0.5, 1.0, 2.0, 4.0), (0.6, 0.9, 1.0, 0.99)
    found = factor_for_coverage(factors, shares, coverage=0.95)
    np.testing.assert_allclose(found, np.sqrt(2))
    assert factor_for_coverage(factors, shares, coverage=0.6) == 0.5
    for coverage in (0.5, 0.99):
        with pytest.raises(ValueError, match="intervals cover"):
            factor_for_coverage((0.5, 1.0), (0.6, 0.9), coverage=coverage)


def test_kappa_is_constant_beyond_its_places():
    found = kappa_at(MADE, jnp.array([1.0, 4.0, np.sqrt(32), 8.0, 50.0]))
    np.testing.assert_allclose(found, [1, 1, np.sqrt(2), 2, 2], rtol=1e-6)


def test_u_is_the_product_of_its_parts():
    gradient, doubling = np.exp(RNG.normal(-4, 1, (2, 2, 5, 6)))
    features = {"doubling": jnp.array(doubling), "gradient": jnp.array(gradient)}
    rate = jnp.array([4.0, 8.0])
    expected = gradient**0.25 * doubling**0.75 * np.exp(0.5)
    expected = expected * ((np.array(rate) / 6) ** 0.4)[:, None, None]
    plain = calibrated_sd(MADE, features, rate, kappa=False)
    np.testing.assert_allclose(plain, expected, rtol=1e-10)
    found = calibrated_sd(MADE, features, rate)
    np.testing.assert_allclose(found, expected * [[[1]], [[2]]], rtol=1e-10)
    double = calibrated_sd(MADE, {k: 2 * v for k, v in features.items()}, rate)
    np.testing.assert_allclose(double, 2 * found, rtol=1e-10)
    with pytest.raises(ValueError, match="doubling missing, found gradient"):
        calibrated_sd(MADE, {"gradient": features["gradient"]}, rate)


def test_a_feature_that_is_nothing_or_broken_shows():
    """No dropout: a deviation of 0; its slice alone is not known."""
    gradient = jnp.ones((2, 4, 4)).at[1, 0, 0].set(jnp.nan)
    features = {"gradient": gradient, "doubling": jnp.ones((2, 4, 4)).at[0].set(0)}
    found = np.array(calibrated_sd(MADE, features, jnp.array([6.0, 6.0])))
    assert not found[0].any()
    assert np.isnan(found[1, 0, 0]) and np.isfinite(found[1]).sum() == 15


@pytest.mark.parametrize(
    ("change", "rate", "words"),
    [
        ({}, 6, ""),
        ({}, 2.5, "acceleration is 2.5"),
        ({}, 13, "acceleration is 13"),
        ({"times": (0.0, 0.01)}, 6, "longest time is 10 ms"),
        ({"times": tuple(np.linspace(0, 0.1, 7))}, 6, "7 contrasts"),
        ({"pixel": 0.9}, 6, "pixels are 0.9 mm"),
        ({"pixel": float("nan")}, 6, ""),
        ({"coils": 32}, 6, ""),
    ],
)
def test_a_far_protocol_is_named(change, rate, words):
    scan = MADE.protocol._replace(**change)
    doubts = protocol_doubts(MADE, scan, acceleration=rate)
    assert len(doubts) == bool(words) and words in "".join(doubts)


def test_another_contrast_is_refused():
    with pytest.raises(ValueError, match="calibration of t2, scan of t1"):
        scan = MADE.protocol._replace(contrast="t1")
        protocol_doubts(MADE, scan, acceleration=6)


def test_coverage_counts_both_ends():
    value = np.array([1.0, 2.0, 3.0, np.nan])
    low, high = np.array([1.0, 2.5, np.nan, 0]), np.array([2.0, 3.0, 4.0, 1])
    assert covered(value, low, high, np.array([True, True, True, False])) == 1 / 3
    assert np.isnan(covered(value, low, high, np.zeros(4, bool)))
