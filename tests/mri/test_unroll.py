from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.fourier import fft2c, ifft2c
from medjax.mri.sense import sense_adjoint, sense_forward, sense_normal
from medjax.mri.unroll import unrolled_reconstruction

B, E, C, H, W, S = 2, 3, 4, 8, 10, 3


@pytest.fixture(scope="module")
def acquired():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    sens = draw(B, C, H, W)
    sens /= np.sqrt((np.abs(sens) ** 2).sum(1, keepdims=True))
    sens[:, :, :2] = 0  # outside the head
    mask = rng.random((B, E, 1, W)) < 0.5
    images = draw(B, E, H, W)
    kspace = sense_forward(jnp.asarray(images), jnp.asarray(sens), jnp.asarray(mask))
    return kspace, jnp.asarray(sens), jnp.asarray(mask)


def linear(weight, x):
    """A stand-in for the network, with one number a stage."""
    return weight.astype(x.dtype) * jnp.conj(x), jnp.sum(jnp.abs(x))


def nothing(_, x):
    return jnp.zeros_like(x), ()


WEIGHTS = jnp.array([0.3, -0.2, 0.1])


@jax.jit
def run_hard(weights, kspace, sens, mask):
    return unrolled_reconstruction(
        linear, weights, kspace, sens, mask, consistency="hard"
    )


def test_hard_consistency_replaces_the_samples_as_the_authors_do(acquired):
    kspace, sens, mask = acquired
    x = sense_adjoint(kspace, sens)
    sums = []
    for weight in WEIGHTS:
        residual, total = linear(weight, x)
        sums.append(total)
        coils = fft2c((x + residual)[:, :, None] * sens[:, None])
        mixed = jnp.where(mask[:, :, None], kspace, coils)
        x = jnp.sum(jnp.conj(sens)[:, None] * ifft2c(mixed), axis=2)
    images, extras = run_hard(WEIGHTS, *acquired)
    np.testing.assert_allclose(images, x, atol=1e-12)
    np.testing.assert_allclose(extras, sums, rtol=1e-12)


def run_cg(denoise, weights, acquired, damping, **options):
    return jax.jit(
        partial(unrolled_reconstruction, denoise, consistency="cg", **options)
    )(weights, *acquired, damping=damping)[0]


def dense_normal(mask, sens, b, e):
    """N of one contrast as a matrix."""
    eye = jnp.eye(H * W, dtype=sens.dtype).reshape(H * W, 1, H, W)
    columns = sense_normal(
        eye,
        jnp.broadcast_to(sens[b], (H * W, C, H, W)),
        jnp.broadcast_to(mask[b, e : e + 1], (H * W, 1, *mask.shape[2:])),
    )
    return np.asarray(columns).reshape(H * W, H * W).T


def test_cg_stages_equal_dense_solves(acquired):
    kspace, sens, mask = acquired
    damping = jnp.array([0.5, 0.3, 0.2])
    images = run_cg(linear, WEIGHTS, acquired, damping, iterations=100)
    for b, e in ((0, 1), (1, 2)):
        matrix = dense_normal(mask, sens, b, e)
        adjoint = np.asarray(sense_adjoint(kspace, sens)[b, e]).reshape(-1)
        x = adjoint
        for weight, strength in zip(*map(np.asarray, (WEIGHTS, damping)), strict=True):
            rhs = adjoint + strength * (x + weight * x.conj())
            x = np.linalg.solve(matrix + strength * np.eye(H * W), rhs)
        np.testing.assert_allclose(images[b, e].reshape(-1), x, atol=1e-9)


def test_without_a_denoiser_a_start_by_cg_is_regularised_sense(acquired):
    kspace, sens, mask = acquired
    images = run_cg(
        nothing,
        jnp.zeros(1),
        acquired,
        jnp.array([0.1]),
        iterations=150,
        start_iterations=150,
    )
    matrix = dense_normal(mask, sens, 0, 0) + 0.1 * np.eye(H * W)
    adjoint = np.asarray(sense_adjoint(kspace, sens)[0, 0]).reshape(-1)
    start = np.linalg.solve(matrix, adjoint)
    # one stage without a prior is one more proximal-point step
    expected = np.linalg.solve(matrix, adjoint + 0.1 * start)
    np.testing.assert_allclose(images[0, 0].reshape(-1), expected, atol=1e-9)


def test_a_whole_basis_changes_nothing_and_a_small_one_confines(acquired):
    basis, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(E, E)))
    damping = jnp.full((1,), 0.2)
    run = partial(run_cg, nothing, jnp.zeros(1), acquired, damping, iterations=150)
    np.testing.assert_allclose(run(basis=jnp.asarray(basis)), run(), atol=1e-9)
    small = run(basis=jnp.asarray(basis[:, :2]))
    outside = np.einsum("e,bexy->bxy", basis[:, 2], small)
    np.testing.assert_allclose(outside, 0, atol=1e-12)


def test_stages_share_weights_given_the_same_ones(acquired):
    """The gradient of a shared weight is the sum of the stages'."""

    def loss(weights):
        return jnp.sum(jnp.abs(run_hard(weights, *acquired)[0]) ** 2)

    each = jax.grad(loss)(jnp.full((S,), 0.2))
    whole = jax.grad(lambda w: loss(jnp.broadcast_to(w[None], (S,))))(jnp.asarray(0.2))
    np.testing.assert_allclose(whole, each.sum(), rtol=1e-12)


@pytest.mark.parametrize("remat", [False, True])
def test_gradients_equal_finite_differences(acquired, remat):
    options = {"iterations": 150, "remat": remat}

    @jax.jit
    def loss(weights, log_damping):
        images, _ = unrolled_reconstruction(
            linear,
            weights,
            *acquired,
            consistency="cg",
            damping=jnp.exp(log_damping),
            **options,
        )
        return jnp.sum(jnp.abs(images - 1) ** 2)

    at = (WEIGHTS, jnp.log(jnp.array([0.5, 0.3, 0.4])))
    grads = jax.jit(jax.grad(loss, (0, 1)))(*at)
    step = 1e-5
    for which in (0, 1):
        for i in (0, 2):
            ends = []
            for sign in (1, -1):
                moved = list(at)
                moved[which] = at[which].at[i].add(sign * step)
                ends.append(loss(*moved))
            slope = (ends[0] - ends[1]) / (2 * step)
            # the difference quotient's own error is about 1e-10 / step
            np.testing.assert_allclose(grads[which][i], slope, rtol=1e-5)


def test_a_slice_is_its_own_whatever_the_batch(acquired):
    whole = run_hard(WEIGHTS, *acquired)[0]
    alone = run_hard(WEIGHTS, *(x[1:] for x in acquired))[0]
    np.testing.assert_allclose(alone[0], whole[1], atol=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consistency": "soft"}, "consistency: expected .* found 'soft'"),
        ({"consistency": "cg", "iterations": 1}, "need damping"),
        ({"consistency": "cg", "damping": jnp.ones(S)}, "iterations"),
        ({"consistency": "hard", "start_iterations": 2}, "need damping"),
        ({"consistency": "hard", "damping": jnp.ones(())}, r"damping: .* \[S\]"),
        ({"consistency": "hard", "damping": jnp.ones(2)}, "leading axis S"),
        ({"consistency": "hard", "unroll": 0}, "unroll: .* at least 1"),
        ({"consistency": "hard", "basis": jnp.ones((1, 2))}, "basis: .* E = "),
    ],
)
def test_refuses_half_a_problem(acquired, options, message):
    with pytest.raises(ValueError, match=message):
        unrolled_reconstruction(linear, WEIGHTS, *acquired, **options)


def test_one_slice_s_sensitivities_are_not_taken_for_all(acquired):
    kspace, sens, mask = acquired
    with pytest.raises(ValueError, match="unrolled_reconstruction: sens: .* B = "):
        unrolled_reconstruction(
            linear, WEIGHTS, kspace, sens[:1], mask, consistency="hard"
        )


@pytest.mark.parametrize(
    "denoise", [lambda _, x: (x[:, :1], ()), lambda _, x: (jnp.abs(x), ())]
)
def test_a_residual_that_would_be_broadcast_is_refused(acquired, denoise):
    with pytest.raises(ValueError, match="unrolled_reconstruction: denoise: expected"):
        unrolled_reconstruction(denoise, WEIGHTS, *acquired, consistency="hard")
