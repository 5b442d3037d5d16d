"""Attention over blocks of keys, each shared by consecutive rows of queries."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.models.qwen25vl.layers import accumulator

MASKED = -1e30  # finite: a row without any allowed key must not turn into NaN


class KeyBlock(NamedTuple):
    """U rows of L keys and values, each shared by R / U consecutive rows of queries."""

    keys: Float[Array, "U L Hkv d"]  # of Hkv key heads; rotated already
    values: Float[Array, "U L Hkv d"]
    mask: Bool[Array, "U #T L"]  # True: may be attended to; T > 1 only where U = R


def attend(
    queries: Float[Array, "R T H d"], blocks: Sequence[KeyBlock]
) -> Float[Array, "R T H d"]:
    """Softmax attention of each query over the keys of all blocks together.

    softmax([q K_1^T, q K_2^T, ...] / sqrt(d)) [V_1; V_2; ...], with H / Hkv query heads
    per key head. A block with U < R rows is a prefix that R // U consecutive rows
    share: it is never repeated in memory. Each block is reduced on its own and the
    parts are joined by their log-sum-exp (Dao et al. 2022, online softmax), so the
    scores of blocks with different row counts need not meet in one array. Scores and
    sums are float32, or float64 for queries of float64.

    Args:
        queries: R rows of T tokens with H heads of d numbers, rotated already. H must
            be a multiple of the blocks' Hkv. A query that no mask allows a key gets
            the mean of all values, not NaN.
        blocks: At least one; the number of rows of each must divide R.
    """
    parts = [_reduce_block(queries, block) for block in blocks]
    top = parts[0][1]
    for _, peak, _ in parts[1:]:
        top = jnp.maximum(top, peak)
    total = jnp.zeros_like(top)
    mixed = jnp.zeros(queries.shape, top.dtype)
    for values, peak, mass in parts:
        scale = jnp.exp(peak - top)
        total = total + scale * mass
        mixed = mixed + scale[..., None] * values
    return (mixed / total[..., None]).astype(queries.dtype)


def _reduce_block(
    queries: Float[Array, "R T H d"], block: KeyBlock
) -> tuple[Float[Array, "R T H d"], Float[Array, "R T H"], Float[Array, "R T H"]]:
    """Unnormalised mix of the values, its peak score and its mass."""
    rows, length, heads, dim = queries.shape
    if not rows:  # no prompts: nothing is shared
        block = jax.tree.map(lambda x: x[:0], block)
    shared, kv_heads = block.keys.shape[0], block.keys.shape[2]
    accumulate = accumulator(queries.dtype)
    # an axis at a time, which keeps the rows where they lie on a mesh
    times = rows // shared if shared else 1
    grouped = queries.reshape(shared, times, length, heads, dim).reshape(
        shared, times, length, kv_heads, heads // kv_heads, dim
    )
    scores = jnp.einsum(
        "mrtkgd,mlkd->mkrtgl",
        grouped,
        block.keys,
        preferred_element_type=accumulate,
    ) * (dim**-0.5)
    scores = jnp.where(block.mask[:, None, None, :, None, :], scores, MASKED)
    # the result does not depend on the peak, so no gradient needs to pass it
    peak = jax.lax.stop_gradient(scores.max(-1))
    weights = jnp.exp(scores - peak[..., None])
    mass = weights.sum(-1)
    # heads stay where the weights have them: asked for "mrtkgd", XLA would transpose
    # the weights, the largest array here, and not the result
    mixed = jnp.einsum(
        "mkrtgl,mlkd->mkrtgd",
        weights.astype(block.values.dtype),
        block.values,
        preferred_element_type=accumulate,
    )
    return (
        _merge(mixed.transpose(0, 2, 3, 1, 4, 5)),
        _merge(peak.transpose(0, 2, 3, 1, 4)),
        _merge(mass.transpose(0, 2, 3, 1, 4)),
    )


def _merge(x: Float[Array, "m r T k g ..."]) -> Float[Array, "R T H ..."]:
    """Rows and heads as one axis each, R = m r and H = k g."""
    shared, times, length, kv_heads, heads = x.shape[:5]
    x = x.reshape(shared, times, length, kv_heads * heads, *x.shape[5:])
    return x.reshape(shared * times, *x.shape[2:])


def causal_mask(mask: Bool[Array, "U L"]) -> Bool[Array, "U L L"]:
    """True at [m, i, j] where token i of row m sees token j: itself and earlier ones.

    Earlier is meant by index, not by mRoPE position, also inside an image.

    Args:
        mask: True for a token, False for padding, which may stand anywhere. Padding is
            seen by nothing but itself, which keeps its own rows finite.
    """
    length = mask.shape[1]
    index = jnp.arange(length, dtype=jnp.int32)
    lower = index[:, None] >= index[None, :]
    diagonal = index[:, None] == index[None, :]
    return (lower[None] & mask[:, None, :]) | diagonal[None]
