"""Masked sums and means, and the denominators of the losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.reductions import (
    at_least_float32,
    loss_denominator,
    masked_mean,
    masked_sum,
    reduce_tokens,
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


def test_rows_or_tokens():
    x, mask = jnp.asarray(X), jnp.asarray(MASK)
    assert float(reduce_tokens(x, mask, reduction="grpo")) == 7
    for reduction in ("bnpo", "dapo", "dr_grpo", "luspo"):
        assert float(reduce_tokens(x, mask, reduction=reduction)) == 13


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("grpo", 2), ("luspo", 2), ("bnpo", 4), ("dapo", 4), ("dr_grpo", 20)],
)
def test_denominators_add_up_over_micro_batches(reduction, expected):
    def of(mask):
        return float(loss_denominator(mask, reduction=reduction, max_length=10))

    mask = jnp.asarray(MASK)
    assert of(mask) == expected == of(mask[:1]) + of(mask[1:])
    assert of(mask.astype(jnp.float32)) == expected
    assert of(mask[2:]) == 0


def test_bad_reduction():
    mask = jnp.asarray(MASK)
    with pytest.raises(ValueError, match="reduction 'sum': expected 'grpo'"):
        loss_denominator(mask, reduction="sum")
    with pytest.raises(ValueError, match="pass it"):
        loss_denominator(mask, reduction="dr_grpo")


def test_widening():
    for dtype in (jnp.bfloat16, jnp.float32, jnp.int32, bool):
        assert at_least_float32(jnp.ones(2, dtype)).dtype == jnp.float32
    assert at_least_float32(jnp.ones(2, jnp.float64)).dtype == jnp.float64
