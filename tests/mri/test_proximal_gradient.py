"""FISTA against a closed form, its rate, and its keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.proximal import soft_threshold
from medjax.mri.proximal_gradient import fista


def lasso(seed=0, rows=30, size=20):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, size))
    matrix /= np.linalg.norm(matrix, 2)  # the step of 1 wants a norm of at most 1
    return matrix, matrix @ (rng.standard_normal(size) * (rng.random(size) < 0.3))


def run(matrix, data, iterations, threshold=1e-3):
    def solve():
        return fista(
            lambda x: matrix.T @ (matrix @ x - data),
            lambda x, _: soft_threshold(x, threshold),
            jnp.zeros(matrix.shape[1]),
            jax.random.key(0),
            iterations=iterations,
        )

    return np.asarray(jax.jit(solve)())


def test_meets_the_conditions_of_the_lasso():
    matrix, data = lasso()
    x = run(matrix, data, 3000)
    slope = matrix.T @ (matrix @ x - data)
    active = x != 0
    assert 0 < active.sum() < x.size
    # 0 lies in slope + threshold * sign(x); what is left is the rate's, 2 L / k^2.
    np.testing.assert_allclose(slope[active], -1e-3 * np.sign(x[active]), atol=1e-7)
    assert np.all(np.abs(slope[~active]) <= 1e-3 + 1e-7)


def test_converges_as_fast_as_promised():
    matrix, data = lasso()

    def cost(x):
        return np.sum((matrix @ x - data) ** 2) / 2 + 1e-3 * np.abs(x).sum()

    best = run(matrix, data, 3000)
    for k in (5, 20, 80):
        bound = 2 * np.sum(best**2) / (k + 1) ** 2  # Beck and Teboulle, theorem 4.4
        assert cost(run(matrix, data, k)) - cost(best) <= bound


def test_every_iteration_has_its_own_key():
    def prox(x, key):
        return x + jax.random.uniform(key)

    result = fista(
        lambda x: x - x,  # nothing to minimise: x_3 shows what the prox added
        prox,
        jnp.zeros(()),
        jax.random.key(0),
        iterations=1,
    )
    more = fista(jnp.zeros_like, prox, jnp.zeros(()), jax.random.key(0), iterations=2)
    first = jax.random.uniform(jax.random.fold_in(jax.random.key(0), 0))
    second = jax.random.uniform(jax.random.fold_in(jax.random.key(0), 1))
    np.testing.assert_allclose(result, first, rtol=1e-6)
    np.testing.assert_allclose(more, first + second, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "gradient", "prox"),
    [
        ("gradient_fn", lambda x: x[:1], lambda x, _: x),
        ("gradient_fn", lambda x: jax.lax.complex(x, x), lambda x, _: x),
        ("prox_fn", lambda x: x, lambda x, _: x.astype(jnp.float16)),
    ],
)
def test_a_result_that_would_be_broadcast_or_converted_is_refused(name, gradient, prox):
    with pytest.raises(ValueError, match=f"fista: {name}: expected float"):
        fista(gradient, prox, jnp.ones(3), jax.random.key(0), iterations=1)
