"""Steps are compiled from shapes, for devices that stand for chips."""

import importlib.util

import jax
import numpy as np
import pytest

from medjax.planning.chips import parse_topology
from medjax.planning.costs import count_costs, step_phase
from medjax.runtime.ahead import (
    bytes_a_chip,
    compile_ahead,
    refused_bytes,
)
from medjax.runtime.stand_ins import chip_devices, stand_in
from medjax.sharding import make_mesh
from tests.runtime import toy_system as toy

TPU = importlib.util.find_spec("libtpu") is not None
REFUSED = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
    "space hbm. Used 17.59G of 15.75G hbm. Exceeded hbm capacity by 1.84G."
)


def compile_toy(system, **sizes):
    mesh = make_mesh(sizes or toy.MESH, chip_devices(parse_topology("gpu:8")))
    batch = next(iter(toy.source()))
    return compile_ahead(system, batch, mesh=mesh, rules=toy.RULES, skip=False)


def test_memory_is_that_of_the_shapes_on_one_device():
    found = compile_toy(toy.build(width=8)).memory
    # kernel [4, 8] over fsdp 2 and model 2, bias [8] over model 2, float32
    assert found.params == 4 * (4 * 8 // 4 + 8 // 2)
    # two moments, and a count
    assert found.optimizer == 2 * found.params + 4
    assert found.reference == 0
    # a threshold, a key of two numbers, the step
    assert found.carry == 4 + 8 + 4
    # 8 rows over data 2 and fsdp 2, of 4 inputs and a target
    assert found.batch == 4 * (8 // 4 * 4 + 8 // 4)
    assert found.peak >= found.params + found.optimizer


def test_nothing_is_made_of_the_size_of_the_parameters():
    # 40 GB of parameters and 80 of moments: arrays of that size could not be made here
    found = compile_toy(toy.build(width=2 * 10**9))
    assert found.memory.params == 4 * (4 * 2 * 10**9 // 4 + 10**9)
    assert found.program is not None


def test_the_step_that_is_compiled_is_the_one_that_trains():
    work = count_costs(compile_toy(toy.build()).program, step_phase)
    # of x [2, 4] on a device with kernel [2, 4] there, forward and for the kernel
    assert sum(c.flops for c in work.phases.values()) > 0
    assert sum(c.sent for c in work.phases.values()) > 0


def test_one_device_sends_nothing():
    mesh = make_mesh(toy.ONE, chip_devices(parse_topology("gpu:1")))
    batch = next(iter(toy.source()))
    where = {"mesh": mesh, "rules": toy.RULES}
    found = compile_ahead(toy.build(), batch, skip=True, **where)
    work = count_costs(found.program, step_phase)
    assert sum(c.sent for c in work.phases.values()) == 0


def test_python_in_the_step_is_refused():
    with pytest.raises(ValueError, match="rewards in Python split the step"):
        compile_toy(toy.build(split=True))


def test_a_mesh_that_does_not_divide_is_refused_before_compiling():
    # 12 units over 8 devices; 4 inputs and 8 rows allow fsdp 2
    with pytest.raises(ValueError, match="not divisible by the 8 devices") as error:
        compile_toy(toy.build(width=12), data=1, fsdp=1, model=8)
    near = "the nearest mesh that works is {'data': 1, 'fsdp': 2, 'model': 4}"
    assert near in str(error.value)


def test_the_batch_decides_too():
    # 3 rows are divided by no mesh of 8 devices that has data or fsdp
    mesh = make_mesh(toy.MESH, chip_devices(parse_topology("gpu:8")))
    batch = next(iter(toy.source(lengths=(3,))))
    with pytest.raises(ValueError, match="not divisible by the 4 devices") as error:
        compile_ahead(toy.build(), batch, mesh=mesh, rules=toy.RULES, skip=False)
    assert "{'data': 1, 'fsdp': 1, 'model': 8}" in str(error.value)


def test_the_compilers_refusal_tells_what_is_needed():
    assert refused_bytes(REFUSED) == pytest.approx(17.59 * 2**30)
    assert refused_bytes("INTERNAL: something else") is None


def test_bytes_of_a_chip_are_those_of_its_part():
    mesh = make_mesh({"a": 4}, jax.devices()[:4])
    part = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))
    tree = (
        jax.ShapeDtypeStruct((8, 3), np.float32, sharding=part),
        jax.ShapeDtypeStruct(
            (), np.int32, sharding=part.update(spec=jax.sharding.PartitionSpec())
        ),
    )
    assert bytes_a_chip(tree) == 2 * 3 * 4 + 4


@pytest.mark.skipif(TPU, reason="libtpu is installed here")
def test_without_libtpu_the_extra_is_named():
    with pytest.raises(
        ImportError, match=r'pip install -e ".\[plan\]" installs libtpu'
    ):
        chip_devices(parse_topology("v5e:4x4"))


def test_too_few_devices_are_refused():
    with pytest.raises(ValueError, match="8 CPU devices stand for 16 GPUs"):
        chip_devices(parse_topology("gpu:16"))


def test_no_topology_leaves_the_machine_as_it_is():
    environment = {}
    assert stand_in("", environment) is None
    assert environment == {}


@pytest.mark.slow
@pytest.mark.skipif(not TPU, reason="libtpu is not installed")
def test_a_step_is_compiled_for_tpus_that_are_not_there():
    devices = chip_devices(parse_topology("v5e:2x4"))
    assert len(devices) == 8
    mesh = make_mesh(toy.MESH, devices)
    batch = next(iter(toy.source()))
    found = compile_ahead(toy.build(), batch, mesh=mesh, rules=toy.RULES, skip=False)
    assert found.memory.peak > 0
    with pytest.raises(ValueError, match="no such shape.*v5e:4x4"):
        chip_devices(parse_topology("v5e:3x5"))


@pytest.mark.slow
@pytest.mark.skipif(not TPU, reason="libtpu is not installed")
def test_a_mesh_that_the_links_do_not_allow_is_refused_with_one_that_they_do():
    devices = chip_devices(parse_topology("v5p:4x4x4"))
    with pytest.raises(ValueError, match="cannot be laid out on 64 devices") as error:
        make_mesh({"data": 1, "fsdp": 32, "model": 2}, devices)
    near = "the nearest that works is {'data': 1, 'fsdp': 16, 'model': 4}"
    assert near in str(error.value)
