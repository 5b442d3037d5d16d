"""Noise of a background that is honest, and values that are no samples."""

import numpy as np
import pytest

from medjax.mri.background import background_noise, clipped_samples

SIDE = 48
ROWS, COLUMNS = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
DISC = np.hypot(ROWS, 1.15 * COLUMNS) < 0.8
TIMES = 0.015 * np.arange(1, 9)[:, None, None]
CLEAN = 1000 * DISC * (1 + 0.3 * ROWS) * np.exp(-TIMES / np.where(ROWS > 0, 0.06, 0.1))


def magnitudes(noise, coils=1, clean=CLEAN):
    rng = np.random.default_rng(0)
    parts = rng.normal(0, noise, (2 * coils, *clean.shape))
    parts[0] += clean
    return np.sqrt((parts**2).sum(0))


@pytest.mark.parametrize("coils", [1, 8])
@pytest.mark.parametrize("noise", [100, 50, 5])
def test_the_level_is_that_of_the_background(coils, noise):
    images = magnitudes(noise, coils)
    for stored in (images, np.round(images)):
        found = background_noise(stored, coils=coils)
        assert found.noise == pytest.approx(noise, rel=0.02) and found.reason == ""
    other = background_noise(images, coils=9 - coils)
    assert other.noise is None and other.reason


def test_a_background_that_is_none_is_refused():
    images = magnitudes(30)
    smooth = sum(np.roll(images, k, axis=2) for k in range(4)) / 4
    for wrong, reason in (
        (images * DISC, "% of the samples are 0"),
        (np.maximum(images - 40, 0), "% of the samples are 0"),
        (np.maximum(images, 40), "clipped"),
        (smooth, "filtered"),
        (images[:, 12:36, 14:34], "no background"),  # the object fills it
        (images - 100, "not magnitudes"),
    ):
        found = background_noise(wrong)
        assert found.noise is None and reason in found.reason, (reason, found)


def test_saturated_values_are_found_and_large_ones_are_not():
    images = magnitudes(30)
    for limit in (500, 800):
        for stored in (np.minimum(images, limit), np.round(np.minimum(images, limit))):
            high = clipped_samples(stored).high
            assert (high == (stored == limit)).all() and high.any()
    coarse = np.round(images / 40)  # some 30 values
    for whole in (images, np.round(images), coarse, CLEAN, 0 * CLEAN + 7 * TIMES):
        assert not clipped_samples(whole).high.any()


def test_zeros_and_fills_are_found():
    images = magnitudes(30) * DISC
    images[6:, 20:24, 20:24] = 0
    found = clipped_samples(images)
    assert (found.low == (images == 0)).all()
    assert not clipped_samples(images, zeros=False).low.any()
    filled = np.where(DISC, np.maximum(images, 60), 60)
    assert (clipped_samples(filled).low == (filled == 60)).all()
    assert not clipped_samples(magnitudes(30)).low.any()
    uniform = np.ones((1, 9, 9)) * np.exp(-TIMES / 0.08)
    assert not clipped_samples(uniform).low.any()  # of no voxel in all contrasts


@pytest.mark.parametrize(("value", "zeros"), [(7.0, True), (7.0, False), (0.0, False)])
def test_a_slice_of_one_value_has_no_fill(value, zeros):
    found = clipped_samples(np.full((2, 8, 8), value), zeros=zeros)
    assert not found.low.any() and not found.high.any()


def test_what_is_not_finite_is_neither():
    images = np.float32(magnitudes(10.0))
    images[0, 4:9, 4:9] = np.inf
    images[1, 20:25, 20:25] = np.nan
    found = clipped_samples(images)
    assert not found.high.any() and not found.low.any()
    assert background_noise(images[:0]).noise is None
