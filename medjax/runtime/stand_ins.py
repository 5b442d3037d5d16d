"""Devices of a topology that need not be there."""

import importlib.util
from collections.abc import Mapping, MutableMapping
from typing import Any

import jax
from jax.experimental import topologies

from medjax.planning.chips import Topology, parse_topology

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
