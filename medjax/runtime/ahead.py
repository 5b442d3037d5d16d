"""Compile a system's step for chips that are not there, from shapes alone."""

import importlib.util
import re
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from medjax.planning.chips import GIB, Topology, parse_topology
from medjax.planning.hlo import Program, parse_program
from medjax.planning.plan import Memory
from medjax.runtime.program import judged, on_mesh
from medjax.sharding import Rules, batch_sharding, to_named_sharding
from medjax.types import System


class Ahead(NamedTuple):
    """A step as it was compiled, or as far as it came."""

    memory: Memory
    program: Program | None  # None where the compiler refused it: it does not fit
    lower_seconds: float
    compile_seconds: float
    needed: float | None  # bytes of a chip, as the compiler's refusal says


# Keeps libtpu from asking about this machine, and from locking chips that it has not.
_ALONE: Mapping[str, str] = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def stand_in(name: str, environment: MutableMapping[str, str]) -> list[Any] | None:
    """Devices of a topology that need not be there, before jax looks at its own.

    This process then has CPUs alone, as many of them as GPUs are planned for, and asks
    nobody what machine it is on.

    Args:
        name: Of the topology; "" for those of this machine.
        environment: `os.environ`.

    Returns:
        What `chip_devices` gives, None without a name.

    Raises:
        ImportError: See `chip_devices`.
        ValueError: Likewise, and what `parse_topology` refuses.
    """
    if not name:
        return None
    topology = parse_topology(name)
    for key, value in _ALONE.items():
        environment.setdefault(key, value)
    jax.config.update("jax_platforms", "cpu")
    # a stored program would say nothing of the time that compiling takes
    jax.config.update("jax_enable_compilation_cache", False)
    if topology.chip.platform == "gpu":
        jax.config.update("jax_num_cpu_devices", topology.count)
    return chip_devices(topology)


def chip_devices(topology: Topology) -> list[Any]:
    """Devices that a mesh can be made of and programs compiled for.

    TPUs are described by libtpu. GPUs cannot be described without one, so as many
    devices of the CPU stand for them.

    Args:
        topology: Of TPUs or GPUs.

    Raises:
        ImportError: TPUs, and libtpu is not installed.
        ValueError: libtpu knows no such topology, or there are too few CPU devices.
    """
    if topology.chip.platform == "gpu":
        found = jax.devices("cpu")
        if len(found) < topology.count:
            raise ValueError(
                f"{topology.name}: {len(found)} CPU devices stand for {topology.count} "
                "GPUs; set jax_num_cpu_devices before jax starts"
            )
        return found[: topology.count]
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError(
            f"--topology={topology.name}: compiling for a TPU needs its compiler; "
            'pip install -e ".[plan]" installs libtpu, and no TPU is needed'
        )
    try:
        described = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name
        )
    except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
        raise ValueError(
            f"--topology={topology.name}: libtpu has no such shape "
            f"({str(error).splitlines()[0]}); rented are "
            f"{', '.join(topology.chip.examples)}"
        ) from error
    return list(described.devices)


def compile_ahead(
    system: System, batch: Any, *, mesh: Mesh, rules: Rules, skip: bool
) -> Ahead:
    """A training step compiled as `loop.train` would compile it, and never run.

    Args:
        system: Its `init` and `update` are traced for shapes.
        batch: A batch of the whole run: NumPy arrays, or anything with shape and dtype.
        mesh: Of devices that need not be there, from `chip_devices`.
        rules: The mesh axes that each logical axis falls on.
        skip: Whether a step that is not finite is skipped, which holds two states.

    Raises:
        ValueError: The mesh divides some array not, or Python stands in the step.
    """
    if system.prepare is not None:
        raise ValueError(
            "rewards in Python split the step in two programs with Python between "
            "them, which cannot be planned; plan without: "
            "--config.train.grpo.python_rewards='{}', and take their weights out of "
            "train.grpo.reward_weights"
        )
    shapes = jax.eval_shape(system.init, jax.random.key(0))

    def place(one: Any) -> Any:
        """Shardings of the state and of the batch: a mesh has to divide both."""
        state = to_named_sharding(system.axes, one, rules, shapes)
        return state, batch_sharding(batch, one, rules)

    shardings, rows = on_mesh(place, mesh)
    state, placed = (
        jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), *pair
        )
        for pair in ((shapes, shardings), (batch, rows))
    )
    whole = NamedSharding(mesh, PartitionSpec())
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)
    step = jax.jit(
        judged(system.update, skip=skip, adapter=system.adapter),
        donate_argnums=0,
        out_shardings=(shardings, whole),
    )
    reference = getattr(state.aux, "reference", ())
    memory = Memory(
        params=bytes_a_chip(state.params),
        optimizer=bytes_a_chip(state.opt_state),
        reference=bytes_a_chip(reference),
        carry=bytes_a_chip((state.aux, state.step)) - bytes_a_chip(reference),
        batch=bytes_a_chip(placed),
        temporaries=None,
        peak=None,
    )
    started = time.monotonic()
    lowered = step.lower(state, placed, key)
    lower = time.monotonic() - started
    started = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed = refused_bytes(str(error))
        if needed is None:
            raise
        return Ahead(memory, None, lower, time.monotonic() - started, needed)
    seconds = time.monotonic() - started
    found = compiled.memory_analysis()
    if found is None:
        raise ValueError("the compiler tells nothing of the memory that a step needs")
    whole_peak = (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
    )
    # the compiler of TPUs tells the peak itself, and refuses what exceeds a chip
    if mesh.devices.flat[0].platform == "tpu":
        whole_peak = found.peak_memory_in_bytes
    memory = memory._replace(
        temporaries=found.temp_size_in_bytes, peak=float(whole_peak)
    )
    return Ahead(memory, parse_program(compiled.as_text()), lower, seconds, None)


def bytes_a_chip(tree: Any) -> int:
    """Bytes that a tree of placed shapes takes on one device, without padding.

    Args:
        tree: ShapeDtypeStructs with shardings, or arrays.
    """
    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def refused_bytes(message: str) -> float | None:
    """Bytes of a chip that a step needs, from the compiler's refusal; None of others.

    Args:
        message: Of an error of the compiler.
    """
    found = re.search(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm", message)
    if "RESOURCE_EXHAUSTED" not in message or found is None:
        return None
    scale = {"K": GIB / 2**20, "M": GIB / 2**10, "G": GIB, "T": GIB * 2**10}
    return float(found.group(1)) * scale[found.group(2)]
