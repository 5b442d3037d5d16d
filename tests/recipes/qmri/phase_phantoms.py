"""Scans of known maps whose contrasts agree in phase, or do not; by NumPy alone."""

import numpy as np

SIDE, COILS = 48, 6
ECHOES = np.array([4, 10, 16, 22, 28, 36, 46, 58]) * 1e-3  # s
INVERSIONS = np.array([0.05, 0.15, 0.4, 0.7, 1.1, 1.8, 3.0, 5.0])  # s
ROWS, COLUMNS = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
HEAD = np.hypot(ROWS, 1.15 * COLUMNS) < 0.85
CORE = np.hypot(ROWS - 0.1, COLUMNS + 0.05) < 0.35
INSIDE = np.hypot(ROWS, 1.15 * COLUMNS) < 0.75  # where maps are judged


def coils():
    """Smooth sensitivities around the head, their squares summing to 1."""
    angles = 2 * np.pi * np.arange(COILS) / COILS
    sens = np.stack(
        [
            np.exp(
                -0.7 * ((ROWS - np.sin(a)) ** 2 + (COLUMNS - np.cos(a)) ** 2)
                + 1j * (a + 0.5 * np.sin(a) * ROWS)
            )
            for a in angles
        ]
    )
    return sens / np.linalg.norm(sens, axis=0)


def measure(images, *, acceleration=1, snr=np.inf, seed=0, centre=16):
    """k-space [1, E, C, H, W] of complex images; SNR is that of brightness 1."""
    rng = np.random.default_rng(seed)
    coil_images = images[:, None] * coils()
    kspace = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(coil_images, (-2, -1)), norm="ortho"), (-2, -1)
    )
    noise = rng.normal(0, 1 / snr, (2, *kspace.shape))
    sampled = rng.random((len(images), 1, 1, SIDE)) < 1 / acceleration
    sampled[..., (SIDE - centre) // 2 : (SIDE + centre) // 2] = True
    kspace = (kspace + noise[0] + 1j * noise[1]) * sampled
    return kspace[None].astype(np.complex64)


def object_phase():
    """One smooth phase for all contrasts, rad."""
    return 0.4 + 0.7 * ROWS - 0.5 * COLUMNS + 0.5 * ROWS * COLUMNS


def echoes(offset=0.0, *, curved=False):
    """(images, T2 in s): a decay, and `offset` Hz of the field, all over or curved."""
    t2 = np.where(CORE, 0.111, 0.06)
    field = offset * (1 - 1.2 * (ROWS**2 + (COLUMNS - 0.2) ** 2) if curved else 1)
    times = ECHOES[:, None, None]
    turn = object_phase() + 2 * np.pi * field * times
    return HEAD * np.exp(-times / t2 + 1j * turn), t2


def recoveries(turns=0.0, *, efficiency=1.0, repetition=np.inf):
    """(images, T1 in s): recoveries, contrast e turned by turns[e] rad."""
    t1 = np.where(CORE, 1.4, 1.0)
    times = INVERSIONS[:, None, None]
    signal = 1 - 2 * efficiency * np.exp(-times / t1) + np.exp(-repetition / t1)
    turns = np.broadcast_to(turns, len(times))[:, None, None]
    return HEAD * signal * np.exp(1j * (object_phase() + turns)), t1
