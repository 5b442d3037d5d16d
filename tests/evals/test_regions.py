"""Intervals of regions whose voxels err together: exact cases and coverage."""

import numpy as np
import pytest
from scipy import ndimage, stats

from medjax.evals.regions import RegionSums, region_sums, region_table

LABELS = np.zeros((24, 24), int)
LABELS[2:20, 2:10], LABELS[5:20, 12:22] = 3, 7


def draw(rng, smoothing, count=None):
    """Errors of sd 1 that neighbours share, [count, H, W]."""
    white = rng.standard_normal((*(() if count is None else (count,)), 24, 24))
    axes = (-2, -1)
    if not smoothing:
        return white
    smooth = ndimage.gaussian_filter(white, smoothing, axes=axes, mode="wrap")
    kernel = ndimage.gaussian_filter(
        np.pad([[1.0]], 12)[:24, :24], smoothing, mode="wrap"
    )
    return smooth / np.sqrt(np.sum(kernel**2))


@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_intervals_cover_the_mean_whether_voxels_err_alike_or_not(smoothing):
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.5, 2, LABELS.shape)
    truth = rng.uniform(50, 90, LABELS.shape)
    covered, tries = 0, 100
    for _ in range(tries):
        value = truth + sigma * draw(rng, smoothing)
        # a replica's spread is another one than sigma, but as correlated
        replicas = value + 0.3 * sigma**0.5 * draw(rng, smoothing, 16)
        sums = [region_sums(LABELS, value, sigma, replicas)]
        for row in region_table(sums, names={}, level=0.9):
            mean = truth[LABELS == row.label].mean()
            covered += row.low <= mean <= row.high
    # 200 regions know a share of 0.9 to 0.021 (one standard deviation)
    assert covered / (2 * tries) == pytest.approx(0.9, abs=0.06)


def test_voxels_that_err_alike_know_the_mean_less_well():
    rng = np.random.default_rng(1)
    sigma, value = np.ones(LABELS.shape), np.full(LABELS.shape, 70.0)
    found = {}
    for smoothing in (0.0, 1.5):
        replicas = value + draw(rng, smoothing, 200)
        sums = [region_sums(LABELS, value, sigma, replicas)]
        found[smoothing] = region_table(sums, names={3: "left"}, level=0.95)[0]
    alone, alike = found[0.0], found[1.5]
    assert alone.voxels == alike.voxels == 144 and alone.name == "left"
    # 200 replicas know a variance to 10 %
    assert alone.independent == pytest.approx(144, rel=0.35)
    assert alike.independent < 0.15 * alone.independent
    half = alone.high - alone.mean
    assert half == pytest.approx(1.97 / 12, rel=0.2)
    # without replicas, the formula of independent voxels, exactly
    sums = [region_sums(LABELS, value, sigma, None)]
    free = region_table(sums, names={}, level=0.95)[0]
    assert free.high - free.mean == pytest.approx(stats.norm.ppf(0.975) / 12, rel=1e-9)


def test_slices_add_up_by_replica():
    rng = np.random.default_rng(2)
    value, sigma = rng.uniform(1, 2, (2, 24, 24)), rng.uniform(1, 2, (2, 24, 24))
    replicas = value + rng.standard_normal((12, 2, 24, 24))
    sums = [region_sums(LABELS, value[z], sigma[z], replicas[:, z]) for z in (0, 1)]
    (row, _) = region_table(sums, names={}, level=0.8)
    flat = [np.concatenate([x[..., z, :, :] for z in (0, 1)], -2)
            for x in (value, sigma, replicas)]  # fmt: skip
    both = np.concatenate([LABELS, LABELS])
    (whole, _) = region_table([region_sums(both, *flat)], names={}, level=0.8)
    np.testing.assert_allclose(row[2:], whole[2:], rtol=1e-9)
    assert row.median == pytest.approx(np.median(flat[0][both == 3]), rel=1e-12)


def test_what_happens_to_a_whole_region_again_widens_its_interval():
    rng = np.random.default_rng(3)
    sigma, value = np.full(LABELS.shape, 3.0), np.full(LABELS.shape, 70.0)
    shift = np.where(LABELS == 3, 2.0, 0.0)  # that every replica repeats
    replicas = value + shift + rng.standard_normal((16, *LABELS.shape))
    shifted, free = region_table(
        [region_sums(LABELS, value, sigma, replicas)], names={}, level=0.95
    )
    # a deviation of 2 of its root mean square of 5^0.5, scaled to the sigma of 3
    assert shifted.high - shifted.mean == pytest.approx(2.12 * 3 * 2 / 5**0.5, rel=0.1)
    assert free.high - free.mean < 0.2 * (shifted.high - shifted.mean)
    assert shifted.independent < 2


def test_voxels_without_a_value_are_counted_and_left_out():
    value = np.full(LABELS.shape, 70.0)
    value[LABELS == 7] = np.nan
    value[2, 2] = np.nan
    against = np.arange(24)[:, None] < np.full(24, 4)  # two rows of the first region
    sums = [region_sums(LABELS, value, np.ones(LABELS.shape), None, against)]
    three, seven = region_table(sums, names={}, level=0.95)
    assert (three.voxels, three.missing, three.mean) == (143, 1, 70)
    assert three.distrusted == 15
    assert (seven.voxels, seven.missing) == (0, 150) and np.isnan(seven.mean)
    unknown = region_table(sums, names={}, level=0.95, intervals=False)[0]
    assert unknown.mean == 70 and np.isnan([unknown.low, unknown.independent]).all()


def test_what_does_not_fit_is_refused():
    flat = np.ones(LABELS.shape)
    with pytest.raises(ValueError, match="expected one .H, W. for all"):
        region_sums(LABELS, flat, np.ones((3, 3)), None)
    with pytest.raises(ValueError, match="3 replicas: expected at least 8"):
        region_sums(LABELS, flat, flat, np.ones((3, *flat.shape)))
    with pytest.raises(ValueError, match="level 95"):
        region_table([], names={}, level=95)
    mixed = [
        {1: RegionSums(np.ones(2), 1.0, None, 0, 0)},
        {1: RegionSums(np.ones(2), 1.0, np.ones(9), 0, 0)},
    ]
    with pytest.raises(ValueError, match="with and without replicas"):
        region_table(mixed, names={}, level=0.95)
