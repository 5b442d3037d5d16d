"""Masked sums and means, and what each GRPO reduction divides by."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped


def at_least_float32(x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """float64 as it is, everything else as float32: statistics need the digits."""
    x = jnp.asarray(x)
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def masked_sum(
    x: Float[Array, "..."],
    mask: Bool[Array, "..."],
    *,
    axis: int | None = None,
    keepdims: bool = False,
) -> Float[Array, "..."]:
    """Sum of the marked elements; what stands at the others, NaN or inf, is not read.

    Its gradient there is 0 too, provided x itself was computed from clean numbers.
    """
    return jnp.sum(jnp.where(mask, x, 0), axis=axis, keepdims=keepdims)


def masked_mean(
    x: Float[Array, "..."],
    mask: Bool[Array, "..."],
    *,
    axis: int | None = None,
    keepdims: bool = False,
) -> Float[Array, "..."]:
    """Mean of the marked elements; 0 where there is none. x and mask of one shape."""
    count = jnp.sum(mask, axis=axis, keepdims=keepdims, dtype=x.dtype)
    total = masked_sum(x, mask, axis=axis, keepdims=keepdims)
    return total / jnp.maximum(count, 1)


def reduce_tokens(
    loss: Float[Array, "N T"], mask: Bool[Array, "N T"], *, reduction: str
) -> Float[Array, ""]:
    """Numerator of a reduction: "grpo" adds up means of rows, the others tokens."""
    if reduction == "grpo":
        return jnp.sum(masked_mean(loss, mask, axis=-1))
    return masked_sum(loss, mask)


def loss_denominator(
    mask: Bool[Array, "N T"], *, reduction: str, max_length: int | None = None
) -> Float[Array, ""]:
    """Denominator of a reduction, float32; adds up over micro-batches.

    "grpo", "luspo": rows with a token. "bnpo", "dapo": tokens. "dr_grpo": rows with a
    token * max_length. Rows without a token do not count, so that rows which only fill
    a batch change nothing; TRL counts them. 0 for an empty batch.
    """
    mask = mask.astype(bool)
    rows = jnp.sum(jnp.any(mask, axis=-1), dtype=jnp.float32)
    if reduction in ("bnpo", "dapo"):
        return jnp.sum(mask, dtype=jnp.float32)
    if reduction in ("grpo", "luspo"):
        return rows
    if reduction == "dr_grpo":
        if max_length is None:
            raise ValueError("reduction 'dr_grpo' divides by max_length: pass it")
        return rows * max_length
    raise ValueError(
        f"reduction {reduction!r}: expected 'grpo', 'bnpo', 'dapo', 'dr_grpo' or "
        "'luspo'"
    )
