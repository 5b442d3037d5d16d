"""Every public function on an Auto mesh, an Explicit mesh, and in shard_map.

`jax.make_mesh` makes Explicit axes by default, and `shard_map` checks by default what
varies along them: a carry made from fresh zeros, or a reshape that mixes a sharded
axis into another, fails there.
"""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.reuse.calls import DEVICES, assert_same, expected
from tests.reuse.rooms import CALLS

SPREAD = [call for call in CALLS if call.batch is not None]
each_call = pytest.mark.parametrize("call", SPREAD, ids=[c.name for c in SPREAD])


def spec(axis):
    """Cut along that axis; None leaves the array whole; a tuple has one a member."""
    if isinstance(axis, tuple):
        return tuple(map(spec, axis))
    return P() if axis is None else P(*[None] * axis, "d")


def specs(axes):
    """Of a tree of axes; one stands for all leaves below it."""
    return jax.tree.map(spec, axes, is_leaf=lambda axis: axis is None)


def placed(call, mesh):
    return jax.device_put(
        call.arrays,
        jax.tree.map(functools.partial(NamedSharding, mesh), specs(call.batch)),
    )


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@each_call
def test_on_a_mesh(call, kind):
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        found = jax.jit(call.function)(*placed(call, mesh))
    assert_same(call, found, expected(call))


@each_call
def test_in_shard_map(call):
    function = call.gathered or call.function
    if call.gathered is None and call.out is None:
        pytest.skip("a statistic over the batch without an axis_name")
    mesh = jax.make_mesh((DEVICES,), ("d",))
    with jax.set_mesh(mesh):
        program = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=specs(call.batch),
            out_specs=specs(call.out),
        )
        found = jax.jit(program)(*placed(call, mesh))
    assert_same(call, jax.tree.map(np.asarray, found), expected(call))
