"""Conjugate gradients against dense solves, past convergence, and their derivatives."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.cg import conjugate_gradient


def problems(count=3, size=12, *, dtype=np.complex128, seed=0, condition=10.0):
    """Hermitian positive definite matrices with given condition, and right sides."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        real = rng.standard_normal(shape)
        if np.issubdtype(dtype, np.complexfloating):
            return real + 1j * rng.standard_normal(shape)
        return real

    unitary = np.linalg.qr(draw(count, size, size))[0]
    values = np.geomspace(1, condition, size)
    matrix = (unitary * values) @ unitary.conj().swapaxes(-1, -2)
    return matrix.astype(dtype), draw(count, size).astype(dtype)


@functools.partial(jax.jit, static_argnames=("iterations", "tolerance"))
def solve(matrix, rhs, x0=None, *, iterations, tolerance=0.0):
    return conjugate_gradient(
        lambda x: jnp.einsum("bij,bj->bi", matrix, x),
        rhs,
        iterations=iterations,
        tolerance=tolerance,
        x0=x0,
        axes=(-1,),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_equals_a_dense_solve_and_stays_there(dtype):
    matrix, rhs = problems(dtype=dtype)
    exact = np.linalg.solve(matrix.astype(np.complex128), rhs[..., None])[..., 0]
    epsilon = np.finfo(dtype).eps
    for iterations in (20, 200):  # 12 suffice; the others must not harm
        x, info = solve(matrix, rhs, iterations=iterations)
        assert x.dtype == dtype
        # Rounding, times the condition, times a few for the loss of orthogonality.
        np.testing.assert_allclose(x, exact, rtol=0, atol=100 * epsilon)
        assert np.all(info.residual <= 30 * epsilon)
        assert np.all(info.iterations <= 20)


def test_each_problem_has_its_own_scalars():
    matrix, rhs = problems(condition=100.0)
    rhs = rhs * np.array([1.0, 1e-6, 0.0])[:, None]
    together, info = solve(matrix, rhs, iterations=7)
    alone, _ = solve(matrix[1:2], rhs[1:2] * 1e6, iterations=7)
    np.testing.assert_allclose(together[1:2] * 1e6, alone, rtol=1e-9)
    assert not np.any(together[2])  # no 0/0 where there is nothing to solve
    assert info.residual[2] == 0
    np.testing.assert_array_equal(info.iterations, [7, 7, 0])


def test_residual_is_the_true_one_and_tolerance_stops():
    matrix, rhs = problems(condition=50.0)
    x, info = solve(matrix, rhs, iterations=100, tolerance=1e-3)
    true = np.linalg.norm(np.einsum("bij,bj->bi", matrix, x) - rhs, axis=-1)
    np.testing.assert_allclose(
        info.residual, true / np.linalg.norm(rhs, axis=-1), rtol=1e-6
    )
    assert np.all(info.residual <= 1e-3)
    again, more = solve(matrix, rhs, iterations=int(info.iterations.max()) - 1)
    assert np.any(more.residual > 1e-3)  # and not a step later than needed


def test_start_changes_the_way_and_not_the_end():
    matrix, rhs = problems()
    exact, _ = solve(matrix, rhs, iterations=30)
    near, info = solve(matrix, rhs, exact + 1e-3, iterations=4)
    far, _ = solve(matrix, rhs, iterations=4)
    assert np.abs(near - exact).max() < 1e-2 * np.abs(far - exact).max()
    assert info.residual.max() < 1e-3
    there, info = solve(matrix, rhs, exact, iterations=4)
    np.testing.assert_allclose(there, exact, rtol=1e-12)


def test_nan_stays_in_its_problem():
    matrix, rhs = problems()
    clean, _ = solve(matrix, rhs, iterations=15)
    rhs[1, 3] = np.nan
    x, info = solve(matrix, rhs, iterations=15)
    assert np.all(np.isnan(x[1])) and np.isnan(info.residual[1])
    np.testing.assert_array_equal(x[0::2], clean[0::2])


def test_singular_but_consistent():
    matrix, rhs = problems()
    matrix[0] = np.diag(np.r_[np.ones(6), np.zeros(6)])
    rhs[0, 6:] = 0
    x, info = solve(matrix, rhs, iterations=50)
    np.testing.assert_allclose(x[0], rhs[0], atol=1e-14)
    matrix[0] = 0  # a mask without samples: nothing can be done, and nothing is
    x, info = solve(matrix, rhs, iterations=5)
    assert not np.any(x[0]) and info.residual[0] == 1 and info.iterations[0] == 0


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("start", [False, True])
def test_derivatives_are_those_of_the_solution(dtype, start):
    matrix, rhs = problems(2, 6, dtype=dtype)
    target = problems(2, 6, dtype=dtype, seed=1)[1]

    def loss(weight, scale):
        def normal(x):
            return jnp.einsum("bij,bj->bi", matrix, x) + weight.astype(dtype) * x

        x, _ = conjugate_gradient(
            normal,
            scale.astype(dtype) * rhs + weight.astype(dtype) * target,
            iterations=20,
            x0=target if start else None,
            axes=(-1,),
        )
        return jnp.sum(jnp.abs(x - target) ** 2)

    at = (jnp.array(0.3), jnp.array(1.2))
    gradient = jax.jit(jax.grad(loss, (0, 1)))(*at)
    loss = jax.jit(loss)
    step = 1e-5
    for axis in (0, 1):
        shift = [jnp.array(step * (axis == i)) for i in (0, 1)]
        up, down = (
            loss(*(a + s * d for a, d in zip(at, shift, strict=True))) for s in (1, -1)
        )
        # Central differences are good to step^2 and to rounding / step.
        np.testing.assert_allclose(gradient[axis], (up - down) / (2 * step), rtol=1e-7)
        tangents = [jnp.array(float(axis == i)) for i in (0, 1)]
        forward = jax.jvp(loss, at, tuple(tangents))[1]
        np.testing.assert_allclose(forward, gradient[axis], rtol=1e-9)


def test_gradient_inside_scan_and_vmap():
    matrix, rhs = problems(2, 6)

    def loss(weight, matrix, rhs):
        def stage(x, _):
            def normal(v):
                return matrix @ v + weight.astype(v.dtype) * v

            new = rhs + weight.astype(rhs.dtype) * jnp.tanh(x)
            return conjugate_gradient(normal, new, iterations=12, axes=(-1,))[0], None

        x = jax.lax.scan(jax.checkpoint(stage), rhs, None, length=3)[0]
        return jnp.sum(jnp.abs(x) ** 2)

    at = jnp.array([0.2, 0.7])
    both = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    _, gradient = both(at, matrix, rhs)
    up, down = (both(at + s, matrix, rhs)[0] for s in (1e-5, -1e-5))
    np.testing.assert_allclose(gradient, (up - down) / 2e-5, rtol=1e-7)


def test_numbers_change_without_a_new_trace():
    @functools.partial(chex.assert_max_traces, n=1)
    def run(matrix, rhs):
        return solve(matrix, rhs, iterations=5)

    matrix, rhs = problems()
    compiled = jax.jit(run)
    for scale in (1.0, 2.0):
        x, info = compiled(matrix, scale * rhs)
        chex.assert_equal_shape([x, rhs])
        chex.assert_shape([info.residual, info.iterations], (len(rhs),))


def test_a_start_of_another_shape_is_no_start():
    matrix, rhs = problems()
    with pytest.raises(ValueError, match=r"x0: .*N = \(3, 12\) from rhs.* \(12,\)"):
        solve(matrix, rhs, rhs[0], iterations=5)
    with pytest.raises(ValueError, match="rhs: expected float or complex"):
        solve(matrix, np.ones((3, 12), int), iterations=5)
    with pytest.raises(ValueError, match="x0: expected complex128"):
        solve(matrix, rhs, rhs.real, iterations=5)


@pytest.mark.parametrize("axes", [(-3, -2, -1), (2,), (0, -2), (-1, 1)])
def test_axes_that_the_right_hand_side_does_not_have(axes):
    with pytest.raises(ValueError, match="axes: expected different ones of the 2 axes"):
        conjugate_gradient(lambda x: x, np.ones((3, 4)), iterations=1, axes=axes)


def test_a_traced_tolerance_is_refused_by_name():
    def run(tolerance):
        return conjugate_gradient(
            lambda x: x, jnp.ones((1, 2, 3)), iterations=1, tolerance=tolerance
        )

    with pytest.raises(ValueError, match="tolerance: expected a Python number"):
        jax.jit(run)(0.1)


@pytest.mark.parametrize("normal", [lambda x: x[:1], lambda x: x.astype(jnp.float16)])
def test_an_operator_of_another_shape_or_dtype_is_refused(normal):
    with pytest.raises(ValueError, match="conjugate_gradient: normal_fn: expected"):
        conjugate_gradient(normal, jnp.ones((2, 2, 3)), iterations=1)
