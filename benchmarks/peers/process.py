"""The coordinator's end: a process for each library, which works when told to."""

import contextlib
import json
import os
import subprocess
import tempfile

HUGE_PAGES = "glibc.malloc.hugetlb=1"


class WorkerError(Exception):
    """A worker ended before its time; the message holds what it last wrote."""


class Worker:
    """A process that answers a line with a line of JSON; its first says what it is."""

    def __init__(self, name, command, env):
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=env,
        )
        self.name = name
        self.about = self._read()

    def do(self, line):
        """Tell it; what it answers, such as seconds and numbers to check it by."""
        with contextlib.suppress(BrokenPipeError):  # _read says why
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        return self._read()

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _read(self):
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read()[-2000:]
        self.close()
        raise WorkerError(f"{self.name} ended with status {code}:\n{last}")


def worker_env(pages="small"):
    """The same for all: CPU, no compilation cache, flags of ours left out."""
    ours = ("PYTHONPATH", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "GLIBC_TUNABLES")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env["JAX_PLATFORMS"] = "cpu"
    return env | ({"GLIBC_TUNABLES": HUGE_PAGES} if pages == "huge" else {})
