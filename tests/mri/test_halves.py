"""Two halves of a scan's lines, and how far their maps differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from medjax.mri.halves import half_lines, half_scores

RNG = np.random.default_rng(0)
CENTER = slice(18, 22)  # 4 lines of 40


def lines(outer, batch=2, contrasts=3):
    mask = np.zeros((batch, contrasts, 1, 40), bool)
    mask[..., CENTER] = True
    places = np.r_[0:18, 22:40]
    for one in mask.reshape(-1, 40):
        one[RNG.choice(places, outer, replace=False)] = True
    return mask


@pytest.mark.parametrize("outer", [1, 6, 7])
def test_outer_lines_are_dealt_evenly(outer):
    mask = lines(outer)
    first, second = half_lines(mask, jax.random.key(0), center=4)
    assert (np.asarray(first | second) == mask).all()
    assert (first & second)[..., CENTER].all()
    both = np.array(first & second)
    both[..., CENTER] = False
    assert not both.any()
    counts = np.array(
        [[x.sum() - 4 for x in m[:, :, 0].reshape(-1, 40)] for m in (first, second)]
    )
    assert (abs(counts[0] - counts[1]) == outer % 2).all()
    assert abs(counts.sum(1)[0] - counts.sum(1)[1]) <= 2  # one of 3 contrasts, 2 slices
    other = half_lines(mask, jax.random.key(1), center=4)
    assert outer == 1 or (other.first != first).any()


def test_points_and_rows_are_dealt_too():
    mask = RNG.random((2, 16, 16)) < 0.4
    mask[:, 6:10, 6:10] = True
    first, second = half_lines(mask, jax.random.key(0), center=4)
    assert (np.asarray(first | second) == mask).all()
    assert (first & second).sum() == 2 * 16
    rows = half_lines(lines(6).swapaxes(-1, -2), jax.random.key(0), center=4)
    assert (rows.first & rows.second).sum() == 2 * 3 * 4


def test_too_few_lines_are_refused():
    mask = lines(1, batch=1, contrasts=1)
    with pytest.raises(ValueError, match="half_lines: mask: expected at least 2"):
        half_lines(mask, jax.random.key(0), center=4)
    with pytest.raises(ValueError, match="half_lines: mask"):
        half_lines(mask.astype(np.float32), jax.random.key(0), center=4)


def intervals(logs, sd):
    return jnp.exp(jnp.stack([logs - 1.959964 * sd, logs, logs + 1.959964 * sd]))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_scores_of_normal_maps(scale):
    """Error bars that are `scale` times the true deviation."""
    sd = RNG.uniform(0.05, 0.3, (2, 2, 60, 70))
    logs = -2 + sd * RNG.standard_normal(sd.shape)
    where = RNG.random(sd.shape[1:]) < 0.8
    pairs = [
        intervals(jnp.array(m), scale * jnp.array(s))
        for m, s in zip(logs, sd, strict=True)
    ]
    found = half_scores(*pairs, jnp.array(where))
    z = (logs[0] - logs[1]) / scale / np.hypot(*sd)
    np.testing.assert_allclose(found.z, np.where(where, z, 0), rtol=1e-8)
    expected = [np.quantile(abs(x[w]), 0.682689) for x, w in zip(z, where, strict=True)]
    np.testing.assert_allclose(found.spread, expected, rtol=1e-8)
    np.testing.assert_allclose(found.count, where.sum((1, 2)))
    # 3,400 voxels: standard error of the share 0.4 %, of the quantile 1.5 %
    np.testing.assert_allclose(
        found.within, 2 * stats.norm.cdf(1.96 * scale) - 1, atol=0.02
    )
    np.testing.assert_allclose(found.spread, 1 / scale, rtol=0.06)


def test_voxels_without_an_interval_do_not_count():
    sd = jnp.full((1, 4, 4), 0.1)
    first = intervals(jnp.zeros((1, 4, 4)), sd)
    first = first.at[:, 0, 0, 0].set(jnp.nan).at[2, 0, 1, 1].set(jnp.exp(-0.1959964))
    found = half_scores(first, intervals(sd, sd), jnp.ones((1, 4, 4), bool))
    assert found.count[0] == 14 and not found.counted[0, [0, 1], [0, 1]].any()
    np.testing.assert_allclose(found.spread, 0.1 / np.hypot(0.1, 0.1), rtol=1e-5)
    none = half_scores(first, first, jnp.zeros((1, 4, 4), bool))
    assert none.count[0] == 0 and np.isnan(none.within[0]) and np.isnan(none.spread[0])
