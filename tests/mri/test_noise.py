"""Noise: whitening, exact variances against a dense matrix and against replicas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.noise import (
    combined_variance,
    noise_covariance,
    prewhiten,
    replica_variance,
    sense_variance,
    whitening_matrix,
)
from medjax.mri.sense import mix_coils, sense_adjoint, sense_forward


def draw(*shape, seed=0):
    parts = np.random.default_rng(seed).standard_normal((2, *shape))
    return parts[0] + 1j * parts[1]


def covariance(coils=3, seed=5):
    mixing = draw(coils, coils, seed=seed)
    return mixing @ mixing.conj().T


def unit_sens(coils=3, size=(4, 6), seed=2):
    sens = draw(coils, *size, seed=seed)
    return sens / np.linalg.norm(sens, axis=0)


def test_covariance_of_many_samples():
    lower = np.linalg.cholesky(covariance())
    samples = lower @ draw(3, 200_000) / np.sqrt(2)
    found = jax.jit(noise_covariance)(samples)
    # 200,000 samples: a relative standard error of 0.0022.
    np.testing.assert_allclose(found, covariance(), atol=0.01 * found.real.max())
    np.testing.assert_allclose(found, found.conj().T, rtol=1e-14)


def test_whitening_makes_the_covariance_one():
    samples = np.linalg.cholesky(covariance()) @ draw(3, 50)
    white = jax.jit(whitening_matrix)(noise_covariance(samples))
    np.testing.assert_allclose(noise_covariance(white @ samples), np.eye(3), atol=1e-12)


def test_prewhitening_keeps_the_model():
    x, sens = draw(2, 4, 6), unit_sens()
    k = sense_forward(x, sens)
    white_k, white_sens, scale = jax.jit(prewhiten)(k, sens, covariance())
    expected = sense_forward(x * np.asarray(scale), white_sens)
    np.testing.assert_allclose(white_k, expected, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(white_sens, axis=0), 1, rtol=1e-12)


def test_prewhitening_a_batch_is_each_alone():
    k, sens = draw(2, 2, 3, 4, 6), draw(2, 3, 4, 6)
    psi = np.stack([covariance(seed=1), covariance(seed=2)])
    batch = prewhiten(jnp.asarray(k), jnp.asarray(sens), jnp.asarray(psi))
    for i in range(2):
        alone = prewhiten(*map(jnp.asarray, (k[i], sens[i], psi[i])))
        for found, expected in zip(batch, alone, strict=True):
            np.testing.assert_allclose(found[i], expected, rtol=1e-12)


def test_combined_variance_equals_replicas():
    sens, psi = jnp.asarray(unit_sens()), jnp.asarray(covariance())
    lower = jnp.linalg.cholesky(psi)

    def reconstruct(noise):
        return sense_adjoint(mix_coils(noise, lower), sens)

    zeros = jnp.zeros((1, 3, 4, 6), complex)
    found = jax.jit(
        lambda key: replica_variance(reconstruct, zeros, key, replicas=4000)
    )(jax.random.key(0))
    expected = combined_variance(sens, psi)
    # 24 pixels, standard error sqrt(1 / 4000) = 0.016 of a complex variance.
    np.testing.assert_allclose(found[0], expected, rtol=0.07)


@pytest.mark.parametrize("damping", [-0.1, float("nan")])
def test_a_damping_below_0_is_refused_or_gives_nan(damping):
    mask = jnp.ones((1, 1, 6), bool)
    sens = jnp.asarray(unit_sens())
    with pytest.raises(ValueError, match="damping: expected 0 or more"):
        sense_variance(sens, mask, damping=damping)
    assert jnp.isnan(sense_variance(sens, mask, damping=jnp.asarray(damping))).all()


def test_sense_variance_equals_the_dense_matrix():
    sens = unit_sens()
    sens[:, 1, 2] = 0
    mask = np.array([[1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 0, 0]], bool)[:, None]
    found = jax.jit(lambda s, m: sense_variance(s, m, damping=0.1))(sens, mask)
    pixels = np.eye(24).reshape(24, 1, 4, 6)
    for e in range(2):
        columns = jax.vmap(lambda x, e=e: sense_forward(x, sens, mask[e : e + 1]))(
            jnp.asarray(pixels)
        )
        a = np.asarray(columns).reshape(24, -1).T
        solve = np.linalg.inv(a.conj().T @ a + 0.1 * np.eye(24)) @ a.conj().T
        expected = np.sum(np.abs(solve) ** 2, axis=1).reshape(4, 6)
        np.testing.assert_allclose(found[e], expected, atol=1e-12)
    assert not np.any(found[:, 1, 2])


def test_fully_sampled_noise_is_that_of_one_sample():
    mask = np.ones((2, 1, 6), bool)
    found = sense_variance(jnp.asarray(unit_sens()), jnp.asarray(mask), damping=0.0)
    np.testing.assert_allclose(found, 1.0, rtol=1e-12)


def test_an_undetermined_row_is_not_given_a_number():
    one_coil, mask = unit_sens(coils=1), np.arange(6)[None, None] % 2 == 0
    found = sense_variance(jnp.asarray(one_coil), jnp.asarray(mask), damping=0.0)
    assert not np.any(np.isfinite(found) & (np.asarray(found) < 1e6))


def test_bad_arguments():
    with pytest.raises(
        ValueError, match=r"samples: .* N >= max\(C, 1\), found \(8, 5\)"
    ):
        noise_covariance(jnp.zeros((8, 5), complex))
    with pytest.raises(ValueError, match=r"whole columns .* found \(1, 4, 6\)"):
        sense_variance(jnp.asarray(unit_sens()), jnp.ones((1, 4, 6), bool), damping=0.1)
    with pytest.raises(ValueError, match=r"coils: .* C = 2 from matrix.* \(3, 4, 6\)"):
        mix_coils(jnp.zeros((3, 4, 6), complex), jnp.zeros((2, 2), complex))
    assert np.isnan(whitening_matrix(-jnp.eye(2, dtype=complex))).any()


def test_float_masks_and_swapped_arguments_are_refused():
    sens, mask = jnp.asarray(unit_sens()), np.ones((2, 1, 6), bool)
    with pytest.raises(ValueError, match="mask: expected bool or int .* found float64"):
        sense_variance(sens, mask * 0.5, damping=0.1)
    with pytest.raises(ValueError, match="sens: expected complex .* found bool"):
        sense_variance(mask, sens, damping=0.1)
    np.testing.assert_array_equal(
        sense_variance(sens, mask, damping=0.1),
        sense_variance(sens, 2 * mask.astype("uint8"), damping=0.1),
    )


def test_a_batch_of_masks_is_each_alone():
    sens = np.stack([unit_sens(seed=s) for s in (1, 2)])
    mask = np.random.default_rng(0).random((2, 3, 1, 6)) < 0.7
    found = jax.jit(lambda s, m: sense_variance(s, m, damping=0.2))(sens, mask)
    for i in range(2):
        alone = sense_variance(jnp.asarray(sens[i]), mask[i], damping=0.2)
        np.testing.assert_allclose(found[i], alone, rtol=1e-12)


def test_a_wider_damping_is_not_cut():
    sens = jnp.asarray(unit_sens(), jnp.complex64)
    with jax.numpy_dtype_promotion("standard"):
        found = sense_variance(sens, np.ones((1, 1, 6), bool), damping=np.float64(0.1))
    assert found.dtype == np.float64


def test_replicas_of_variance_one_count_both_parts():
    """The identity: E |n|^2 = 1 for complex images, 1/2 for their real parts."""
    zeros, key = jnp.zeros(500, complex), jax.random.key(3)
    both = replica_variance(lambda k: k, zeros, key, replicas=200)
    real = replica_variance(jnp.real, zeros, key, replicas=200)
    # 500 points of a relative standard error of 0.07 to 0.1: 0.0045 of their mean
    np.testing.assert_allclose(jnp.mean(both), 1, atol=0.02)
    np.testing.assert_allclose(jnp.mean(real), 0.5, atol=0.01)
    noise = [jax.random.normal(k, 500, complex) for k in jax.random.split(key, 200)]
    np.testing.assert_allclose(both, np.var(noise, axis=0, ddof=1), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"replicas": 1}, "replicas: expected an integer of at least 2, found 1"),
        ({"replicas": 0}, "replicas: expected an integer of at least 2, found 0"),
        ({"kspace": np.zeros(4)}, "kspace: expected complex .* found float64"),
        ({"key": np.zeros(2, np.uint32)}, "key: expected one typed PRNG key"),
        ({"reconstruct_fn": lambda k: (k, k)}, "reconstruct_fn: .* found a tuple"),
        ({"reconstruct_fn": lambda k: k.real > 0}, "reconstruct_fn: .* found bool"),
    ],
)
def test_replicas_name_what_does_not_fit(arguments, message):
    given = {
        "reconstruct_fn": jnp.real,
        "kspace": jnp.zeros(4, complex),
        "key": jax.random.key(0),
        "replicas": 2,
    } | arguments
    with pytest.raises(ValueError, match=f"replica_variance: {message}"):
        replica_variance(**given)


@pytest.mark.parametrize("size", [(0, 6), (4, 0), (1, 1)])
@pytest.mark.parametrize("coils", [0, 1])
def test_axes_of_no_or_one_length(size, coils):
    sens = np.ones((coils, *size), complex)
    psi = 4 * np.eye(coils, dtype=complex)
    np.testing.assert_array_equal(
        combined_variance(sens, psi), np.full(size, 4 * coils)
    )
    mask = np.ones((2, 1, size[1]), bool)
    found = sense_variance(jnp.asarray(sens), mask, damping=1.0)
    # (1 + damping)^-1 - damping (1 + damping)^-2 inside, 0 without coils
    np.testing.assert_allclose(found, np.full((2, *size), 0.25 * coils))
    np.testing.assert_array_equal(whitening_matrix(psi), np.eye(coils) / 2)
    assert noise_covariance(np.ones((coils, 3), complex)).shape == (coils, coils)


def test_no_samples_have_no_covariance():
    with pytest.raises(ValueError, match="samples: .* found \\(0, 0\\)"):
        noise_covariance(np.zeros((0, 0), complex))


def test_the_gradient_of_whitening_equals_differences_for_equal_coils():
    change = covariance(seed=8)

    def total(psi):
        return jnp.sum(jnp.abs(whitening_matrix(psi) + 1) ** 2)

    found = jnp.real(jnp.sum(jax.grad(total)(jnp.eye(3, dtype=complex)) * change))
    ahead, behind = (total(jnp.asarray(np.eye(3) + s * change)) for s in (1e-6, -1e-6))
    np.testing.assert_allclose(found, (ahead - behind) / 2e-6, rtol=1e-6)
