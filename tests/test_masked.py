"""Masked sums and means, whole and in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import masked
from medjax.masked import (
    at_least_float32,
    compute,
    marked,
    marked_values,
    marks,
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


def test_marks_are_flags_of_the_whole_shape():
    np.testing.assert_array_equal(marks(None, (2, 3)), np.ones((2, 3), bool))
    rows = np.array([[2], [0]], np.int32)
    np.testing.assert_array_equal(marks(rows, (2, 3)), [[True] * 3, [False] * 3])
    assert float(marked(jnp.asarray(MASK), jnp.float32)) == 4
    np.testing.assert_array_equal(
        marked(jnp.asarray(MASK), jnp.float32, axis=1), MASK.sum(1)
    )


def test_values_that_are_not_marked_are_gone_before_anything_reads_them():
    with jax.debug_nans(True):
        found = marked_values(X, jnp.asarray(MASK))
    np.testing.assert_array_equal(found, [[1, 2, 6], [4, 0, 0], [0, 0, 0]])
    for dtype in (bool, np.int32, jnp.bfloat16):
        flags = marked_values(jnp.ones(2, dtype), jnp.asarray([True, False]))
        assert flags.dtype == jnp.float32
        np.testing.assert_array_equal(flags, [1, 0])


def test_sums_over_devices_are_those_of_the_whole():
    mesh = jax.make_mesh((3,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = jax.sharding.PartitionSpec("d"), jax.sharding.PartitionSpec()

    def part(x, mask):
        options = {"axis_name": ("d",)}
        return masked_sum(x, mask, **options), masked_mean(x, mask, axis=0, **options)

    program = jax.shard_map(part, mesh=mesh, in_specs=rows, out_specs=whole)
    total, mean = program(jnp.asarray(X), jnp.asarray(MASK))
    assert float(total) == 13
    np.testing.assert_array_equal(mean, [2.5, 2, 6])


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float16])
def test_mean_of_flags_and_integers_is_their_mean(dtype):
    values = np.array([1, 0, 1, 0], dtype)
    mean = masked.merge(
        masked.mean_of(values, np.array([True, True, True, False])),
        masked.mean_of(values, np.array([False, True, False, True])),
    )
    assert mean.total.dtype == mean.count.dtype == jnp.float32
    assert (mean.total, mean.count) == (2, 5)
    assert masked.compute(mean) == np.float32(0.4)
