"""Masked sums and means, whole and in parts."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.masked import (
    at_least_float32,
    compute,
    masked_mean,
    masked_sum,
    mean_of,
    merge,
)

MASK = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
X = np.array([[1.0, 2.0, 6.0], [4.0, np.nan, np.inf], [np.nan, 7.0, 7.0]])


def test_means_read_marked_elements_only():
    x, mask = jnp.asarray(X), jnp.asarray(MASK)
    np.testing.assert_array_equal(masked_mean(x, mask, axis=-1), [3, 4, 0])
    found = masked_mean(x, mask, axis=-1, keepdims=True)
    np.testing.assert_array_equal(found, [[3], [4], [0]])
    assert float(masked_mean(x, mask)) == 13 / 4
    assert float(masked_sum(x, mask)) == 13
    assert masked_mean(x.astype(jnp.float32), mask).dtype == jnp.float32
    gradient = jax.grad(lambda x: masked_mean(x, mask))(x)
    np.testing.assert_array_equal(gradient, MASK / 4)


def test_widening():
    for dtype in (jnp.bfloat16, jnp.float32, jnp.int32, bool):
        assert at_least_float32(jnp.ones(2, dtype)).dtype == jnp.float32
    assert at_least_float32(jnp.ones(2, jnp.float64)).dtype == jnp.float64


def test_parts_merge_to_the_mean_of_all():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=20).astype(np.float32), rng.random(20) < 0.6
    parts = [mean_of(values[i : i + 7], mask[i : i + 7]) for i in range(0, 20, 7)]
    whole = merge(merge(parts[0], parts[1]), parts[2])
    # float32 sums of twenty values in another order
    np.testing.assert_allclose(
        compute(whole), values[mask].astype(np.float64).mean(), rtol=1e-5
    )
    assert int(whole.count) == mask.sum()


def test_masked_values_have_no_say_and_nothing_counted_is_nan():
    values = jnp.array([1.0, jnp.nan, jnp.inf], jnp.float32)
    assert float(compute(mean_of(values, jnp.array([True, False, False])))) == 1.0
    assert np.isnan(compute(mean_of(values, jnp.zeros(3, bool))))
