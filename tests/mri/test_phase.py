import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.phase import absorb_phase
from medjax.mri.sense import sense_adjoint, sense_forward

H, W = 40, 36


def smooth(rng, count, cycles):
    """Sums of low frequencies: none above `cycles` over the field."""
    y, x = np.mgrid[:H, :W] / np.array([H, W])[:, None, None]
    total = np.zeros((count, H, W))
    for _ in range(6):
        a, b = rng.uniform(-cycles, cycles, 2)
        phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
        total += rng.normal(size=(count, 1, 1)) * np.cos(
            2 * np.pi * (a * y + b * x) + phase
        )
    return total


@pytest.fixture(scope="module")
def acquired():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : H * 1j, -1 : 1 : W * 1j]
    disc = 1 / (1 + np.exp(14 * (np.hypot(y, x) - 0.8)))  # no sharp edge
    images = disc * np.array([1.0, -0.6, 0.4])[:, None, None]
    sens = np.exp(0.3 * smooth(rng, 3, 0.7) + 1j * smooth(rng, 3, 0.5))
    sens /= np.sqrt((np.abs(sens) ** 2).sum(0))
    phase = np.exp(1j * smooth(rng, 1, 0.7)[0])
    kspace = sense_forward(jnp.asarray(images * phase), jnp.asarray(sens))
    return kspace, jnp.asarray(sens), images, disc > 0.5


def test_images_become_real_with_their_signs(acquired):
    kspace, sens, images, inside = acquired
    turned = jax.jit(lambda k, s: absorb_phase(k, s, calibration=(14, 14), contrast=0))(
        kspace, sens
    )
    np.testing.assert_allclose(jnp.abs(turned), jnp.abs(sens), rtol=1e-12)
    found = np.asarray(sense_adjoint(kspace, turned))
    # a low-resolution phase is right up to what the Hann window smooths
    assert np.abs(found.imag[:, inside]).max() < 0.1
    np.testing.assert_allclose(found.real[:, inside], images[:, inside], atol=0.05)


def test_a_contrast_that_is_negative_turns_all_signs(acquired):
    kspace, sens, images, inside = acquired
    turned = absorb_phase(kspace, sens, calibration=(14, 14), contrast=1)
    found = np.asarray(sense_adjoint(kspace, turned)).real
    np.testing.assert_allclose(found[:, inside], -images[:, inside], atol=0.05)


def test_no_signal_leaves_the_sensitivities(acquired):
    kspace, sens, *_ = acquired
    turned = absorb_phase(0 * kspace, sens, calibration=(14, 14), contrast=0)
    np.testing.assert_array_equal(turned, sens)
