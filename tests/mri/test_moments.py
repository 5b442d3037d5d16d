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


@pytest.mark.parametrize(
    ("passes", "chunk", "message"),
    [
        (1, 1, "passes: expected an integer of at least 2, found 1"),
        (0, 1, "passes: expected an integer of at least 2, found 0"),
        (4.0, 1, "passes: expected an integer of at least 2, found 4.0"),
        (8, 3, "chunk: expected a divisor of passes = 8, found 3"),
        (4, 0, "chunk: expected an integer of at least 1, found 0"),
        (4, 8, "chunk: expected a divisor of passes = 4, found 8"),
    ],
)
def test_refuses_what_has_no_moments(passes, chunk, message):
    with pytest.raises(ValueError, match=f"monte_carlo_moments: {message}"):
        monte_carlo_moments(draw, jax.random.key(0), passes=passes, chunk=chunk)


def test_a_traced_number_is_refused_by_name():
    program = jax.jit(
        lambda n: monte_carlo_moments(draw, jax.random.key(0), passes=n, chunk=1)
    )
    with pytest.raises(ValueError, match=r"passes: .* traced array: .*static_argnames"):
        program(4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x.astype(int), "found int64 of shape"),
        (lambda x: x > 5, "found bool of shape"),
        (lambda x: (x, x), "found a tuple"),
    ],
)
def test_refuses_draws_whose_deviation_would_be_wrong(spoil, message):
    with pytest.raises(ValueError, match=f"draw: expected float or complex.*{message}"):
        monte_carlo_moments(
            lambda key: spoil(draw(key)), jax.random.key(0), passes=2, chunk=1
        )


def test_the_deviation_of_complex_draws_counts_both_parts():
    def complex_draw(key):
        return jax.lax.complex(draw(key), 3 * jax.random.normal(key, (3, 4)))

    mean, std = monte_carlo_moments(complex_draw, jax.random.key(1), passes=6, chunk=2)
    drawn = [complex_draw(jax.random.fold_in(jax.random.key(1), i)) for i in range(6)]
    drawn = np.stack(drawn)
    assert mean.dtype == np.complex128 and std.dtype == np.float64
    np.testing.assert_allclose(mean, drawn.mean(0), rtol=1e-12)
    power = np.sum(np.abs(drawn - drawn.mean(0)) ** 2, axis=0)
    np.testing.assert_allclose(std, np.sqrt(power / 5), rtol=1e-12)


def test_half_precision_is_counted_in_float32():
    def coarse(key):
        return (100 + draw(key)).astype(jnp.bfloat16)

    mean, std = monte_carlo_moments(coarse, jax.random.key(0), passes=300, chunk=100)
    drawn = [coarse(jax.random.fold_in(jax.random.key(0), i)) for i in range(300)]
    drawn = np.stack(drawn).astype(np.float64)
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, drawn.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, drawn.std(0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (0,), (1, 1), (2, 0, 3)])
def test_draws_of_any_shape(shape):
    mean, std = monte_carlo_moments(
        lambda key: jax.random.normal(key, shape), jax.random.key(0), passes=2, chunk=1
    )
    drawn = [
        jax.random.normal(jax.random.fold_in(jax.random.key(0), i), shape)
        for i in range(2)
    ]
    np.testing.assert_allclose(mean, np.mean(drawn, 0), rtol=1e-12)
    np.testing.assert_allclose(std, np.std(drawn, 0, ddof=1), rtol=1e-12)


def test_a_draw_that_is_not_finite_is_seen():
    def broken(key):
        return draw(key).at[0, 0].set(jnp.nan).at[0, 1].set(jnp.inf)

    mean, std = monte_carlo_moments(broken, jax.random.key(0), passes=4, chunk=2)
    assert np.isfinite(mean).sum() == np.isfinite(std).sum() == 10
    assert np.isnan(std[0, :2]).all()
