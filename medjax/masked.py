"""Sums and means of marked elements, also in parts: batch by batch, host by host."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Shaped


def at_least_float32(x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """The array in float64 if it has that dtype, else in float32.

    Statistics need the digits of float32 at least. Integers, flags (False 0, True 1)
    and half precision are converted; numbers above 2^24 are rounded.
    """
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

    The gradient there is 0 too, provided x itself was computed from clean numbers.

    Args:
        x: In any unit; a NaN at a marked place reaches the result.
        mask: True where an element counts; of the shape of `x`, or one that broadcasts.
        axis: The axes to reduce; None reduces all, () none.
        keepdims: Keeps reduced axes with length 1.
        axis_name: Axes of `shard_map` to add up along as well; () for none.

    Returns:
        In the dtype of `x`; 0 where nothing is marked.
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
    """Mean of the marked elements, and 0 where there is none.

    Args:
        x: In any unit. What is not marked is not read; a NaN that is reaches the
            result.
        mask: True where an element counts; of the shape of `x`, as it is not broadcast.
        axis: The axes to reduce; None reduces all, () none.
        keepdims: Keeps reduced axes with length 1.
        axis_name: Axes of `shard_map` to add up along as well; () for none.

    Returns:
        In the dtype of `x`, with its unit.
    """
    count = marked(mask, x.dtype, axis=axis, keepdims=keepdims, axis_name=axis_name)
    total = masked_sum(x, mask, axis=axis, keepdims=keepdims, axis_name=axis_name)
    return total / jnp.maximum(count, 1)


def finite_rows(x: Float[Array, "B T"], mask: Bool[Array, "B T"]) -> Bool[Array, "B"]:
    """Whether all marked elements of a row are finite; also where it has none.

    Args:
        x: Any numbers; what is not marked is not read.
        mask: True where an element counts.
    """
    return jnp.all(jnp.isfinite(x) | ~mask, axis=-1)


def marked(
    mask: Bool[Array, "..."],
    dtype: DTypeLike,
    *,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    axis_name: tuple[str, ...] = (),
) -> Float[Array, "..."]:
    """The number of marked elements, as a float.

    Args:
        mask: Flags.
        dtype: The floating-point dtype of the result.
        axis: The axes to reduce; None reduces all, () none.
        keepdims: Keeps reduced axes with length 1.
        axis_name: Axes of `shard_map` to add up along as well; () for none.
    """
    count = jnp.sum(mask, axis=axis, keepdims=keepdims, dtype=dtype)
    return jax.lax.psum(count, axis_name) if axis_name else count


def marked_values(
    x: Shaped[Array, "..."], mask: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """The marked elements as float32 at least, and 0 elsewhere.

    Args:
        x: Numbers of any dtype; what is not marked may be NaN, and no gradient reaches
            it. Called before anything else reads x.
        mask: True where an element counts; of the shape of `x`, or one that broadcasts.
    """
    return at_least_float32(jnp.where(mask, x, jnp.zeros((), x.dtype)))


def marks(
    valid: Shaped[Array, "..."] | None, shape: tuple[int, ...]
) -> Bool[Array, "..."]:
    """Flags of a shape: all True for None, else `valid`, broadcast.

    Args:
        valid: Flags, or integers that are True where they are not 0.
        shape: What `valid` broadcasts to.
    """
    if valid is None:
        return jnp.ones(shape, bool)
    return jnp.broadcast_to(jnp.asarray(valid).astype(bool), shape)


class Mean(NamedTuple):
    """Sum and number of the values seen."""

    total: Float[Array, ""]
    count: Float[Array, ""]


def mean_of(values: Float[Array, "B"], mask: Bool[Array, "B"]) -> Mean:
    """Sum and number of the values whose mask is True: the parts of their mean.

    Args:
        values: In any unit, also integers and flags; what is not marked is not read.
        mask: True where a value counts.

    Returns:
        Both in float32, or in float64 for values of that.
    """
    values = at_least_float32(values)
    return Mean(jnp.where(mask, values, 0).sum(), mask.sum(dtype=values.dtype))


def merge(left: Mean, right: Mean) -> Mean:
    """The parts of the mean over both: totals and counts are added."""
    return Mean(left.total + right.total, left.count + right.count)


def compute(mean: Mean) -> Float[Array, ""]:
    """total / count: the mean, in the values' unit; NaN where nothing was counted."""
    return mean.total / mean.count
