"""Sums and means of marked elements, also in parts: batch by batch, host by host."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Shaped


def at_least_float32(x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """float64 as it is, everything else as float32: statistics need the digits."""
    x = jnp.asarray(x)
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def masked_sum(
    x: Float[Array, "..."],
    mask: Bool[Array, "..."],
    *,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    axis_name: tuple[str, ...] = (),
) -> Float[Array, "..."]:
    """Sum of the marked elements; what stands at the others, NaN or inf, is not read.

    Its gradient there is 0 too, provided x itself was computed from clean numbers.
    `axis_name` adds up over devices too, along these axes of `shard_map`.
    """
    total = jnp.sum(jnp.where(mask, x, 0), axis=axis, keepdims=keepdims)
    return jax.lax.psum(total, axis_name) if axis_name else total


def masked_mean(
    x: Float[Array, "..."],
    mask: Bool[Array, "..."],
    *,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    axis_name: tuple[str, ...] = (),
) -> Float[Array, "..."]:
    """Mean of the marked elements; 0 where there is none. x and mask of one shape."""
    count = marked(mask, x.dtype, axis=axis, keepdims=keepdims, axis_name=axis_name)
    total = masked_sum(x, mask, axis=axis, keepdims=keepdims, axis_name=axis_name)
    return total / jnp.maximum(count, 1)


def marked(
    mask: Bool[Array, "..."],
    dtype: DTypeLike,
    *,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    axis_name: tuple[str, ...] = (),
) -> Float[Array, "..."]:
    """The number of marked elements, as a float of that width."""
    count = jnp.sum(mask, axis=axis, keepdims=keepdims, dtype=dtype)
    return jax.lax.psum(count, axis_name) if axis_name else count


def marked_values(
    x: Shaped[Array, "..."], mask: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """x as float32 at least, and 0 where it is not marked: before anything reads it."""
    return at_least_float32(jnp.where(mask, x, jnp.zeros((), x.dtype)))


def marks(
    valid: Shaped[Array, "..."] | None, shape: tuple[int, ...]
) -> Bool[Array, "..."]:
    """Flags of that shape: all True for None, else `valid`, broadcast."""
    if valid is None:
        return jnp.ones(shape, bool)
    return jnp.broadcast_to(jnp.asarray(valid).astype(bool), shape)


class Mean(NamedTuple):
    """Sum and number of the values seen."""

    total: Float[Array, ""]
    count: Float[Array, ""]


def mean_of(values: Float[Array, "B"], mask: Bool[Array, "B"]) -> Mean:
    """The parts of the mean over the values whose mask is 1."""
    zero = jnp.zeros((), values.dtype)
    return Mean(jnp.where(mask, values, zero).sum(), mask.sum(dtype=values.dtype))


def merge(left: Mean, right: Mean) -> Mean:
    """The parts of the mean over both."""
    return Mean(left.total + right.total, left.count + right.count)


def compute(mean: Mean) -> Float[Array, ""]:
    """total / count; NaN where nothing was counted."""
    return mean.total / mean.count
