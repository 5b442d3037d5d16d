"""Noise by the samples of k-space that are farthest out."""

import numpy as np

from medjax.mri.far_samples import far_noise
from medjax.mri.fourier import fft2c

SIZE = (2, 3, 4, 64, 48)  # slices, contrasts, coils, rows, columns


def measured(levels, *, columns):
    rng = np.random.default_rng(0)
    rows, cols = np.meshgrid(*(np.linspace(-3, 3, n) for n in SIZE[-2:]), indexing="ij")
    smooth = np.exp(-(rows**2) - cols**2).astype(np.complex64)
    noise = rng.standard_normal(SIZE) + 1j * rng.standard_normal(SIZE)
    mask = np.zeros((2, 3, 1, 48), bool)
    mask[..., columns] = True
    y = np.asarray(fft2c(smooth)) + np.array(levels)[:, None, None, None, None] * noise
    return np.where(mask[:, :, None], y, 0).astype(np.complex64), mask


def test_the_noise_of_each_slice_is_told_apart_from_its_signal():
    for columns in (slice(None), [2, 3, 20, 24, 40], [22, 23, 24, 25, 26]):
        y, mask = measured([0.1, 1e-3], columns=columns)
        np.testing.assert_allclose(far_noise(y, mask), [0.1, 1e-3], rtol=0.1)


def test_without_noise_or_samples():
    y, mask = measured([0.0, 0.0], columns=[20, 24])
    mask[1] = False
    found = np.asarray(far_noise(y, mask))
    assert 0 <= found[0] < 1e-4 and np.isnan(found[1])


def test_it_has_no_bias_of_the_number_of_samples():
    """Means over 200 draws; a least eigenvalue as it stands would be 0.75 to 0.9."""
    rng = np.random.default_rng(1)
    for columns, coils in ((slice(None), 4), (slice(None), 12), ([1, 2, 29, 30], 4)):
        size = (200, 1, coils, 32, 32)
        y = rng.standard_normal(size) + 1j * rng.standard_normal(size)
        mask = np.zeros((200, 1, 1, 32), bool)
        mask[..., columns] = True
        y = np.where(mask[:, :, None], y, 0).astype(np.complex64)
        # The mean of the limit of many coils is 2 % off at twelve of few samples.
        np.testing.assert_allclose(np.mean(far_noise(y, mask)), 1, rtol=0.03)


def test_noise_of_images_is_signal_to_all_coils():
    """k-space made of a noisy image, and with noise of single coils in addition."""
    rng = np.random.default_rng(2)
    angles = 2 * np.pi * np.arange(6) / 6
    rows, cols = np.meshgrid(*[np.linspace(-1, 1, 48)] * 2, indexing="ij")
    away = (rows[None] - np.sin(angles)[:, None, None]) ** 2
    away = away + (cols[None] - np.cos(angles)[:, None, None]) ** 2
    sens = np.exp(-away) * np.exp(1j * angles)[:, None, None]
    sens = sens / np.sqrt(np.sum(np.abs(sens) ** 2, axis=0))
    image = rng.standard_normal((48, 48)) + 1j * rng.standard_normal((48, 48))
    noise = rng.standard_normal(sens.shape) + 1j * rng.standard_normal(sens.shape)
    mask = np.ones((1, 1, 1, 48), bool)
    made = np.asarray(fft2c((sens * image).astype(np.complex64)))
    for level in (0.0, 0.3):
        y = (made + level * noise)[None, None].astype(np.complex64)
        found = float(far_noise(y, mask)[0])
        # Beside signal the least eigenvalue is less below its mean than without.
        assert 0.97 * level < found < np.hypot(1.15 * level, 0.1), (level, found)
