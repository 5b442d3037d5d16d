"""The smooth phase: found again, without the coils', and with the signs kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.phase import phase_misfit, smooth_phase
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


def test_without_signal_the_phase_is_0_and_its_derivative_too():
    times = np.array([0.0, 0.05])
    kspace, sens, *_ = scan((np.exp(-times / 0.08), np.exp(-times)))
    sens[:, :8] = 0

    def total(kspace, sens):
        return jnp.sum(jnp.cos(1 + smooth_phase(kspace, sens, width=12)))

    for k, s in ((kspace, sens), (0 * kspace, sens), (-0.0 * kspace, -sens)):
        found = smooth_phase(k, s, width=12)
        assert not found[0, :8].any() and (k.any() or not found.any())
        for gradient in jax.grad(total, argnums=(0, 1))(jnp.asarray(k), jnp.asarray(s)):
            assert np.isfinite(gradient).all()


def test_the_gradient_equals_differences():
    times = np.array([0.0, 0.05])
    kspace, sens, *_ = scan((np.exp(-times / 0.08), np.exp(-times)))
    inside = jnp.asarray(np.random.default_rng(1).random((SIZE, SIZE)))
    parts = np.random.default_rng(2).standard_normal((2, *kspace.shape))
    change = 0.01 * (parts[0] + 1j * parts[1])

    def total(kspace):
        return jnp.sum(inside * jnp.cos(smooth_phase(kspace, sens, width=12)[0]))

    found = jnp.real(jnp.sum(jax.grad(total)(jnp.asarray(kspace)) * change))
    step = 1e-5
    ahead, behind = (total(kspace + s * step * change) for s in (1, -1))
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width: expected an integer of at least 1, found 0"),
        ({"width": 4, "contrast": 2}, "contrast: .* from -2 to 1, found 2"),
        ({"width": 4, "contrast": -3}, "contrast: .* from -2 to 1, found -3"),
        ({"width": 4, "contrast": 1.0}, "contrast: .* found 1.0"),
    ],
)
def test_bad_options(options, message):
    kspace, sens = np.ones((2, 3, 4, 4), complex), np.ones((3, 4, 4), complex)
    with pytest.raises(ValueError, match=f"smooth_phase: {message}"):
        smooth_phase(kspace, sens, **options)


def test_one_pixel_and_a_window_of_one_point():
    one = np.full((1, 1, 1, 1), 1j)
    np.testing.assert_allclose(smooth_phase(one, one[0] ** 2, width=1), -np.pi / 2)
    kspace, sens = np.ones((1, 1, 4, 6), complex), np.ones((1, 4, 6), complex)
    kspace[..., 2, 3] = -1j
    np.testing.assert_allclose(smooth_phase(kspace, sens, width=1), -np.pi / 2)


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["kspace", "sens"])
def test_a_number_that_is_not_finite_shows_in_the_misfit_of_its_slice_alone(
    name, number
):
    rng = np.random.default_rng(3)
    shapes = {"kspace": (2, 3, 4, 8, 8), "sens": (2, 4, 8, 8)}
    arrays = {
        key: rng.normal(size=shape) + 1j * rng.normal(size=shape)
        for key, shape in shapes.items()
    }
    mask = np.ones((2, 3, 1, 8), bool)
    clean = phase_misfit(**arrays, mask=mask, width=4, signed=True)
    arrays[name][1, 0, 3, 3] = number
    broken = phase_misfit(**arrays, mask=mask, width=4, signed=True)
    for one, other in zip(clean, broken, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert np.isnan(other[1]).all()
