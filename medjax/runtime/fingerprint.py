"""Parameters told apart by a number that does not depend on how they are spread."""

import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt

from medjax.runtime.naming import named
from medjax.types import Params

_FACTOR = 2654435761  # 2^32 over the golden ratio: spreads neighbours


def fingerprint(params: Params) -> str:
    """16 hexadecimal digits that differ where an array, its name or its dtype does.

    Two sums modulo 2^32 of every array's bytes, each byte weighed by its place, and a
    hash of names, shapes and sums. Whole numbers add up to the same in any order, so
    that the devices an array is spread over do not matter. It tells versions of a
    policy apart; it is no protection against one who wants two to be equal.

    Args:
        params: A tree of arrays.
    """
    arrays = named(params)
    sums = jax.device_get(jax.jit(_sums)(list(arrays.values())))
    text = [
        (name, x.shape, str(x.dtype), np.asarray(pair).tolist())
        for (name, x), pair in zip(arrays.items(), sums, strict=True)
    ]
    return hashlib.sha256(repr(text).encode()).hexdigest()[:16]


def _sums(arrays: list[Array]) -> list[UInt[Array, "2"]]:
    return [_sum(x) for x in arrays]


def _sum(x: Array) -> UInt[Array, "2"]:
    data = jax.lax.bitcast_convert_type(x, jnp.uint8).astype(jnp.uint32)
    place = jnp.zeros(data.shape, jnp.uint32)
    for axis in range(data.ndim):
        step = jnp.uint32(math.prod(data.shape[axis + 1 :]) % 2**32)
        place += jax.lax.broadcasted_iota(jnp.uint32, data.shape, axis) * step
    mixed = place * jnp.uint32(_FACTOR)
    mixed ^= mixed >> jnp.uint32(15)
    one = jnp.uint32(1)
    weights = (place << one | one, mixed | one)  # odd: no bit of a byte is lost
    return jnp.stack([jnp.sum(data * w, dtype=jnp.uint32) for w in weights])
