"""A disc seen by a few coils, in NumPy: what the tests of calibration estimate from."""

import numpy as np


def simulated_kspace(size=(24, 20), coils=4, contrasts=2, noise=1e-3, seed=0):
    """(k-space [E, C, H, W], normalised sensitivities [C, H, W]), complex128."""
    rng = np.random.default_rng(seed)
    rows, cols = (np.linspace(-1, 1, n, endpoint=False) for n in size)
    y, x = np.meshgrid(rows, cols, indexing="ij")
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    near = np.exp(-((x - np.cos(angles)) ** 2 + (y - np.sin(angles)) ** 2) / 1.5)
    sens = near * np.exp(1j * (angles + 1.5 * x * np.sin(angles) + y))
    sens = sens / np.linalg.norm(sens, axis=0)
    disc = (x / 0.7) ** 2 + (y / 0.8) ** 2 < 1
    texture = 1 + 0.3 * np.cos(5 * x) * np.sin(4 * y)
    decay = np.exp(-np.arange(contrasts))[:, None, None]
    images = disc * texture * decay
    shifted = np.fft.ifftshift(images[:, None] * sens, (-2, -1))
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), (-2, -1))
    parts = rng.standard_normal((2, *kspace.shape)) * noise
    return kspace + parts[0] + 1j * parts[1], sens * disc
