"""A function of voxels, one block after the other: memory is that of one block."""

import functools
import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Inexact

Maps = TypeVar("Maps")  # a tree of arrays whose last axes are the voxels


def in_blocks(
    function: Callable[[Array, Array, Array], Maps],
    images: Inexact[Array, "E *N"],
    times: Float[Array, "E *#N"],
    u: Float[Array, "..."],
    *,
    block: int | None,
) -> Maps:
    """function(images, times, u), computed for at most `block` voxels at a time.

    Voxels that an explicit mesh shards are cut on each device: blocks do not go across.

    Args:
        function: Of each voxel alone.
        images: Contrasts first.
        times: [E], or with the axes of the voxels, of length 1 where all are alike.
        u: With any axes before those of the voxels, which are all there.
        block: At least 1; None computes all at once.
    """
    if block is None:
        return function(images, times, u)
    cut = functools.partial(_cut, function, block=block)
    lies = jax.typeof(images).sharding.spec
    if not any(lies):
        return cut(images, times, u)

    def spec(x: jax.ShapeDtypeStruct | Array, rank: int) -> PartitionSpec:
        leading = x.ndim - rank
        ones = [n == 1 for n in x.shape[leading:]]
        kept = [None if one else s for one, s in zip(ones, lies[1:], strict=True)]
        return PartitionSpec(*[None] * leading, *kept)

    rank = images.ndim - 1
    specs = [
        PartitionSpec() if x.ndim < rank else spec(x, rank) for x in (images, times, u)
    ]
    if times.ndim == 1:
        specs[1] = PartitionSpec()
    arrays = map(jax.reshard, (images, times, u), specs)
    shapes = jax.eval_shape(function, images, times, u)
    out = jax.tree.map(lambda x: spec(x, rank), shapes)
    return jax.shard_map(cut, in_specs=tuple(specs), out_specs=out)(*arrays)


def _cut(
    function: Callable[[Array, Array, Array], Maps],
    images: Inexact[Array, "E *N"],
    times: Float[Array, "E *#N"],
    u: Float[Array, "..."],
    *,
    block: int,
) -> Maps:
    shape = images.shape[1:]
    size = math.prod(shape)
    if size <= block:
        return function(images, times, u)
    count = -(-size // block)
    block = -(-size // count)

    def rows(x: Array) -> Array:
        leading = x.ndim - len(shape)
        x = jnp.broadcast_to(x, (*x.shape[:leading], *shape))
        x = x.reshape(*x.shape[:leading], size)
        spare = [(0, 0)] * leading + [(0, count * block - size)]
        x = jnp.pad(x, spare, mode="edge")
        x = x.reshape(*x.shape[:leading], count, block)
        return jnp.moveaxis(x, leading, 0)

    def whole(x: Array) -> Array:
        x = jnp.moveaxis(x, 0, -2)
        x = x.reshape(*x.shape[:-2], count * block)[..., :size]
        return x.reshape(*x.shape[:-1], *shape)

    # Derivatives in reverse mode compute a block again: they need no more memory.
    if times.ndim == 1:
        each = jax.checkpoint(lambda x: function(x[0], times, x[1]))
        return jax.tree.map(whole, jax.lax.map(each, (rows(images), rows(u))))
    each = jax.checkpoint(lambda x: function(*x))
    return jax.tree.map(whole, jax.lax.map(each, (rows(images), rows(times), rows(u))))
