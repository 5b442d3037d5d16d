"""Wavelets against PyWavelets, and as rotations."""

import jax
import numpy as np
import pytest

from medjax.mri.wavelet import (
    daubechies_filter,
    detail_mask,
    inverse_wavelet_transform,
    pad_to_multiple,
    wavelet_transform,
)

pywt = pytest.importorskip("pywt", reason="PyWavelets is the oracle")

forward = jax.jit(wavelet_transform, static_argnames=("levels", "order"))
backward = jax.jit(inverse_wavelet_transform, static_argnames=("levels", "order"))


def images(*shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


@pytest.mark.parametrize("order", range(1, 11))
def test_filters_are_those_of_daubechies(order):
    # Roots of a polynomial of growing degree lose digits.
    expected = pywt.Wavelet(f"db{order}").rec_lo
    np.testing.assert_allclose(daubechies_filter(order), expected, atol=1e-10)


# Sides shorter than the filter wrap round more than once, of which pywt warns.
@pytest.mark.filterwarnings("ignore:Level value of:UserWarning")
@pytest.mark.parametrize(
    ("shape", "levels", "order"),
    [
        ((24, 40), 3, 4),
        ((16, 16), 3, 4),
        ((12, 20), 2, 2),
        ((8, 6), 1, 1),
        ((16, 8), 3, 4),
    ],
)
def test_equals_pywavelets(shape, levels, order):
    x = images(2, *shape)
    ours = forward(x, levels=levels, order=order)
    for image, coefficients in zip(x, ours, strict=True):
        oracle = pywt.wavedec2(image, f"db{order}", mode="periodization", level=levels)
        oracle = pywt.coeffs_to_array(oracle)[0]
        np.testing.assert_allclose(coefficients, oracle, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
def test_is_orthogonal(dtype):
    x, c = images(2, 16, 24, dtype=dtype), images(2, 16, 24, seed=1, dtype=dtype)
    transformed = forward(x, levels=3)
    assert transformed.dtype == dtype
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(backward(transformed, levels=3), x, atol=tolerance)
    np.testing.assert_allclose(
        forward(backward(c, levels=3), levels=3), c, atol=tolerance
    )
    np.testing.assert_allclose(
        np.vdot(transformed, c), np.vdot(x, backward(c, levels=3)), rtol=1e3 * tolerance
    )
    np.testing.assert_allclose(
        np.linalg.norm(transformed), np.linalg.norm(x), rtol=tolerance
    )


def test_smooth_images_have_no_details():
    # db4 has four vanishing moments: away from the wrap, cubics have no details.
    x = np.linspace(-1, 1, 64)
    details = np.array(forward((x**3)[None, :, None] * x[None, None, :] ** 2, levels=1))
    details = details * detail_mask((64, 64), levels=1)
    inner = details.reshape(2, 32, 2, 32)[:, 4:-4, :, 4:-4]
    assert np.abs(inner).max() < 1e-12 < np.abs(details).max()


def test_sides_that_do_not_divide():
    with pytest.raises(ValueError, match="multiples of 8, found 20 x 24"):
        wavelet_transform(images(20, 24), levels=3)
    with pytest.raises(ValueError, match="levels: expected an integer of at least 0"):
        inverse_wavelet_transform(images(8, 8), levels=-1)
    padded = pad_to_multiple(images(20, 24), 8)
    assert padded.shape == (24, 24) and not np.any(padded[20:])
    np.testing.assert_array_equal(wavelet_transform(padded, levels=0), padded)
