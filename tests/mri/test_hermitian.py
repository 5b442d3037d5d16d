"""Derivatives of eigenvectors and of projections, also where eigenvalues are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.hermitian import eigenvectors, strong_part


def draw(*shape, seed=0):
    parts = np.random.default_rng(seed).standard_normal((2, *shape))
    return parts[0] + 1j * parts[1]


def unitary(size, seed=0):
    return np.linalg.qr(draw(size, size, seed=seed))[0]


def with_values(values, seed=0):
    vectors = unitary(len(values), seed)
    return vectors * np.asarray(values) @ vectors.conj().T


def hermitian(size, seed):
    matrix = draw(size, size, seed=seed)
    return matrix + matrix.conj().T


def projection(matrix, share, inverse):
    """NumPy's: U U^H, or U diag(1 / value) U^H, over what is above the share."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > share * values[-1]
    weight = np.where(kept, 1 / values if inverse else 1.0, 0.0)
    return vectors * weight @ vectors.conj().T


def test_eigenvectors_have_jax_s_derivatives_where_these_exist():
    matrix = jnp.asarray(with_values([0.2, 1.0, 2.5, 4.0]))
    change = jnp.asarray(hermitian(4, 1))
    found = jax.jvp(eigenvectors, (matrix,), (change,))
    expected = jax.jvp(lambda m: tuple(jnp.linalg.eigh(m)), (matrix,), (change,))
    for left, right in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-12)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(
    "values", [[0.1, 0.3, 2.0, 3.0], [0.0, 0.0, 2.0, 2.0], [1e-9, 0.0, 1.0, 1.0 + 1e-9]]
)
def test_the_derivative_of_a_projection_equals_differences(values, inverse):
    matrix, change = with_values(values), hermitian(4, 2)
    share, step = 0.2, 1e-5
    _, found = jax.jvp(
        lambda m: strong_part(m, share, inverse),
        (jnp.asarray(matrix),),
        (jnp.asarray(change),),
    )
    ahead, behind = (
        projection(matrix + sign * step * change, share, inverse) for sign in (1, -1)
    )
    # central differences are right to step^2 and rounding / step
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), atol=1e-8)


@pytest.mark.parametrize(
    "function", [eigenvectors, lambda m: strong_part(m, 0.1, True)]
)
def test_second_derivatives_are_refused(function):
    matrix = jnp.asarray(with_values([0.0, 0.0, 2.0, 2.0]))

    def loss(scale):
        found = function(matrix * scale.astype(matrix.dtype))
        return sum(jnp.sum(jnp.abs(x)) for x in jax.tree.leaves(found))

    for second in (jax.jacfwd(jax.grad(loss)), jax.jacrev(jax.grad(loss))):
        with pytest.raises(ValueError, match="first derivatives only"):
            second(jnp.float64(1))


def test_gradients_are_finite_where_values_are_equal():
    def loss(matrix, weights):
        values, vectors = eigenvectors(matrix)
        return jnp.sum(values) + jnp.sum(jnp.abs(vectors * weights) ** 2)

    weights = jnp.asarray(draw(4, 4, seed=5))
    for values in ([0.0] * 4, [1.0] * 4, [0.0, 0.0, 0.0, 1.0]):
        gradient = jax.grad(loss)(jnp.asarray(with_values(values)), weights)
        assert np.isfinite(gradient).all()
