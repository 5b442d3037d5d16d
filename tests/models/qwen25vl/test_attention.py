"""Blocked attention against a dense float64 softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models.qwen25vl import attention
from medjax.models.qwen25vl.attention import KeyBlock, causal_mask

attend = jax.jit(attention.attend)


def dense_attention(queries, blocks):
    """Plain loops: every block's rows repeated, all keys side by side."""
    rows, length, heads, dim = queries.shape
    out = np.zeros(queries.shape)
    for n in range(rows):
        for t in range(length):
            for h in range(heads):
                keys, values = [], []
                for block in blocks:
                    m = n // (rows // block.keys.shape[0])
                    kv = h // (heads // block.keys.shape[2])
                    seen = np.broadcast_to(
                        block.mask[m], (length, block.keys.shape[1])
                    )[t]
                    keys.append(block.keys[m, seen, kv])
                    values.append(block.values[m, seen, kv])
                keys, values = np.concatenate(keys), np.concatenate(values)
                scores = keys @ queries[n, t, h] / np.sqrt(dim)
                weights = np.exp(scores - scores.max())
                out[n, t, h] = weights @ values / weights.sum()
    return out


def random_blocks(rng, rows, length, shares, dtype=np.float64):
    blocks = []
    for share in shares:
        shape = (rows // share, 6, 2, 4)
        mask = rng.random((rows // share, 1, 6)) < 0.7
        blocks.append(
            KeyBlock(
                rng.normal(size=shape).astype(dtype),
                rng.normal(size=shape).astype(dtype),
                mask,
            )
        )
    own = (rows, length, 2, 4)
    mask = np.asarray(causal_mask(jnp.ones((rows, length), bool)))
    return [
        *blocks,
        KeyBlock(
            rng.normal(size=own).astype(dtype), rng.normal(size=own).astype(dtype), mask
        ),
    ]


@pytest.mark.parametrize("shares", [(), (1,), (4, 2), (8, 2, 1)])
def test_attend_equals_dense_softmax(shares):
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(8, 3, 4, 4))
    blocks = random_blocks(rng, 8, 3, shares)
    found = attend(jnp.asarray(queries), blocks)
    np.testing.assert_allclose(found, dense_attention(queries, blocks), atol=1e-12)


def test_large_scores_do_not_overflow():
    rng = np.random.default_rng(1)
    queries = 1e3 * rng.normal(size=(4, 3, 4, 4)).astype(np.float32)
    blocks = random_blocks(rng, 4, 3, (2,), np.float32)
    found = np.asarray(attend(jnp.asarray(queries), blocks))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, dense_attention(queries, blocks), atol=1e-4)


def test_rows_without_any_key_are_finite_with_zero_gradient_elsewhere():
    rng = np.random.default_rng(2)
    queries = jnp.asarray(rng.normal(size=(2, 1, 4, 4)))
    keys = jnp.asarray(rng.normal(size=(2, 3, 2, 4)))
    mask = jnp.array([[[False] * 3], [[True] * 3]])

    def total(keys):
        return attend(queries, [KeyBlock(keys, keys, mask)]).sum()

    value, grad = jax.value_and_grad(total)(keys)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_an_empty_prefix_block_changes_nothing():
    rng = np.random.default_rng(3)
    queries = jnp.asarray(rng.normal(size=(4, 3, 4, 4)))
    prefix, own = random_blocks(rng, 4, 3, (2,))
    empty = prefix._replace(mask=np.zeros_like(prefix.mask))
    np.testing.assert_allclose(
        attend(queries, [empty, own]), attend(queries, [own]), atol=1e-14
    )


def test_bfloat16_accumulates_in_float32():
    rng = np.random.default_rng(4)
    queries = jnp.asarray(rng.normal(size=(4, 3, 4, 4)), jnp.bfloat16)
    blocks = random_blocks(rng, 4, 3, (2,), jnp.bfloat16)
    found = attend(queries, blocks)
    assert found.dtype == jnp.bfloat16
    wide = jax.tree.map(
        lambda x: np.asarray(x, np.float64) if x.dtype == jnp.bfloat16 else x, blocks
    )
    expected = dense_attention(np.asarray(queries, np.float64), wide)
    # weights and result are rounded to bfloat16: 2^-8 relative each
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=0.03)


def test_causal_mask_by_index():
    mask = causal_mask(jnp.array([[False, True, True]]))
    expected = [[[True, False, False], [False, True, False], [False, True, True]]]
    np.testing.assert_array_equal(mask, expected)
