"""What the losses sum up, and the denominators."""

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.reductions import loss_denominator, reduce_tokens

MASK = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
X = np.array([[1.0, 2.0, 6.0], [4.0, np.nan, np.inf], [np.nan, 7.0, 7.0]])


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
    assert of(2 * mask.astype(jnp.int32)) == expected
    assert of(mask[2:]) == 0


def test_bad_reduction():
    mask = jnp.asarray(MASK)
    with pytest.raises(ValueError, match="reduction 'sum': expected 'grpo'"):
        loss_denominator(mask, reduction="sum")
    with pytest.raises(ValueError, match="pass it"):
        loss_denominator(mask, reduction="dr_grpo")
