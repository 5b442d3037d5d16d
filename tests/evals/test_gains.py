"""Paired differences and their intervals."""

import numpy as np
import pytest

from medjax.evals.gains import paired_gains

GROUPS = np.repeat(np.arange(20), 2)
RIGHT = np.tile([1.0, 1.0, 1.0, 0.0], 10)  # 0.75


def interval(ours, theirs):
    """The paired bootstrap of the same draws, written out group by group."""
    drawn = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=200)
    each = (ours - theirs).reshape(20, 2)
    means = [
        np.concatenate([np.tile(each[g], n) for g, n in enumerate(row)]).mean()
        for row in drawn
    ]
    return (ours - theirs).mean(), *np.percentile(means, [2.5, 97.5])


def test_gains_are_those_of_a_literal_resampling():
    other = np.where(np.arange(40) < 12, 1.0, 0.0)
    resampling = {"num_samples": 200, "level": 0.95, "seed": 0}
    gain = paired_gains(RIGHT, {"other": other}, GROUPS, **resampling)["other"]
    # 1e-12: sums of zeros and ones in another order
    np.testing.assert_allclose(gain.difference, interval(RIGHT, other), atol=1e-12)
    assert (gain.ours, gain.theirs, gain.verdict) == (0.75, 0.3, 1)
    back = paired_gains(other, {"grpo": RIGHT}, GROUPS, **resampling)["grpo"]
    assert back.verdict == -1
    same = paired_gains(RIGHT, {"itself": RIGHT}, GROUPS, **resampling)["itself"]
    assert same.verdict == 0 and same.difference == (0.0, 0.0, 0.0)


def test_unknown_numbers_are_left_out_of_both():
    holes = np.where(np.arange(40) % 4 == 0, np.nan, 0.0)
    resampling = {"num_samples": 10, "level": 0.9, "seed": 0}
    gains = paired_gains(RIGHT, {"a": holes, "b": holes * np.nan}, GROUPS, **resampling)
    assert gains["a"].ours == pytest.approx(2 / 3) and gains["a"].theirs == 0
    assert np.isnan(gains["b"].ours) and gains["b"].verdict == 0
