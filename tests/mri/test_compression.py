"""Coil compression: what is kept, what stays orthonormal, what the maps become."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.compression import compress_sensitivities, compression_matrix
from medjax.mri.sense import mix_coils, sense_forward


def draw(*shape, seed=0):
    parts = np.random.default_rng(seed).standard_normal((2, *shape))
    return parts[0] + 1j * parts[1]


def compress(kspace, coils):
    return jax.jit(lambda k: compression_matrix(k, coils=coils))(kspace)


def test_equals_the_singular_value_decomposition():
    k = draw(2, 5, 4, 6)
    matrix, kept = compress(k, 3)
    _, values, _ = np.linalg.svd(k.swapaxes(0, 1).reshape(5, -1), full_matrices=False)
    np.testing.assert_allclose(kept, np.sum(values[:3] ** 2) / np.sum(values**2))
    np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(3), atol=1e-12)
    energy = np.sum(np.abs(mix_coils(k, matrix)) ** 2, axis=(0, 2, 3))
    np.testing.assert_allclose(energy, values[:3] ** 2, rtol=1e-12)


def test_signal_of_few_dimensions_is_kept_whole():
    """8 coils that mix 3: compressed maps reproduce the compressed k-space."""
    x, sens = draw(2, 4, 6), draw(3, 4, 6, seed=1)
    sens = np.einsum("vc,chw->vhw", np.linalg.qr(draw(8, 3, seed=2))[0], sens)
    sens = sens / np.linalg.norm(sens, axis=0)
    k = sense_forward(x, sens)
    matrix, kept = compress(k, 3)
    np.testing.assert_allclose(kept, 1.0, rtol=1e-12)
    maps = compress_sensitivities(jnp.asarray(sens), matrix)
    np.testing.assert_allclose(mix_coils(k, matrix), sense_forward(x, maps), atol=1e-12)


def test_the_phase_of_a_direction_is_fixed():
    matrix, _ = compress(draw(2, 5, 4, 6), 5)
    largest = np.take_along_axis(
        np.asarray(matrix), np.abs(matrix).argmax(1)[:, None], axis=1
    )
    np.testing.assert_allclose(largest.imag, 0, atol=1e-15)
    assert np.all(largest.real > 0)
    turned, _ = compress(draw(2, 5, 4, 6) * np.exp(0.7j), 5)
    np.testing.assert_allclose(turned, matrix, atol=1e-12)


def test_a_batch_is_each_alone():
    k = draw(2, 3, 4, 5, 6)
    matrix, kept = compress(k, 2)
    for i in range(2):
        alone = compress(k[i], 2)
        np.testing.assert_allclose(matrix[i], alone[0], atol=1e-12)
        np.testing.assert_allclose(kept[i], alone[1], rtol=1e-12)
    mixed = mix_coils(k, matrix)
    np.testing.assert_allclose(mixed[1], mix_coils(k[1], matrix[1]), atol=1e-12)


@pytest.mark.parametrize("coils", [0, 6])
def test_bad_number_of_coils(coils):
    with pytest.raises(ValueError, match="coils: expected an integer from 1 to 5"):
        compression_matrix(jnp.zeros((2, 5, 4, 6), complex), coils=coils)


def weighted(kspace):
    """A number that depends on every entry of the matrix and on the share."""
    matrix, kept = compression_matrix(kspace, coils=2)
    weights = jnp.asarray(draw(*matrix.shape, seed=3))
    return jnp.sum(jnp.real(weights * matrix)) + kept


def test_the_gradient_equals_differences():
    k, change = jnp.asarray(draw(2, 5, 4, 6)), jnp.asarray(draw(2, 5, 4, 6, seed=1))
    gradient = jax.jit(jax.grad(weighted))(k)
    found = jnp.real(jnp.sum(gradient * change))
    step = 1e-6
    ahead, behind = (weighted(k + sign * step * change) for sign in (1, -1))
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-7)


def test_the_gradient_of_few_signals_in_many_coils_equals_differences():
    """Five coils that mix two signals: three singular values are 0."""
    mixing = np.linalg.qr(draw(5, 2, seed=2))[0]
    signals = draw(2, 2, 4, 6)
    k, change = (
        jnp.asarray(np.einsum("cv,evhw->echw", mixing, x))
        for x in (signals, draw(2, 2, 4, 6, seed=4))
    )
    found = jnp.real(jnp.sum(jax.grad(weighted)(k) * change))
    step = 1e-6
    ahead, behind = (weighted(k + sign * step * change) for sign in (1, -1))
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-7)


def test_the_gradient_is_finite_without_signal_and_for_equal_coils():
    def matrix_alone(k):
        return jnp.sum(jnp.real(compression_matrix(k, coils=2)[0]))

    equal = jnp.asarray(np.repeat(draw(1, 1, 4, 6), 5, axis=1))
    for k in (jnp.zeros((1, 5, 4, 6), complex), equal, jnp.eye(5)[None, :, :, None]):
        assert np.isfinite(jax.grad(matrix_alone)(k.astype(complex))).all()


def test_one_coil_is_kept_and_no_coil_is_refused():
    k = draw(2, 1, 4, 6)
    matrix, kept = compression_matrix(jnp.asarray(k), coils=1)
    np.testing.assert_allclose(matrix, [[1]])
    np.testing.assert_allclose(kept, 1)
    for k, message in (
        (
            np.zeros((2, 0, 4, 6), complex),
            r"at least one coil, found .* \(2, 0, 4, 6\)",
        ),
        (np.zeros((2, 3, 4, 6)), "kspace: expected complex .* found float64"),
    ):
        with pytest.raises(ValueError, match=f"compression_matrix: .*{message}"):
            compression_matrix(k, coils=1)
    with pytest.raises(ValueError, match="coils: .* traced array"):
        jax.jit(lambda k, n: compression_matrix(k, coils=n))(draw(2, 3, 4, 6), 1)


def test_maps_name_their_own_arguments():
    with pytest.raises(ValueError, match="compress_sensitivities: matrix: .* C = 3"):
        compress_sensitivities(draw(3, 4, 6), draw(2, 5))
