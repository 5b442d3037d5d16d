"""Indexing that keeps the placing of rows on meshes whose axes are Explicit.

`jax.make_mesh` makes such axes by default. There JAX asks where the result of a table
looked up at sharded indices shall lie, and the answer is always: where the indices lie.
On other meshes, in `shard_map` and without a mesh these are plain indexing.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Shaped


def look_up(
    table: Shaped[Array, "..."], *index: Int[Array, "*N"], mode: str | None = None
) -> Array:
    """`table[index]`: what stands at each index, for integers of one shape.

    Args:
        table: An array that every device holds whole.
        index: One array of integers for each of the table's leading axes; a negative
            one counts from the end.
        mode: What an index outside gives: None the nearest entry, "fill" NaN (of
            integers the least or largest number), see `jax.numpy.ndarray.at`.

    Returns:
        [*N, further axes of the table], placed on an Explicit mesh as the first index.
    """
    table, index = jnp.asarray(table), tuple(map(jnp.asarray, index))
    sharding = _like(index[0], table.ndim - len(index))
    return table.at[index].get(mode=mode, out_sharding=sharding)


def repeat_rows(x: Shaped[Array, "N ..."], count: int) -> Shaped[Array, "R ..."]:
    """Each row `count` times in a row, R = N * count: `jnp.repeat` along axis 0.

    Args:
        x: N rows of any shape, N perhaps 0; on a mesh copies lie where their row does.
        count: A Python integer of 0 or more.
    """
    wide = jnp.broadcast_to(x[:, None], (x.shape[0], count, *x.shape[1:]))
    return wide.reshape(x.shape[0] * count, *x.shape[1:])


def devices_along(x: Shaped[Array, "..."], axis: int) -> int:
    """Over how many devices of Explicit mesh axes an axis of the array is divided.

    Args:
        x: An array, traced or not; it is 1 where its mesh is Auto or where it has none.
        axis: One of its axes, from 0 on.
    """
    sharding = jax.typeof(x).sharding
    names = sharding.spec[axis] if axis < len(sharding.spec) else None
    names = names if isinstance(names, tuple) else (names,)
    return math.prod(sharding.mesh.shape[name] for name in names if name is not None)


def vary_with(tree: Any, *arrays: Array) -> Any:
    """The tree, marked to vary over the devices of a `shard_map` where an array does.

    A loop's carry has to vary from the start where it will vary later; no number
    changes, and outside `shard_map` nothing does. This serves a loop whose inputs are
    known, and whose body cannot be traced before they vary; `carry_for` of
    `medjax.mri.normal` asks the loop's body what its inputs are.

    Args:
        tree: Arrays of any shapes.
        arrays: What the carry will be mixed with, one or more.
    """
    if AxisType.Manual not in jax.typeof(arrays[0]).sharding.mesh.axis_types:
        return tree
    false = [jnp.any(jnp.zeros_like(x, bool)) for x in arrays]
    varying = functools.reduce(jnp.logical_or, false)
    return jax.tree.map(lambda x: jnp.where(varying, x, x), tree)


def _like(index: Array, further: int) -> NamedSharding | None:
    """Placed as the index, with further axes that are not divided."""
    sharding = jax.typeof(index).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    spec = PartitionSpec(*sharding.spec, *[None] * further)
    return NamedSharding(sharding.mesh, spec)
