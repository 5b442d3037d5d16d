"""The first thing a program does: find the other processes of its run, if any."""

import os
from collections.abc import Mapping
from typing import Any

from medjax.runtime.agreement import require_agreement
from medjax.runtime.launch import find_launch
from medjax.runtime.processes import join_processes, node_devices


def start(
    place: Mapping[str, Any],
    workdir: str | os.PathLike,
    program: str | os.PathLike,
    **facts: Any,
) -> None:
    """Make this process one of several where it is; before anything is computed.

    Args:
        place: `environ`, `coordinator`, `processes` and `index` of `find_launch`.
        workdir: The run's folder, which all processes must share.
        program: The file that runs.
        facts: What all processes must have alike, such as the config.

    Raises:
        ValueError: What `find_launch`, `join_processes` and `require_agreement` refuse.
        OSError: The workdir cannot be made.
    """
    launch = find_launch(**place, **node_devices())
    if launch is not None:
        join_processes(launch)
        require_agreement(workdir, program, **facts)
