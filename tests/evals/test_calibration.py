"""Judging sigma: exact cases, loops, and what theory says of Gaussian errors."""

import numpy as np
import pytest
from scipy import stats

from medjax.evals import calibration as c


def draw(num=20_000, seed=0):
    """Errors that are what sigma says."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.5, 3, num)
    return sigma * rng.standard_normal(num), sigma


def test_spearman_equals_scipy_with_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 300), rng.integers(0, 9, 300)
    expected = stats.spearmanr(x, y).statistic
    assert c.spearman(x, y) == pytest.approx(expected, rel=1e-12)  # rounding
    assert np.isnan(c.spearman(np.ones(5), np.arange(5.0)))
    assert np.isnan(c.spearman(np.ones(0), np.ones(0)))


def test_true_sigma_is_calibrated_and_others_are_not():
    error, sigma = draw()
    # 20 000 voxels: a share of 0.5 is known to 0.0035 (one standard deviation).
    assert c.calibration_error(error, sigma) < 0.01
    found = c.calibration(error, sigma, bins=10)
    np.testing.assert_allclose(found.error, found.sigma, rtol=0.1)  # 2000 a bin
    np.testing.assert_allclose(found.observed, found.nominal, atol=0.015)
    # Gaussian errors and half the sigma: 1.96 sigma covers 67 %, not 95 %.
    half = c.calibration(error, sigma / 2, bins=10)
    assert half.observed[-1] == pytest.approx(2 * stats.norm.cdf(0.98) - 1, abs=0.015)
    assert c.calibration_error(error, sigma / 2) > 0.15


def test_sparsification_equals_taking_voxels_out():
    error, sigma = (x[:40] for x in draw(seed=1))
    size = np.abs(error)

    def left(order):
        return [np.mean(size[order[k:]]) for k in range(len(order))]

    gap = np.array(left(np.argsort(-sigma))) - left(np.argsort(-size))
    expected = np.mean(gap) / np.mean(size)
    assert c.sparsification_error(error, sigma) == pytest.approx(expected, rel=1e-12)
    assert c.sparsification_error(error, size) == pytest.approx(0, abs=1e-12)


def test_a_sigma_that_says_nothing_is_a_random_order():
    error, sigma = draw(2000)
    constant = c.sparsification_error(error, np.ones(2000))
    shuffled = np.random.default_rng(5).permutation(sigma)
    # The mean over 2000 prefixes of a random order: some per cent.
    assert c.sparsification_error(error, shuffled) == pytest.approx(constant, abs=0.05)
    assert c.sparsification_error(error, sigma) < constant - 0.1
    again = np.random.default_rng(6).permutation(2000)
    turned = c.sparsification_error(error[again], np.ones(2000))
    assert turned == pytest.approx(constant, rel=1e-12)  # no matter what order


def test_nothing_to_judge_is_nan():
    none = np.zeros(0)
    assert np.isnan(c.calibration_error(none, none))
    assert np.isnan(c.sparsification_error(none, none))
    assert np.isnan(c.sparsification_error(np.zeros(3), np.ones(3)))


@pytest.mark.parametrize(("bins", "sigmas"), [(0, 3), (2, 4)])
def test_bins_and_sigmas_that_do_not_fit(bins, sigmas):
    with pytest.raises(
        ValueError, match=f"bins {bins} of 3 errors and {sigmas} sigmas"
    ):
        c.calibration(np.ones(3), np.ones(sigmas), bins=bins)
