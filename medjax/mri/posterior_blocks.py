"""A function of voxels, one block after the other: memory is that of one block."""

import functools
import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array

Given = TypeVar("Given")  # a tree of arrays: scalars, or of the rank of the voxels
Maps = TypeVar("Maps")  # a tree of arrays whose last axes are the voxels


def in_blocks(
    function: Callable[[Given], Maps], given: Given, *, block: int | None
) -> Maps:
    """function(given), computed for at most `block` voxels at a time.

    Voxels that an explicit mesh shards are cut on each device: blocks do not go across.

    Args:
        function: Of each voxel alone; its results have an axis more or none before
            those of the voxels.
        given: Scalars, which all blocks get, and arrays that broadcast to the voxels.
        block: At least 1; None computes all at once.
    """
    leaves, tree = jax.tree.flatten(given)
    if block is None:
        return function(given)
    cut = functools.partial(_cut, lambda *x: function(tree.unflatten(x)), block=block)
    lies = _shardings(leaves)
    if not any(lies):
        return cut(*leaves)

    def spec(shape: tuple[int, ...]) -> PartitionSpec:
        pairs = zip(shape, lies, strict=True)
        return PartitionSpec(*[None if n == 1 else axis for n, axis in pairs])

    specs = [spec(x.shape) if x.ndim else PartitionSpec() for x in leaves]
    leaves = map(jax.reshard, leaves, specs)
    shapes = jax.eval_shape(function, given)
    out = jax.tree.map(
        lambda x: PartitionSpec(*[None] * (x.ndim - len(lies)), *lies), shapes
    )
    return jax.shard_map(cut, in_specs=tuple(specs), out_specs=out)(*leaves)


def _shardings(leaves: list[Array]) -> tuple[object, ...]:
    """By which axes of an explicit mesh each axis of the voxels is cut."""
    specs = [tuple(jax.typeof(x).sharding.spec) for x in leaves if x.ndim]
    return tuple(
        next((axis for axis in axes if axis is not None), None)
        for axes in zip(*specs, strict=True)
    )


def _cut(
    function: Callable[..., Maps],
    *leaves: Array,
    block: int,
) -> Maps:
    shape = jnp.broadcast_shapes(*(x.shape for x in leaves))
    size = math.prod(shape)
    if size <= block:
        return function(*leaves)
    count = -(-size // block)
    block = -(-size // count)

    def rows(x: Array) -> Array:
        x = jnp.broadcast_to(x, shape).reshape(size)
        x = jnp.pad(x, (0, count * block - size), mode="edge")
        return x.reshape(count, block)

    def whole(x: Array) -> Array:
        x = jnp.moveaxis(x, 0, -2)
        x = x.reshape(*x.shape[:-2], count * block)[..., :size]
        return x.reshape(*x.shape[:-1], *shape)

    # Derivatives in reverse mode compute a block again: they need no more memory.
    @jax.checkpoint
    def one(parts: list[Array]) -> Maps:
        left = iter(parts)
        return function(*[next(left) if x.ndim else x for x in leaves])

    found = jax.lax.map(one, [rows(x) for x in leaves if x.ndim])
    return jax.tree.map(whole, found)
