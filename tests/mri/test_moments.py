import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.moments import monte_carlo_moments


def draw(key):
    return 5.0 + jax.random.normal(key, (3, 4), jnp.float64)


@pytest.mark.parametrize("chunk", [1, 3, 12])
def test_equals_numpy_over_all_draws_whatever_the_chunk(chunk):
    key = jax.random.key(7)
    mean, std = jax.jit(
        lambda key: monte_carlo_moments(draw, key, passes=12, chunk=chunk)
    )(key)
    drawn = np.stack([draw(jax.random.fold_in(key, i)) for i in range(12)])
    expected = drawn.mean(0), drawn.std(0, ddof=1)
    chex.assert_trees_all_close((mean, std), expected, rtol=1e-12)


def test_draws_are_traced_once_for_their_shape_and_once_for_the_loop():
    once = chex.assert_max_traces(draw, n=2)
    monte_carlo_moments(once, jax.random.key(0), passes=12, chunk=3)


def test_float32_moments_survive_a_large_offset():
    """A sum of squares would lose all digits of a deviation of 1e-3 beside 1e3."""

    def far(key):
        return 1e3 + 1e-2 * jax.random.normal(key, (50,), jnp.float32)

    key = jax.random.key(0)
    _, std = monte_carlo_moments(far, key, passes=20, chunk=5)
    drawn = np.stack([far(jax.random.fold_in(key, i)) for i in range(20)])
    # float32 holds 1e3 to 6e-5, so single draws are that coarse
    expected = drawn.astype(np.float64).std(0, ddof=1)
    np.testing.assert_allclose(std, expected, rtol=0.02)


def test_memory_holds_a_chunk_not_all_passes():
    def program(passes):
        function = lambda key: monte_carlo_moments(  # noqa: E731
            lambda k: jax.random.normal(k, (256, 256), jnp.float32),
            key,
            passes=passes,
            chunk=2,
        )
        compiled = jax.jit(function).lower(jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert program(64) < 1.2 * program(4)


@pytest.mark.parametrize(("passes", "chunk"), [(1, 1), (8, 3), (4, 0)])
def test_refuses_what_has_no_moments(passes, chunk):
    with pytest.raises(ValueError, match=f"passes={passes}, chunk={chunk}"):
        monte_carlo_moments(draw, jax.random.key(0), passes=passes, chunk=chunk)


@pytest.mark.parametrize("dtype", [complex, int])
def test_refuses_draws_whose_deviation_would_be_wrong(dtype):
    with pytest.raises(ValueError, match="draw: expected float of shape"):
        monte_carlo_moments(
            lambda key: draw(key).astype(dtype), jax.random.key(0), passes=2, chunk=1
        )
