"""Proximal maps: optimality against loops, and what every proximal map has."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.proximal import (
    low_rank_prox,
    random_shift,
    soft_threshold,
    wavelet_prox,
)
from medjax.mri.wavelet import inverse_wavelet_transform, wavelet_transform

wavelets = jax.jit(functools.partial(wavelet_prox, levels=2))
low_rank = jax.jit(functools.partial(low_rank_prox, block=4))
SHIFT = (jnp.array(3), jnp.array(1))


def images(*shape, seed=0, real=False):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return x if real else x + 1j * rng.standard_normal(shape)


def nuclear_norms(x, shift, size=4):
    """Sum over the blocks of a grid that starts at -shift, by SVD of each."""
    rows, cols = x.shape[-2:]
    total = 0.0
    for top in range(-shift[0], rows, size):
        for left in range(-shift[1], cols, size):
            part = x[
                :, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)
            ]
            if part.size:
                matrix = part.reshape(len(part), -1)
                total += np.linalg.svd(matrix, compute_uv=False).sum()
    return total


def blockwise(x, threshold, size):
    """Singular-value thresholding of each block, by SVD."""
    result = np.empty_like(x)
    for top in range(0, x.shape[-2], size):
        for left in range(0, x.shape[-1], size):
            part = x[:, top : top + size, left : left + size]
            u, s, vh = np.linalg.svd(part.reshape(len(part), -1), full_matrices=False)
            shrunk = (u * np.maximum(s - threshold, 0)) @ vh
            result[:, top : top + size, left : left + size] = shrunk.reshape(part.shape)
    return result


def test_soft_threshold_by_hand():
    x = jnp.array([3.0, -3.0, 0.5, -0.5, 0.0, 1.0])
    np.testing.assert_array_equal(soft_threshold(x, 1.0), [2.0, -2.0, 0, 0, 0, 0])
    np.testing.assert_allclose(
        soft_threshold(jnp.array([3.0 + 4.0j]), 1.0), [2.4 + 3.2j]
    )
    np.testing.assert_array_equal(soft_threshold(x, 0.0), x)
    assert np.isnan(soft_threshold(jnp.array([jnp.nan]), 1.0))[0]


def test_soft_threshold_of_a_nan_in_an_array_is_nan():
    threshold = jnp.array([jnp.nan, 0.5, jnp.inf], "f4")
    found = soft_threshold(jnp.ones(3, jnp.float32), threshold)
    np.testing.assert_array_equal(found, np.array([np.nan, 0.5, 0], "f4"))


def test_soft_threshold_minimises():
    x = images(200)
    u = soft_threshold(x, 0.7)

    def cost(u):
        return np.abs(u - x) ** 2 / 2 + 0.7 * np.abs(u)

    for seed in range(5):
        step = 1e-3 * images(200, seed=seed + 1)
        assert np.all(cost(u) <= cost(u + step))


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (3, 10, 9)])
def test_low_rank_equals_svd_of_every_block(real, shape):
    x = images(*shape, real=real)
    ours = low_rank(x, 2.0)
    assert ours.dtype == x.dtype
    oracle = [blockwise(y, 2.0, 4) for y in x.reshape(-1, *shape[-3:])]
    np.testing.assert_allclose(ours, np.reshape(oracle, shape), atol=1e-12)


def test_low_rank_leaves_what_is_of_rank_one():
    curve, image = images(5, real=True), images(8, 8, real=True)
    x = curve[:, None, None] * image
    shrunk = np.asarray(low_rank(x, 1e-3))
    # A block's only singular value shrinks by the threshold, its direction stays; the
    # Gram matrix resolves the others, which are 0, to sqrt(eps) of the largest.
    scale = shrunk / x
    np.testing.assert_allclose(
        scale, np.broadcast_to(scale[:1], scale.shape), atol=1e-7
    )
    assert np.all((scale < 1) & (scale > 0.99))


@pytest.mark.parametrize(
    ("prox", "penalty"),
    [
        (
            lambda x: wavelets(x, 0.3, shift=SHIFT),
            lambda u: 0.3 * np.sum(np.abs(_details(np.roll(u, (3, 1), (-2, -1))))),
        ),
        (
            lambda x: low_rank(x, 0.9, shift=SHIFT),
            lambda u: 0.9 * nuclear_norms(np.roll(u, (3, 1), (-2, -1)), (0, 0)),
        ),
    ],
    ids=["wavelet", "low_rank"],
)
@pytest.mark.parametrize("real", [False, True])
def test_minimises_its_penalty(prox, penalty, real):
    x = images(3, 8, 12, real=real)
    u = np.asarray(prox(x))

    def cost(v):
        return np.sum(np.abs(v - x) ** 2) / 2 + penalty(v)

    # The cost is strongly convex with modulus 1: it rises by at least |v - u|^2 / 2.
    for seed, size in enumerate([1e-3, 1e-2, 0.1, 1.0]):
        step = size * images(3, 8, 12, seed=seed + 1, real=real)
        assert cost(u + step) - cost(u) >= 0.5 * np.sum(np.abs(step) ** 2) - 1e-9
    for v in (x, 0 * x):
        assert cost(v) - cost(u) >= 0.5 * np.sum(np.abs(v - u) ** 2) - 1e-9


def _details(x):
    coefficients = np.array(wavelet_transform(x, levels=2))
    coefficients[..., : x.shape[-2] // 4, : x.shape[-1] // 4] = 0
    return coefficients


@pytest.mark.parametrize("prox", [wavelets, low_rank], ids=["wavelet", "low_rank"])
@pytest.mark.parametrize("shape", [(3, 8, 12), (3, 7, 10)])
def test_is_firmly_nonexpansive_and_0_changes_nothing(prox, shape):
    x, y = images(*shape), images(*shape, seed=1)
    for shift in (None, SHIFT):
        p, q = prox(x, 0.5, shift=shift), prox(y, 0.5, shift=shift)
        inner = np.real(np.vdot(p - q, x - y))
        assert np.sum(np.abs(p - q) ** 2) <= inner + 1e-9
        np.testing.assert_allclose(prox(x, 0.0, shift=shift), x, atol=1e-12)


def test_low_rank_cuts_blocks_at_the_edge():
    x = images(3, 8, 8, real=True)
    shift = (jnp.array(0), jnp.array(0))
    # Columns 0:4 and 4:6 of a 6 wide image are blocks of their own.
    np.testing.assert_allclose(
        low_rank(x[:, :, :6], 0.8, shift=shift),
        blockwise(x[:, :, :6], 0.8, 4),
        atol=1e-12,
    )


def test_shifts_cover_their_range_and_follow_the_key():
    keys = jax.random.split(jax.random.key(0), 200)
    rows, cols = jax.vmap(lambda key: random_shift(key, 4))(keys)
    for drawn in (rows, cols):
        assert set(np.asarray(drawn).tolist()) == {0, 1, 2, 3}
    assert np.any(rows != cols)
    again = random_shift(keys[7], 4)
    assert (again[0], again[1]) == (rows[7], cols[7])


def test_draws_do_not_depend_on_64_bits():
    with_64 = random_shift(jax.random.key(3), 100)
    with jax.enable_x64(False):
        without = random_shift(jax.random.key(3), 100)
    for left, right in zip(with_64, without, strict=True):
        assert left.dtype == right.dtype == np.int32
        np.testing.assert_array_equal(left, right)


def slope(function, x, direction, step=1e-6):
    up, down = (function(x + s * direction) for s in (step, -step))
    return (up - down) / (2 * step)


@pytest.mark.parametrize("threshold", [0.0, 0.3])
@pytest.mark.parametrize("real", [False, True])
def test_derivative_of_low_rank_where_singular_values_are_equal_or_zero(
    threshold, real
):
    """Against singular-value thresholding by SVD, in NumPy."""
    target, direction = (
        images(3, 4, 4, seed=1, real=real),
        images(3, 4, 4, seed=2, real=real),
    )
    orthogonal = np.linalg.qr(images(16, 3, real=real))[0].T.reshape(3, 4, 4)
    cases = {
        "equal": 2 * orthogonal,
        "two equal": np.array([2.0, 2.0, 0.9])[:, None, None] * orthogonal,
    }
    if threshold:  # without one the SVD drops nothing, and these are not special
        cases["below"] = np.array([2.0, 0.2, 0.2])[:, None, None] * orthogonal
        cases["zero"] = np.array([2.0, 0.0, 0.0])[:, None, None] * orthogonal
        cases["nothing"] = 0 * orthogonal

    def loss(prox):
        return lambda x: np.sum(np.abs(prox(x) - target) ** 2)

    def ours(x):
        return jnp.sum(jnp.abs(low_rank(x, threshold) - target) ** 2)

    for name, x in cases.items():
        expected = slope(loss(lambda y: blockwise(y, threshold, 4)), x, direction)
        _, found = jax.jvp(ours, (x,), (direction,))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)
        gradient = jax.grad(ours)(x)
        inner = np.sum(np.real(gradient * direction))
        np.testing.assert_allclose(inner, expected, atol=1e-6, err_msg=name)


def test_derivatives_of_low_rank_by_threshold_and_of_second_order():
    x = images(3, 4, 4, real=True)

    def total(x, threshold):
        return jnp.sum(low_rank(x, threshold) ** 3)

    found = jax.grad(total, 1)(x, 0.5)
    np.testing.assert_allclose(found, slope(lambda t: total(x, t), 0.5, 1.0), rtol=1e-6)
    direction = images(3, 4, 4, seed=1, real=True)
    gradient = jax.grad(total)
    _, second = jax.jvp(lambda x: gradient(x, 0.5), (x,), (direction,))
    expected = slope(lambda x: gradient(x, 0.5), x, direction)
    np.testing.assert_allclose(second, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [float, complex])
def test_derivative_of_soft_threshold_at_zero(dtype):
    x = jnp.zeros(3, dtype)

    def total(threshold):
        return lambda x: jnp.sum(jnp.real(soft_threshold(x, threshold)))

    np.testing.assert_array_equal(jax.grad(total(0.5))(x), 0)
    np.testing.assert_array_equal(jax.grad(total(0.0))(x), 1)  # it returns x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: soft_threshold(x, -1.0), "soft_threshold: threshold: .*0 or more"),
        (lambda x: soft_threshold(x, np.ones(3)), "soft_threshold: threshold"),
        (lambda x: soft_threshold(x.astype(int), 1.0), "x: expected float or complex"),
        (lambda x: low_rank_prox(x, np.ones(2), block=4), "low_rank_prox: threshold"),
        (lambda x: low_rank_prox(x, 0.1, block=0), "block: .* at least 1, found 0"),
        (lambda x: wavelet_prox(x, 0.1, levels=1, order=39), "order: .* from 1 to 38"),
        (lambda _: random_shift(jax.random.key(0), 0), "size: .* at least 1, found 0"),
        (
            lambda x: jax.jit(lambda n: low_rank_prox(x, 0.1, block=n))(4),
            "block: .* static_argnames",
        ),
    ],
)
def test_options_outside_their_range(call, message):
    with pytest.raises(ValueError, match=message):
        call(images(2, 4, 4, real=True))


# ---- thresholds of a batch, and joint details


@pytest.mark.parametrize("prox", [wavelets, low_rank])
def test_a_threshold_that_is_none_spoils_its_own_images(prox):
    x = images(4, 2, 8, 8, real=True)
    given = jnp.array([0.5, -0.5, np.nan, 0.0])
    found = np.asarray(prox(x, given[:, None] if prox is wavelets else given))
    assert np.isnan(found[1:3]).all()
    for n in (0, 3):
        alone = prox(x[n], float(given[n]))
        np.testing.assert_allclose(found[n], alone, atol=1e-12)  # float64


@pytest.mark.parametrize("shift", [(0.5, 0), (1,), (np.nan, 0), (np.ones(2, int), 1)])
def test_a_shift_that_is_no_two_whole_numbers_is_refused(shift):
    with pytest.raises(ValueError, match="shift: "):
        low_rank_prox(images(2, 8, 8), 0.1, block=4, shift=shift)


@pytest.mark.parametrize("real", [False, True])
def test_joint_wavelets_shrink_the_length_over_images(real):
    x = images(2, 3, 8, 8, real=real)
    thresholds = np.array([0.5, 1.5])
    found = wavelet_prox(x, thresholds, levels=2, order=2, joint=True)
    c = np.array(wavelet_transform(x, levels=2, order=2))
    length = np.sqrt(np.sum(np.abs(c) ** 2, axis=1, keepdims=True))
    kept = np.maximum(1 - thresholds[:, None, None, None] / length, 0)
    kept[..., :2, :2] = 1  # the coarse image
    expected = inverse_wavelet_transform(c * kept, levels=2, order=2)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    alone = wavelet_prox(x[:, :1], thresholds[:, None], levels=2, order=2)
    one = wavelet_prox(x[:, :1], thresholds, levels=2, order=2, joint=True)
    np.testing.assert_allclose(one, alone, atol=1e-12)


def test_a_threshold_for_each_of_a_batch():
    x = images(2, 3, 8, 8)
    thresholds = np.array([0.5, 2.0])
    for function, each in (
        (functools.partial(low_rank_prox, block=4), thresholds),
        (functools.partial(wavelet_prox, levels=2), thresholds[:, None]),
    ):
        found = function(x, each)
        for n in range(2):
            one = function(x[n], float(thresholds[n]))
            np.testing.assert_allclose(found[n], one, atol=1e-13)
