"""The centred pair against the sum that defines it."""

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


@pytest.mark.parametrize("size", SIZES)
def test_unitary(size):
    x, y = images(size), images(size, seed=1)
    k = jax.jit(fft2c)(x)
    np.testing.assert_allclose(jax.jit(ifft2c)(k), x, atol=1e-13)
    np.testing.assert_allclose(jnp.linalg.norm(k), np.linalg.norm(x), rtol=1e-13)
    np.testing.assert_allclose(
        jnp.vdot(y, k), jnp.vdot(jax.jit(ifft2c)(y), x), rtol=1e-12
    )


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
