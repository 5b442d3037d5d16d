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
