"""The smooth phase: found again, without the coils', and with the signs kept."""

import functools

import jax
import numpy as np

from medjax.mri.phase import smooth_phase
from medjax.mri.sense import sense_forward

SIZE = 48


def scan(curves, seed=0):
    """A disc of two tissues, a phase of second order, four coils, 12 centre lines."""
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE / 2) - 1
    disc = x**2 + y**2 < 0.7
    inner = (x - 0.2) ** 2 + y**2 < 0.1
    images = np.where(inner, curves[1][:, None, None], curves[0][:, None, None]) * disc
    phase = 1.0 + 0.8 * x - 0.5 * y + 0.6 * x * y
    centres = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    sens = np.stack(
        [
            np.exp(-((x - a) ** 2 + (y - b) ** 2) / 3 + 1j * (a * x + 2 * b * y))
            for a, b in centres
        ]
    )
    sens = sens / np.linalg.norm(sens, axis=0)
    mask = np.random.default_rng(seed).random((len(curves[0]), 1, SIZE)) < 0.3
    mask[..., SIZE // 2 - 6 : SIZE // 2 + 6] = True
    kspace = np.array(sense_forward(images * np.exp(1j * phase), sens, mask))
    return kspace, sens, images, phase, disc


def signed(images, phase, found):
    return np.real(images * np.exp(1j * (phase - np.asarray(found)))), np.angle(
        np.exp(1j * (phase - np.asarray(found)))
    )


def test_finds_the_phase_of_a_decay():
    times = np.array([0.0, 0.05, 0.1])
    kspace, sens, images, phase, disc = scan((np.exp(-times / 0.08), np.exp(-times)))
    found = jax.jit(functools.partial(smooth_phase, width=12))(kspace, sens)
    assert found.shape == (1, SIZE, SIZE) and not np.iscomplexobj(found)
    real, off = signed(images, phase, found)
    assert np.abs(off[0][disc]).max() < 0.3 and np.abs(off[0][disc]).mean() < 0.05
    assert np.all(real[:, disc] > 0.9 * images[:, disc])
    batch = smooth_phase(kspace[None], sens[None], width=12)
    np.testing.assert_allclose(batch[0][:, disc], found[:, disc], atol=1e-9)


def test_the_longest_inversion_time_keeps_the_signs():
    times = np.array([0.05, 0.6, 4.0])
    curves = (1 - 2 * np.exp(-times / 0.8), 1 - 2 * np.exp(-times / 1.4))
    kspace, sens, images, phase, disc = scan(curves)
    found = smooth_phase(kspace, sens, width=12, contrast=-1)
    real, _ = signed(images, phase, found)
    assert np.all(np.sign(real[:, disc]) == np.sign(images[:, disc]))
