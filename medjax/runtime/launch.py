"""Which processes a run has: read off flags, and off what a launcher has set.

Nothing here imports jax: what is wrong is said before anything is computed.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

ALONE = "--num_processes=1 makes this process a run of its own"


class Launcher(NamedTuple):
    """The variables by which a launcher tells a process its place."""

    name: str
    size: str  # how many processes there are
    rank: str  # the number of this one, from 0
    local_rank: str  # likewise, among those of its node
    local_size: str  # how many the node has
    start: str  # how it starts several


LAUNCHERS = (
    Launcher(
        "SLURM",
        "SLURM_NTASKS",
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE",
        "srun python run.py ...",
    ),
    Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "mpirun python run.py ...",
    ),
    Launcher(
        "MPI", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "mpiexec"
    ),
    Launcher(
        "torchrun", "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "torchrun"
    ),
)


class Launch(NamedTuple):
    """How this process joins the others; None is found out by jax."""

    launcher: str  # what told of them
    coordinator: str | None = None  # HOST:PORT of process 0
    processes: int | None = None
    index: int | None = None  # of this one, from 0
    devices: tuple[int, ...] | None = None  # its GPUs, among those it sees; None: all


def find_launch(
    environ: Mapping[str, str],
    *,
    coordinator: str | None = None,
    processes: int | None = None,
    index: int | None = None,
    gpus: int = 0,
    tpu: bool = False,
) -> Launch | None:
    """How this process joins others; None where it is alone.

    What is given counts before what a launcher says. Looked for are, in this order,
    SLURM, Open MPI, other MPIs and torchrun, TPUs, and an indexed job of Kubernetes.

    Args:
        environ: The process's environment variables.
        coordinator: HOST:PORT of process 0, as --coordinator gives it.
        processes: How many processes there are, as --num_processes; 1 is alone,
            whatever a launcher says.
        index: The number of this process, from 0, as --process_id.
        gpus: How many GPUs the node shows as device files, whether this process may
            use them or not.
        tpu: Whether this is a TPU's host, where jax finds the others.

    Raises:
        ValueError: Flags or variables contradict each other or leave something open,
            or a launcher has more processes than it started here; or a process would
            leave GPUs of its node idle. The message names the way out.
    """
    if processes == 1 and not index:
        return None
    found = next((x for x in LAUNCHERS if _number(environ, x.size) > 1), None)
    given = coordinator or environ.get("JAX_COORDINATOR_ADDRESS") or None
    if processes is not None or index is not None:
        return _from_flags(environ, given, processes, index)
    if found is not None:
        return _from_launcher(environ, found, given, gpus)
    hosts = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
    if tpu or (hosts and "," in hosts):
        return Launch("TPU", given)
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        return Launch("Kubernetes", given)
    if coordinator:
        raise ValueError(
            f"--coordinator={coordinator}: expected --num_processes and --process_id "
            "beside it, or a launcher (SLURM, Open MPI, TPU, Kubernetes) that tells "
            "them; none was found in the environment"
        )
    if given:
        raise ValueError(
            f"JAX_COORDINATOR_ADDRESS={given} is set, and nothing tells how many "
            "processes there are: give --num_processes and --process_id, or unset it"
        )
    return None


def _from_flags(environ, coordinator, processes, index) -> Launch:
    if processes is None or index is None or not coordinator:
        raise ValueError(
            f"--coordinator={coordinator or ''} --num_processes={processes} "
            f"--process_id={index}: expected all three (HOST:PORT of process 0, how "
            f"many there are, and which this is, from 0), or none of them; {ALONE}"
        )
    if not re.fullmatch(r"(\[[^\]]+\]|[^:\s]+):\d+", coordinator):
        raise ValueError(
            f"--coordinator={coordinator}: expected HOST:PORT, an address of process "
            "0 that all others reach and a free port there"
        )
    if processes < 1 or not 0 <= index < processes:
        raise ValueError(
            f"--process_id={index}: expected 0 to --num_processes - 1, and "
            f"--num_processes={processes} of 1 or more"
        )
    ids = environ.get("JAX_LOCAL_DEVICE_IDS")
    devices = tuple(int(one) for one in ids.split(",")) if ids else None
    return Launch("flags", coordinator, processes, index, devices)


def _from_launcher(environ, found: Launcher, coordinator, gpus) -> Launch:
    size, rank = _number(environ, found.size), environ.get(found.rank)
    told = f"{found.name} has {size} processes ({found.size})"
    started = rank is not None
    if found.name == "SLURM":  # a batch script has the size, and no step of its own
        started = _number(environ, "SLURM_STEP_NUM_TASKS") == size
    if not started:
        raise ValueError(
            f"{told}, and this is one that it did not start as one of them: each would "
            f"train alone in one workdir. Start it by {found.start}; {ALONE}"
        )
    index = _number(environ, found.rank)
    if not 0 <= index < size:
        raise ValueError(f"{told}, and {found.rank}={rank}: expected 0 to {size - 1}")
    finds = found.name == "SLURM" or "OMPI_MCA_orte_hnp_uri" in environ
    if not coordinator and not finds:
        raise ValueError(
            f"{told}, and does not tell jax where process 0 is: give "
            "--coordinator=HOST:PORT, an address of its node and a free port there, to "
            f"all of them; {ALONE}"
        )
    devices = _devices(environ, found, gpus)
    return Launch(found.name, coordinator, size, index, devices)


def _devices(environ, found: Launcher, gpus: int) -> tuple[int, ...] | None:
    """The GPUs of this process by their place among those that it sees.

    jax gives a process of SLURM or Open MPI one GPU, that of its number on the node,
    unless it is told.
    """
    chosen = environ.get("JAX_LOCAL_DEVICE_IDS")
    if chosen:
        return tuple(int(one) for one in chosen.split(","))
    node = _number(environ, "SLURM_GPUS_ON_NODE") or gpus
    if not node or environ.get("JAX_PLATFORMS") == "cpu":
        return None
    shown = environ.get("CUDA_VISIBLE_DEVICES")
    sees = node if shown is None else len([x for x in shown.split(",") if x.strip()])
    local, tasks = _number(environ, found.local_rank), _tasks(environ, found)
    if sees == node and node % tasks == 0:
        share = node // tasks
        return tuple(range(local * share, (local + 1) * share))
    if sees * tasks == node:  # the launcher has bound them
        return tuple(range(sees))
    raise ValueError(
        f"the node shows {node} GPUs for {tasks} processes of {found.name}, and this "
        f"one (number {local} there) sees {sees} (CUDA_VISIBLE_DEVICES={shown}): GPUs "
        "would be idle or shared. Expected one process for all of them, or a number of "
        "processes that divides them, each of which sees all or its own share (SLURM: "
        "--gpus-per-node, and none of --gpus-per-task, --gpu-bind); "
        "JAX_LOCAL_DEVICE_IDS chooses otherwise"
    )


def _tasks(environ, found: Launcher) -> int:
    """How many processes this node has; SLURM writes them as "2(x3),1"."""
    if found.name != "SLURM":
        return max(1, _number(environ, found.local_size))
    text = environ.get(found.local_size) or environ.get("SLURM_TASKS_PER_NODE", "1")
    nodes = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if match is None:
            raise ValueError(f"{found.local_size}={text}: expected such as 8(x4),2")
        nodes += [int(match[1])] * int(match[2] or 1)
    return nodes[min(_number(environ, "SLURM_NODEID"), len(nodes) - 1)]


def _number(environ: Mapping[str, str], name: str) -> int:
    """A variable's whole number, 0 where it is not set."""
    text = environ.get(name) or "0"
    if not text.strip().isdecimal():
        raise ValueError(f"{name}={text}: expected a whole number")
    return int(text)
