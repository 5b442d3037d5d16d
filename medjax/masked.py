"""A mean that can be taken in parts: batch by batch, or host by host."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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
