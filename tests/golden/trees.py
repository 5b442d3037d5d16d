"""A checkout, the process that runs its scripts, and the programs it compiles."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

WORKER = pathlib.Path(__file__).resolve().with_name("worker.py")


class Done(NamedTuple):
    """One run in one tree."""

    workdir: pathlib.Path
    code: int
    seconds: float
    log: pathlib.Path

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "nothing said")


class Tree:
    """A worker in a checkout, its runs' folders and its compiled programs.

    Each tree has a compilation cache of its own, and what base has compiled is put into
    HEAD's. That hides nothing: a program is found by the hash of its whole HLO, of the
    compiler's options and versions, so that HEAD gets base's code exactly where it asks
    for the same program, and compiles for itself wherever one instruction differs. What
    is left to compare is then what goes into programs and which they are. It halves the
    time, and what HEAD has compiled all the same tells which programs a commit changed.
    """

    def __init__(self, checkout: pathlib.Path, folder: pathlib.Path) -> None:
        self.folder, self.cache = folder, folder / "programs"
        self.cache.mkdir(parents=True)
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            # else the cache's path is hashed with a program, and none is found again
            "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", fast_compilation()),
            "PYTHONPATH": str(checkout),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "MPLBACKEND": "Agg",
            # with it set run.py does not start itself anew
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        }
        self.worker = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Tree":
        return self

    def __exit__(self, *error: object) -> None:
        self.worker.kill() if any(error) else self.worker.stdin.close()
        self.worker.wait()
        self.worker.stdout.close()

    def execute(self, name: str, script: str, arguments: list[str]) -> Done:
        """Run a script of the tree; `name` is its log's and its folder's."""
        log = self.folder / f"{name}.log"
        job = {"script": script, "arguments": arguments, "log": str(log)}
        self.worker.stdin.write(json.dumps(job) + "\n")
        self.worker.stdin.flush()
        answer = self.worker.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker of {self.folder.name} has ended")
        return Done(self.folder / name, log=log, **json.loads(answer))


def fast_compilation() -> str:
    """Flags as in `tests/conftest.py`; XLA_FLAGS of the environment replace them."""
    flags = "--xla_backend_optimization_level=0"
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        flags += " --xla_cpu_use_fusion_emitters=false"
    return flags


def programs(tree: Tree) -> set[str]:
    """Names of the cache's files: a program's name and its hash."""
    return {path.name for path in tree.cache.iterdir() if path.name.endswith("-cache")}


def share_programs(base: Tree, head: Tree, names: set[str]) -> None:
    """Put programs of base that HEAD does not have into its cache."""
    for name in names - programs(head):
        shutil.copyfile(base.cache / name, head.cache / name)


@contextlib.contextmanager
def checkout(
    repository: pathlib.Path, commit: str, folder: pathlib.Path
) -> Iterator[pathlib.Path]:
    """The commit as a worktree in `folder`, removed at the end."""
    git = ["git", "-C", str(repository), "worktree"]
    subprocess.run(
        [*git, "add", "--quiet", "--detach", str(folder), commit], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)
