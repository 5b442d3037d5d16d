"""The first thing a program does: find the other processes of its run, if any."""

import os
import pathlib
import socket
import sys
from collections.abc import Mapping
from typing import Any

from medjax.runtime.agreement import require_agreement
from medjax.runtime.launch import find_launch
from medjax.runtime.processes import join_processes, node_devices
from medjax.runtime.supervisor import watch_child
from medjax.runtime.watched import introduce, obey, read_watch

WATCHED = "MEDJAX_WATCHED"  # set by a parent for its child
LOGS = "processes"  # folder of the workdir


def start(
    place: Mapping[str, Any],
    workdir: str | os.PathLike,
    program: str | os.PathLike,
    **facts: Any,
) -> None:
    """Make this process one of several where it is; before anything is computed.

    One of several becomes the parent of a process that goes on from here, waits until
    that ends, and never returns. See `supervisor`.

    Args:
        place: `environ`, `coordinator`, `processes` and `index` of `find_launch`.
        workdir: The run's folder, which all processes must share; what C++ says goes
            to processes/ in it.
        program: The file that runs.
        facts: What all processes must have alike, such as the config.

    Raises:
        ValueError: What `find_launch`, `join_processes` and `require_agreement` refuse.
        OSError: The workdir cannot be made.
        SystemExit: In a parent, with the exit code of the run.
    """
    environ = place["environ"]
    launch = find_launch(**place, **node_devices(environ))
    if launch is None:
        return
    if WATCHED not in environ:
        command = [sys.executable, *sys.orig_argv[1:]]
        sys.exit(watch_child(command, environ, variable=WATCHED))
    watch = read_watch(environ[WATCHED])
    number = "unknown" if launch.index is None else f"{launch.index:03d}"
    name = f"process-{number}-{socket.gethostname()}.log"
    obey(watch, pathlib.Path(workdir) / LOGS / name)
    join_processes(launch)
    introduce(watch, launch.coordinator)
    require_agreement(workdir, program, **facts)
