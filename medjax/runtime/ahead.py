"""Compile a system's step for chips that are not there, from shapes alone."""

import re
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from medjax.planning.chips import GIB
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


def compile_ahead(
    system: System, batch: Any, *, mesh: Mesh, rules: Rules, skip: bool
) -> Ahead:
    """A training step compiled as `loop.train` would compile it, and never run.

    Args:
        system: Its `init` and `update` are traced for shapes.
        batch: A batch of the whole run: NumPy arrays, or anything with shape and dtype.
        mesh: Of devices that need not be there, from `stand_ins.chip_devices`.
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
