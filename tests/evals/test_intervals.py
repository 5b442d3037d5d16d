"""Intervals of a known posterior, exact cases, and loops."""

import numpy as np
import pytest
from scipy import stats

from medjax.evals import intervals as i
from medjax.evals.calibration import sparsification_error


def draw(num=40_000, seed=0):
    """A log-normal truth and its own quantiles: lopsided intervals that are right."""
    rng = np.random.default_rng(seed)
    center, spread = rng.uniform(-3, -2, num), rng.uniform(0.05, 0.6, num)
    probabilities = i.level_probabilities()
    standard = stats.norm.ppf(probabilities)[:, None]
    truth = np.exp(center + spread * rng.standard_normal(num))
    return truth, np.exp(center + spread * standard), probabilities, spread


def test_probabilities_are_the_ends_of_the_levels_and_the_median():
    found = i.level_probabilities((0.5, 0.95))
    assert found == (0.025, 0.25, 0.5, 0.75, 0.975)
    assert len(i.level_probabilities()) == 11
    for levels in ((), (0.9, 0.5), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)):
        with pytest.raises(ValueError, match="expected rising ones"):
            i.level_probabilities(levels)


def test_true_quantiles_cover_what_they_claim_and_score_best():
    truth, quantiles, probabilities, _ = draw()
    found = i.interval_scores(truth, quantiles, probabilities)
    for one in found:
        # 40 000 voxels know a share of 0.5 to 0.0025 (one standard deviation)
        assert one.coverage == pytest.approx(one.nominal, abs=0.01)
    assert [one.nominal for one in found] == list(i.LEVELS)
    assert np.all(np.diff([one.width for one in found]) > 0)
    middle = quantiles[len(probabilities) // 2]
    for factor in (0.7, 1.4):  # too sure, and too careful
        wrong = middle + factor * (quantiles - middle)
        others = i.interval_scores(truth, wrong, probabilities)
        assert all(a.score > b.score for a, b in zip(others, found, strict=True))


def test_the_interval_score_is_its_definition():
    level = 0.8
    reference, low, high = np.array([1.0, 3, 7]), np.full(3, 2.0), np.full(3, 5.0)
    found = i.interval_score(reference, low, high, level=level)
    np.testing.assert_allclose(found, [3 + 10 * 1, 3, 3 + 10 * 2], rtol=1e-12)


def test_a_voxel_without_an_interval_is_not_covered():
    quantiles = np.array([[0.0, np.nan], [2.0, np.nan]])
    (found,) = i.interval_scores(
        np.array([1.0, 1.0]), quantiles, (0.025, 0.975), levels=(0.95,)
    )
    assert found == (0.95, 0.5, 2.0, 2.0)
    (none,) = i.interval_scores(
        np.ones(0), np.ones((2, 0)), (0.025, 0.975), levels=(0.95,)
    )
    assert np.isnan(none[1:]).all()


def test_levels_and_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="level 0.9: its end 0.05 is not among"):
        i.interval_scores(np.ones(2), np.ones((2, 2)), (0.025, 0.975), levels=(0.9,))
    with pytest.raises(ValueError, match="expected 3 rows"):
        i.interval_scores(np.ones(2), np.ones((2, 2)), (0.1, 0.5, 0.9))


def test_parts_are_scored_by_themselves():
    truth, quantiles, probabilities, spread = draw(2000)
    wide = spread > 0.3
    parts = {"wide": wide, "narrow": ~wide, "none": np.zeros(2000, bool)}
    found = i.scores_by_part(truth, quantiles, probabilities, parts)
    assert list(found) == ["wide", "narrow"]
    alone = i.interval_scores(truth[wide], quantiles[:, wide], probabilities)
    assert found["wide"] == alone
    assert found["wide"][3].width > found["narrow"][3].width


def test_sparsification_equals_taking_voxels_out():
    rng = np.random.default_rng(1)
    sigma = rng.uniform(0.5, 3, 400)
    error = sigma * rng.standard_normal(400)
    found = i.sparsification_curve(error, sigma, points=400)
    order = np.argsort(-sigma)
    expected = [np.abs(error)[order[k:]].mean() for k in range(400)]
    np.testing.assert_allclose(found.error, expected / np.abs(error).mean(), rtol=1e-9)
    # the area between both curves at every share is AUSE
    area = np.mean(found.error - found.oracle)
    assert area == pytest.approx(sparsification_error(error, sigma), rel=1e-9)
    np.testing.assert_allclose([found.error[0], found.oracle[0]], 1, rtol=1e-12)
    with pytest.raises(ValueError, match="an error above 0"):
        i.sparsification_curve(np.zeros(3), np.ones(3))


def test_z_scores_of_a_fit_at_the_bound_have_spread_one():
    rng = np.random.default_rng(2)
    bound = rng.uniform(1, 2, 20_000)
    z = i.bound_scores(bound * rng.standard_normal(20_000), bound)
    assert np.std(z) == pytest.approx(1, abs=0.02)  # 0.005 is one deviation
    assert np.isnan(i.bound_scores(np.ones(2), np.array([0.0, -1.0]))).all()
