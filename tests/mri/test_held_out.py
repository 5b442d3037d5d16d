"""Lines held out, what they say of images, and the weight that predicts them best."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import mri
from tests.mri.test_total_variation import draw, setup

KEY = jax.random.key(0)


def lines(lead=(), *, seed=0, width=40, share=0.5):
    return np.random.default_rng(seed).random((*lead, 3, 1, width)) < share


# ---- lines


def test_a_quarter_of_each_contrasts_outer_lines_is_held_out():
    mask = lines((2,))
    hold = functools.partial(mri.hold_out_lines, center=6)
    kept, held = map(np.asarray, jax.jit(hold)(mask, KEY))
    middle = np.zeros(40, bool)
    middle[(40 - 6 + 1) // 2 :][:6] = True
    outer = (mask & ~middle).sum((-2, -1))
    np.testing.assert_array_equal(np.sum(held, (-2, -1)), np.round(outer / 4))
    np.testing.assert_array_equal(kept | held, mask)
    assert not np.any(kept & held) and not np.any(held & middle)
    np.testing.assert_array_equal(held, hold(mask.astype(np.int32), KEY).held)
    other = hold(mask, jax.random.key(1)).held
    assert np.any(other != held)
    assert not np.array_equal(held[0, 0], held[0, 1])


def test_the_middle_is_that_of_undersampling_masks():
    options = {"contrasts": 3, "size": (8, 50), "center_fraction": 0.2}
    for kind in ("random", "poisson"):
        mask = mri.undersampling_mask(kind, seed=0, acceleration=3, **options)
        full = mask.all(0) & np.roll(mask, 1, 0).all(0)
        held = np.asarray(mri.hold_out_lines(mask, KEY, center=10).held)
        assert held.any() and full.any()
        alone = mri.undersampling_mask(kind, seed=1, acceleration=3, **options)
        assert not np.any(held & (mask.all(0) & alone.all(0)) & _block(mask.shape, 10))


def _block(shape, center):
    block = np.zeros(shape[-2:], bool)
    rows = slice(None) if shape[-2] == 1 else _middle(shape[-2], center)
    block[rows, _middle(shape[-1], center)] = True
    return block


def _middle(points, center):
    start = (points - center + 1) // 2
    return slice(start, start + center)


def test_one_line_is_held_out_of_two_and_rows_are_lines_too():
    mask = np.zeros((1, 9, 1), bool)
    mask[0, [0, 3, 4, 5, 8]] = True
    kept, held = mri.hold_out_lines(mask, KEY, center=3)
    assert held.sum() == 1 and not held[0, 3:6].any() and kept.sum() == 4
    kept, held = mri.hold_out_lines(mask, KEY, share=0.9, center=3)
    assert held.sum() == 1 and kept.sum() == 4


def test_without_contrasts_nothing_is_held_out():
    kept, held = mri.hold_out_lines(np.zeros((0, 1, 8), bool), KEY, center=2)
    assert kept.shape == held.shape == (0, 1, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"center": 38}, "at least 2 sampled lines outside the middle 38 .* contrast"),
        ({"center": -1}, "center: .* at least 0"),
        ({"share": 0.0}, "share: expected a number above 0 and below 1; found 0.0"),
        ({"share": 1.0}, "share: expected a number above 0 and below 1"),
        ({"mask": np.ones((3, 1, 40))}, "mask: expected bool or int"),
        ({"key": jax.random.split(KEY)}, "key: expected one typed PRNG key"),
    ],
    ids=str,
)
def test_refused_lines(change, message):
    arguments = {"mask": lines(), "key": KEY, "center": 6} | change
    with pytest.raises(ValueError, match=message):
        mri.hold_out_lines(**arguments)


def test_too_few_lines_of_one_contrast_of_one_slice():
    mask = lines((2,))
    mask[1, 2, 0] = False
    mask[1, 2, 0, 17:24] = True
    with pytest.raises(ValueError, match=r"found 0 of contrast 2 of slice \[1\]"):
        mri.hold_out_lines(mask, KEY, center=8)
    held = jax.jit(functools.partial(mri.hold_out_lines, center=8))(mask, KEY).held
    assert not held[1, 2].any() and held[1, 1].any()  # traced: nothing is held


# ---- misfit


def test_misfit_by_a_loop():
    images, sens, mask, y = setup((2,))
    held = mri.hold_out_lines(mask, KEY, center=2).held
    phase = np.linspace(0, 1, 120).reshape(12, 10) + np.zeros((2, 4, 12, 10))
    x = images * 1.1
    found = mri.held_out_misfit(x, y, sens, held, phase=phase)
    full = np.asarray(mri.sense_forward(x * np.exp(1j * phase), sens))
    for n in range(2):
        rest = [
            abs(y[n, e, c, i, j] - full[n, e, c, i, j]) ** 2
            for e in range(4)
            for c in range(3)
            for i in range(12)
            for j in range(10)
            if held[n, e, 0, j]
        ]
        np.testing.assert_allclose(found[n], np.mean(rest), rtol=1e-12)
    nothing = jnp.asarray(held).at[1].set(False)
    assert np.isnan(mri.held_out_misfit(x, y, sens, nothing)).tolist() == [False, True]


def test_misfit_of_the_true_images_is_the_noise():
    images, sens, mask, _ = setup(size=(60, 40))
    clean = np.asarray(mri.sense_forward(images + 0j, sens, mask))
    y = clean + 0.1 * draw(*clean.shape, seed=5)
    held = mri.hold_out_lines(mask, KEY, center=2).held
    found = mri.held_out_misfit(images, y, sens, held)
    np.testing.assert_allclose(found, 0.02, rtol=0.1)  # 2 x 0.1^2; 5,000 samples


# ---- weight


def parabola(best):
    """Images whose misfit is least at the weight `best` of each slice."""
    ones = np.ones((2, 1, 4, 8), complex)
    sens, held = np.ones((2, 1, 4, 8), complex), np.ones((2, 1, 1, 8), bool)
    y = np.asarray(mri.sense_forward(ones, sens))

    def reconstruct(weight):
        off = jnp.abs(jnp.log(weight / best))
        return (1 + off)[:, None, None, None] * np.ones((2, 1, 4, 8))

    return reconstruct, y, sens, held


def test_the_vertex_is_found_and_the_ends_are_extended():
    best = np.array([0.03, 7.0])  # the second is two extensions away
    reconstruct, y, sens, held = parabola(best)
    find = jax.jit(
        lambda y, extensions: mri.held_out_weight(
            reconstruct,
            y,
            sens,
            held,
            weights=2.0 ** np.arange(-8.0, -3.0),
            extensions=extensions,
        ),
        static_argnums=1,
    )
    found = find(y, 6)
    np.testing.assert_allclose(found.weight, best, rtol=1e-6)
    assert found.interior.all() and found.weights.shape == found.misfit.shape == (5, 2)
    np.testing.assert_allclose(found.weights[:, 0], 2.0 ** np.arange(-8.0, -3.0))
    found = find(y, 0)
    assert found.interior.tolist() == [True, False]
    np.testing.assert_allclose(found.weight, [0.03, 2.0**-4], rtol=1e-6)


def test_misfits_that_are_not_finite_count_as_the_largest():
    reconstruct, y, sens, held = parabola(np.array([0.03, 0.03]))
    y = y.copy()
    y[1] = np.nan

    def partly(weight):
        lost = jnp.where(weight > 0.1, jnp.nan, 1.0)
        return reconstruct(weight) * lost[:, None, None, None]

    weights = 0.01 * 2.0 ** np.arange(6)
    found = mri.held_out_weight(partly, y, sens, held, weights=weights)
    np.testing.assert_allclose(found.weight[0], 0.03, rtol=1e-6)
    assert np.isnan(found.weight[1]) and found.interior.tolist() == [True, False]


@pytest.mark.parametrize("method", ["tv", "wavelet", "cg"])
def test_the_weight_is_near_the_one_with_the_least_error(method):
    images, sens, mask, y = setup(size=(24, 40), noise=0.1)
    basis = mri.exponential_basis(
        np.array([0.0, 0.03, 0.06, 0.12]), rank=2, low=0.03, high=2.5, atoms=50
    )

    def solve(weight, mask):
        if method == "tv":
            options = {"iterations": 60, "constraint": "real", "basis": basis}
            return mri.joint_tv_sense(y, sens, mask, weight=weight, **options)
        if method == "wavelet":
            options = {"iterations": 60, "levels": 2, "order": 1, "joint": True}
            return mri.wavelet_sense(y, sens, mask, KEY, threshold=weight, **options)
        return mri.cg_sense(y, sens, mask, damping=weight, iterations=30)

    @jax.jit
    def find(key):
        kept, held = mri.hold_out_lines(mask, key, center=4)
        weights = 0.01 * 2.0 ** np.arange(5)
        return mri.held_out_weight(
            lambda w: solve(w, kept), y, sens, held, weights=weights
        )

    error = jax.jit(
        lambda w: jnp.sum(
            jnp.abs(solve(w, mask).astype(complex) - images.astype(complex)) ** 2
        )
    )
    found = find(KEY)
    assert found.interior
    least = min(float(error(w)) for w in 0.0025 * 2.0 ** np.arange(12))
    reached = float(error(found.weight))
    assert reached < 1.3 * least  # few lines: their noise moves the minimum
    for factor in (1 / 10, 10):
        assert float(error(found.weight * factor)) > 1.1 * reached


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.array([0.1, 0.2]), "weights: expected at least 3"),
        (np.array([0.1, 0.3, 0.2]), "weights: expected finite numbers above 0 that as"),
        (np.array([0.0, 0.1, 0.2]), "weights: expected finite numbers above 0"),
        (np.array([-0.1, 0.1, 0.2]), "weights: expected 0 or more"),
        (np.array([0.1, 0.2, np.inf]), "weights: expected finite"),
        (np.ones((3, 2)), r"weights: expected float of shape \[L\]"),
    ],
    ids=str,
)
def test_refused_weights(weights, message):
    reconstruct, y, sens, held = parabola(np.ones(2))
    with pytest.raises(ValueError, match=message):
        mri.held_out_weight(reconstruct, y, sens, held, weights=weights)


def test_a_reconstruction_of_another_shape():
    reconstruct, y, sens, held = parabola(np.ones(2))
    with pytest.raises(ValueError, match="reconstruct_fn: .* E = 1 from kspace"):
        mri.held_out_weight(
            lambda w: reconstruct(w).repeat(2, axis=1),
            y,
            sens,
            held,
            weights=np.array([0.1, 0.2, 0.4]),
        )
