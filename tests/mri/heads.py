"""Echoes of a head of ellipses, as a scanner of limited resolution sees them."""

import functools

import numpy as np

TIMES = 0.015 * np.arange(1, 9)  # s
# half axes, centre (rows, columns), turn in rad, T2 in s, brightness
ELLIPSES = (
    (0.80, 0.65, 0.0, 0.0, 0.0, 0.05, 0.6),
    (0.74, 0.60, 0.0, 0.0, 0.0, 0.08, 0.8),
    (0.35, 0.10, -0.05, 0.2, 0.3, 1.5, 1.0),
    (0.35, 0.12, -0.05, -0.2, -0.3, 1.5, 1.0),
    (0.20, 0.20, 0.35, 0.0, 0.0, 0.1, 0.75),
    (0.05, 0.05, -0.5, 0.1, 0.0, 0.2, 0.9),
    (0.08, 0.05, -0.5, -0.2, 0.0, 0.03, 0.7),
)


@functools.cache
def echoes(side=64):
    """[E, H, W], float32, of brightness up to 1."""
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    t2, density = np.ones((side, side)), np.zeros((side, side))
    for a, b, row, column, turn, value, brightness in ELLIPSES:
        y, x = rows - row, columns - column
        u, v = (
            y * np.cos(turn) + x * np.sin(turn),
            x * np.cos(turn) - y * np.sin(turn),
        )
        inside = (u / a) ** 2 + (v / b) ** 2 < 1
        t2[inside], density[inside] = value, brightness
    images = density * np.exp(-TIMES[:, None, None] / t2)
    squares = np.add.outer(np.fft.fftfreq(side) ** 2, np.fft.fftfreq(side) ** 2)
    low = np.exp(-squares / (2 * 0.25**2))
    return np.real(np.fft.ifft2(np.fft.fft2(images) * low)).astype(np.float32)
