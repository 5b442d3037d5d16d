"""Coil operators: definition, adjointness, and what the normal operator leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import mri
from medjax.mri.fourier import fft2c
from medjax.mri.sense import (
    combine_coils,
    mix_coils,
    normalize_sensitivities,
    root_sum_of_squares,
    sense_adjoint,
    sense_forward,
    sense_normal,
)

SIZES = [(6, 8), (5, 7), (8, 5)]
MASKS = ["lines", "rows", "points", "phases", "none"]
forward, adjoint, normal = map(jax.jit, (sense_forward, sense_adjoint, sense_normal))


def acquisition(size, mask="points", lead=(), seed=0):
    """Images [.., 3, H, W], sensitivities [.., 4, H, W] and a mask, in float64."""
    rng = np.random.default_rng(seed)
    h, w = size

    def draw(*shape):
        parts = rng.standard_normal((2, *lead, *shape))
        return parts[0] + 1j * parts[1]

    shape = {"lines": (1, w), "rows": (h, 1), "points": (h, w), "phases": (1, 1)}
    sampled = None
    if mask in shape:
        sampled = rng.random((*lead, 3, *shape[mask])) < 0.5
    return draw(3, h, w), draw(4, h, w), sampled


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", SIZES)
def test_forward_equals_the_definition(size, mask):
    x, sens, sampled = acquisition(size, mask)
    k = forward(x, sens, sampled)
    for e in range(3):
        for c in range(4):
            expected = np.array(fft2c(x[e] * sens[c]))
            if sampled is not None:
                expected = expected * sampled[e]
            np.testing.assert_allclose(k[e, c], expected, atol=1e-13)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", SIZES)
def test_adjoint_by_dot_products(size, mask):
    x, sens, sampled = acquisition(size, mask)
    rng = np.random.default_rng(1)
    y = rng.standard_normal((3, 4, *size)) + 1j * rng.standard_normal((3, 4, *size))
    left = jnp.vdot(y, forward(x, sens, sampled))
    right = jnp.vdot(adjoint(y, sens, sampled), x)
    np.testing.assert_allclose(left, right, rtol=1e-12)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", SIZES)
def test_normal_equals_adjoint_of_forward(size, mask):
    x, sens, sampled = acquisition(size, mask)
    expected = adjoint(forward(x, sens, sampled), sens, sampled)
    np.testing.assert_allclose(normal(x, sens, sampled), expected, atol=1e-12)


def test_normal_of_an_even_and_odd_batch_and_its_gradient():
    x, sens, sampled = acquisition((5, 6), "lines", lead=(2,))

    def energy(fn):
        return jax.jit(jax.grad(lambda x: jnp.real(jnp.vdot(x, fn(x))), argnums=0))(x)

    plain = energy(lambda x: sense_adjoint(sense_forward(x, sens, sampled), sens))
    fast = energy(lambda x: sense_normal(x, sens, sampled))
    np.testing.assert_allclose(fast, plain, atol=1e-12)
    one = normal(x[1], sens[1], sampled[1])
    np.testing.assert_allclose(normal(x, sens, sampled)[1], one, atol=1e-13)


def test_one_batch_dimension_may_be_shared():
    x, sens, sampled = acquisition((4, 6), "lines", lead=(2,))
    shared = normal(x, sens[:1], sampled[:1])
    expected = jnp.stack([normal(a, sens[0], sampled[0]) for a in x])
    np.testing.assert_allclose(shared, expected, atol=1e-13)


def test_what_was_not_sampled_never_counts():
    x, sens, sampled = acquisition((4, 6), "lines")
    k = np.array(forward(x, sens, sampled))
    clean = adjoint(k, sens, sampled)
    k[~np.broadcast_to(sampled[:, None], k.shape)] = np.nan
    np.testing.assert_array_equal(adjoint(k, sens, sampled), clean)


def test_normalised_sensitivities_make_the_full_adjoint_the_inverse():
    x, sens, _ = acquisition((5, 6))
    sens[:, :2] = 0
    unit = jax.jit(lambda s: normalize_sensitivities(s, floor=0.0))(sens)
    np.testing.assert_allclose(root_sum_of_squares(unit)[2:], 1.0, rtol=1e-14)
    assert not np.any(unit[:, :2])
    back = adjoint(forward(x, unit), unit)
    np.testing.assert_allclose(back[:, 2:], x[:, 2:], atol=1e-13)
    assert not np.any(back[:, :2])


def test_the_floor_drops_what_is_faint():
    sens = np.ones((2, 3, 3), complex)
    sens[:, 0, 0] = 0.01
    assert not np.any(normalize_sensitivities(sens, floor=0.05)[:, 0, 0])


def test_combination_is_least_squares():
    x, sens, _ = acquisition((4, 5))
    unit = normalize_sensitivities(jnp.asarray(sens), floor=0.0)
    coils = x[:, None] * np.asarray(unit)
    np.testing.assert_allclose(combine_coils(coils, unit), x, atol=1e-13)


@pytest.mark.parametrize("dtype", ["complex64", "float32"])
def test_single_precision_stays(dtype):
    x, sens, sampled = acquisition((6, 6), "lines")
    x = jnp.asarray(x if dtype == "complex64" else x.real, dtype)
    sens = jnp.asarray(sens, "complex64")
    assert normal(x, sens, sampled).dtype == "complex64"
    assert forward(x, sens, sampled).dtype == "complex64"


def test_wrong_shapes_say_what_was_expected():
    x, sens, sampled = acquisition((4, 6), "lines")
    with pytest.raises(ValueError, match=r"sense_normal: sens: .* found .* \(4, 6\)"):
        sense_normal(x, sens[0], sampled)
    with pytest.raises(ValueError, match=r"H = 6 from images.* \(4, 4, 6\)"):
        sense_normal(x.swapaxes(1, 2), sens, sampled)
    with pytest.raises(
        ValueError, match=r"mask: .* \[\*#B, E, #H, #W\].* \(3, 1, 1, 6\)"
    ):
        sense_forward(x, sens, sampled[:, None])
    with pytest.raises(ValueError, match=r"C = 5 from kspace.* \(4, 4, 6\)"):
        sense_adjoint(np.zeros((3, 5, 4, 6), complex), sens)
    with pytest.raises(ValueError, match="sens: expected complex"):
        sense_forward(x, sens.real)  # would drop the images' imaginary part
    with pytest.raises(ValueError, match=r"sens: .* B = 2 .* \(3, 4, 4, 6\)"):
        sense_forward(np.stack([x, x]), np.stack([sens] * 3))
    with pytest.raises(ValueError, match="mask: expected bool or int .* float64"):
        sense_forward(x, sens, 0.5 * sampled)  # would count as 1
    with pytest.raises(ValueError, match="sense_normal: .* the order is sens, mask"):
        sense_normal(np.ones((4, 4, 6)), np.ones((4, 4, 6), bool), sens)
    with pytest.raises(ValueError, match="floor: expected from 0 to 1; found 2"):
        normalize_sensitivities(sens, floor=2)


def test_dtypes_are_promoted_and_never_fall():
    x, sens, sampled = acquisition((4, 6), "lines")
    narrow = sens.astype(np.complex64)
    exact = forward(x, narrow.astype(complex), sampled)
    found = forward(x, narrow, sampled)
    assert found.dtype == np.complex128
    np.testing.assert_allclose(found, exact, atol=1e-13)
    assert normal(x, narrow, sampled).dtype == np.complex128
    assert adjoint(exact, narrow, sampled).dtype == np.complex128
    assert adjoint(exact.astype(np.complex64), sens).dtype == np.complex128
    assert combine_coils(exact, narrow).dtype == np.complex128
    assert mix_coils(narrow, np.ones((2, 4))).dtype == np.complex128
    integers = sampled.astype(np.int8) * 3
    np.testing.assert_array_equal(forward(x, narrow, integers), found)


def test_a_number_that_is_not_finite_stays_at_its_own_pixel():
    _, sens, _ = acquisition((4, 5), lead=(2,))
    sens[0, :, 2, 3] *= 0.5  # not the largest, which would move the floor
    clean = normalize_sensitivities(sens, floor=0.1)
    for bad in (np.nan, np.inf):
        spoilt = sens.copy()
        spoilt[0, 1, 2, 3] = bad
        found = np.array(normalize_sensitivities(spoilt, floor=0.1))
        assert np.isnan(found[0, :, 2, 3]).all()
        found[0, :, 2, 3] = clean[0, :, 2, 3]
        np.testing.assert_array_equal(found, clean)


def test_derivatives_where_no_coil_sees_anything():
    _, sens, _ = acquisition((3, 4))
    sens[:, 0] = 0

    def total(function):
        return jax.grad(lambda s: jnp.sum(jnp.abs(function(s) - 1) ** 2))(sens)

    gradients = (
        total(root_sum_of_squares),
        total(lambda s: normalize_sensitivities(s, floor=0.0)),
    )
    for gradient in gradients:
        assert np.all(np.isfinite(gradient)) and not np.any(gradient[:, 0])
    root = np.sqrt((np.abs(sens) ** 2).sum(0))[1:]
    expected = 2 * (root - 1) * sens.conj()[:, 1:] / root
    np.testing.assert_allclose(gradients[0][:, 1:], expected, rtol=1e-12)


SPREAD = {
    # what a number in coil 1 of slice 0 at (2, 3) that is not finite spoils
    "sense_forward": lambda bad: bad.at[0, :, 1].set(True),
    "sense_adjoint": lambda bad: bad.at[0, :, 2, 3].set(True),
    "sense_normal": lambda bad: bad.at[0, :, 2].set(True),
    "combine_coils": lambda bad: bad.at[0, :, 2, 3].set(True),
}


@pytest.mark.parametrize("name", SPREAD)
def test_a_sensitivity_that_is_not_finite_spoils_what_the_docstring_says(name):
    rng = np.random.default_rng(5)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape))

    sens = normal(2, 3, 4, 6).at[0, 1, 2, 3].set(jnp.nan)
    of_coils = name in ("sense_adjoint", "combine_coils")
    x = normal(2, 5, 3, 4, 6) if of_coils else normal(2, 5, 4, 6)
    mask = (jnp.ones((2, 5, 1, 6), bool).at[..., 1].set(False),)  # whole columns
    mask = () if name == "combine_coils" else mask
    result = getattr(mri, name)(x, sens, *mask)
    expected = SPREAD[name](jnp.zeros(result.shape, bool))
    if name == "sense_forward":
        expected &= mask[0][:, :, None]  # 0 where not sampled
    np.testing.assert_array_equal(~jnp.isfinite(result), expected)
