"""The centred pair against the sum that defines it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.fourier import fft2c, ifft2c

SIZES = [(6, 8), (5, 7), (6, 7), (1, 4)]


def images(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def centred_dft(size):
    index = np.arange(size) - size // 2
    return np.exp(-2j * np.pi * np.outer(index, index) / size) / np.sqrt(size)


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_definition(size):
    x = images((2, *size))
    rows, cols = (centred_dft(n) for n in size)
    expected = np.einsum("ij,njk,lk->nil", rows, x, cols)
    np.testing.assert_allclose(jax.jit(fft2c)(x), expected, atol=1e-13)


class UnitaryTest(chex.TestCase):
    """Compiled or not, from the host's memory or the device's."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    def test_unitary(self):
        forward, inverse = self.variant(fft2c), self.variant(ifft2c)
        for size in SIZES:
            x, y = images(size), images(size, seed=1)
            k = forward(x)
            chex.assert_trees_all_close(inverse(k), x, atol=1e-13)
            chex.assert_trees_all_close(np.linalg.norm(k), np.linalg.norm(x))
            left, right = np.vdot(y, k), np.vdot(inverse(y), x)
            chex.assert_trees_all_close(left, right, rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_a_constant_image_is_the_centre(size):
    k = jax.jit(fft2c)(jnp.ones(size))
    expected = np.zeros(size)
    expected[size[0] // 2, size[1] // 2] = np.sqrt(size[0] * size[1])
    np.testing.assert_allclose(k, expected, atol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", "complex64"), ("complex64", "complex64"), ("float64", "complex128")],
)
def test_follows_the_dtype(dtype, expected):
    assert fft2c(jnp.ones((4, 4), dtype)).dtype == expected
