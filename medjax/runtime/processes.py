"""What the processes of a run tell each other, beside arrays."""

import glob
import importlib.util
import socket
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from medjax.runtime.errors import ProcessError
from medjax.runtime.launch import Launch

HEARTBEAT_SECONDS = 40  # of silence, after which jax takes a process for dead


def node_devices(environ: Mapping[str, str]) -> dict[str, Any]:
    """What `find_launch` is told of this machine: its GPUs, and whether it has TPUs.

    TPUs count where libtpu is installed beside them, and jax was not told to take
    another platform.

    Args:
        environ: The process's environment variables.
    """
    chosen = environ.get("JAX_PLATFORMS") or "tpu"
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    tpu = bool(chips) and "tpu" in chosen and importlib.util.find_spec("libtpu")
    return {"gpus": len(glob.glob("/dev/nvidia[0-9]*")), "tpu": bool(tpu)}


def join_processes(launch: Launch, *, timeout: int = 300) -> None:
    """Make this process one of several; before anything is computed.

    Args:
        launch: From `find_launch`.
        timeout: Seconds that processes wait for each other, 1 or more.

    Raises:
        ProcessError: The others do not answer; or jax sees fewer GPUs than it was to
            use.
    """
    known = None not in launch[1:4]
    try:
        jax.distributed.initialize(
            launch.coordinator,
            launch.processes,
            launch.index,
            launch.devices,
            # else a number of SLURM's would choose one of the devices
            cluster_detection_method="deactivate" if known else None,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise ProcessError(
            f"{_place(launch)} on {socket.gethostname()} did not find the others (told "
            f"of by {launch.launcher}) in {timeout} s: {error}. Are all started, with "
            "one address of process 0 that each can reach? In Kubernetes jax needs "
            "jax[k8s]; --num_processes=1 makes this process a run of its own"
        ) from error
    found = jax.local_device_count()
    if launch.devices and jax.default_backend() != "gpu":
        raise ProcessError(
            f"{_place(launch)} was to use {len(launch.devices)} GPUs, and jax has only "
            f"{jax.default_backend()}: install jax[cuda12], or set JAX_PLATFORMS=cpu"
        )
    if launch.devices and found < len(launch.devices):
        raise ProcessError(
            f"{_place(launch)} was to use {len(launch.devices)} GPUs, jax sees {found}"
        )


def _place(launch: Launch) -> str:
    count = "?" if launch.processes is None else launch.processes
    return f"process {'?' if launch.index is None else launch.index} of {count}"


def from_first(make: Callable[[], str]) -> str:
    """The text that process 0 makes, on all processes; each must call this.

    Args:
        make: Called on process 0 alone.

    Raises:
        ValueError: What `make` raised, as the text of another process's error. Process
            0 itself raises that error.
        OSError: Likewise, on process 0.
    """
    text, failure = "", None
    if jax.process_index() == 0:
        try:
            text = f"+{make()}"
        except (ValueError, OSError) as error:
            text, failure = f"-{type(error).__name__}: {error}", error
    told = gather_texts(text)[0]
    if failure is not None:
        raise failure
    if told.startswith("-"):
        raise ValueError(f"process 0: {told[1:]}")
    return told[1:]


def gather_texts(text: str) -> list[str]:
    """The texts of all processes, in the order of their index; each must call this.

    Args:
        text: What this process gives, of any length, the empty text included.
    """
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(data.size, np.int32))
    padded = np.pad(data, (0, int(sizes.max()) - data.size))
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def rows_per_process(batch: int) -> int:
    """How many rows of a batch of all processes each of them makes.

    Args:
        batch: How many rows all processes make together, a multiple of their number.

    Raises:
        ValueError: The processes cannot share the batch equally.
    """
    processes = jax.process_count()
    if batch % processes:
        raise ValueError(f"batch {batch} is not divisible by {processes} processes")
    return batch // processes
