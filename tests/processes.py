"""Programs that run as several processes which talk over the loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_address():
    """An address that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(commands, **environment):
    """Start one process for each command, with the arguments after `python`."""
    flags = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)} | environment
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]


def finish(running, *, timeout=300):
    """Exit codes, and what each process printed and said."""
    said = [process.communicate(timeout=timeout) for process in running]
    return [process.returncode for process in running], said
