"""What a run leaves on disk beside its checkpoints: metrics and the manifest."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from medjax import __version__
from medjax.runtime.manifest import hide_paths
from medjax.runtime.processes import from_first

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "transformers",
)
WriteRow = Callable[[int, Mapping[str, Any]], None]


@contextlib.contextmanager
def metrics_writer(
    folder: str | os.PathLike, *, name: str, restored_step: int
) -> Iterator[WriteRow]:
    """A function write(step, values) that adds a row to `<folder>/<name>.jsonl`.

    The row is on disk when it returns; its numbers go to TensorBoard too. Only
    process 0 writes.

    Args:
        folder: It is made, with its parents, if it does not exist.
        name: The name of the file without its ending, and of its part of tensorboard/.
        restored_step: The step that a resume goes on from, 0 at the start. Rows after
            it were written by steps that will be repeated, and are cut away first.
    """
    if jax.process_index() != 0:
        yield lambda *_: None
        return
    import tensorboardX  # slow: it imports PyTorch where there is one

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    _cut_back(path, restored_step)
    board = tensorboardX.SummaryWriter(
        str(folder / "tensorboard" / name), purge_step=restored_step + 1
    )
    with path.open("a", encoding="utf-8") as lines, contextlib.closing(board):

        def write(step: int, values: Mapping[str, Any]) -> None:
            row = {"step": step} | {key: _plain(value) for key, value in values.items()}
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            for key, value in row.items():
                if isinstance(value, int | float) and key != "step":
                    board.add_scalar(re.sub(r"[^\w./-]", "_", key), value, step)

        yield write


def _plain(value: Any) -> Any:
    """An array as what JSON knows; strings and lists pass."""
    return np.asarray(value).tolist() if hasattr(value, "dtype") else value


def _cut_back(path: pathlib.Path, step: int) -> None:
    """Drop rows after `step`, and a last line that a kill cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    write_atomic(path, "".join(kept))


def last_row(path: str | os.PathLike) -> dict[str, Any] | None:
    """The last row of a file of `metrics_writer`; None without rows or file.

    Args:
        path: A file of JSON lines.
    """
    path = pathlib.Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return json.loads(lines[-1]) if lines else None


def agreed_row(path: str | os.PathLike) -> dict[str, Any] | None:
    """`last_row` as process 0 reads it, on all processes; each must call this.

    Another process may look while the first one writes, or see an older file.

    Args:
        path: A file of JSON lines.
    """
    return json.loads(from_first(lambda: json.dumps(last_row(path))))


def write_atomic(path: str | os.PathLike, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes under a temporary name, then rename the file.

    Args:
        path: A file in a folder that exists; what lies there is replaced.
        content: All that the file will hold.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        data = content.encode() if isinstance(content, str) else content
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_manifest(workdir: str | os.PathLike, **facts: Any) -> None:
    """Add this start of a run to `<workdir>/manifest.json`.

    The file is a list with one record per start; of the paths of a user's data it holds
    the names alone, see `hide_paths`. Only process 0 writes.

    Args:
        workdir: It is made, with its parents, if it does not exist.
        facts: What the record holds beside command, time, git commit, versions and
            devices, such as the config. What JSON cannot hold is written as its text.
    """
    if jax.process_index() != 0:
        return
    path = pathlib.Path(workdir) / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    starts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    record = {
        "command": [sys.executable, *sys.argv],
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": _git_commit(),
        "python": sys.version.split()[0],
        "versions": installed_versions(),
        "devices": {
            "platform": jax.default_backend(),
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
            "cpus": os.cpu_count(),
        },
    } | facts
    starts.append(hide_paths(record, pathlib.Path(workdir)))
    write_atomic(path, json.dumps(starts, indent=1, default=str))


def other_maker(workdir: str | os.PathLike) -> str:
    """A sentence on the version that last ran in `workdir`; "" where it is this one.

    It names version, commit and time as far as `manifest.json` has them.

    Args:
        workdir: The folder of a run; without a manifest the result is "".
    """
    path = pathlib.Path(workdir) / "manifest.json"
    try:
        start = json.loads(path.read_text(encoding="utf-8"))[-1]
        version, commit = start["versions"].get("medjax"), start.get("git")
        time_of_start = start.get("time")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"what made it is not on record: {path} is not there, or damaged"
    ours = _git_commit()
    if (version, commit) == (__version__, ours):
        return ""
    commit, ours = (
        f"commit {x}" if x else "no commit on record" for x in (commit, ours)
    )
    return (
        f"its manifest names medjax {version or 'of no version on record'}, {commit}, "
        f"started {time_of_start or 'at no time on record'}; this is medjax "
        f"{__version__}, {ours}"
    )


def installed_versions() -> dict[str, str | None]:
    """By package, medjax first; None for one that is not installed."""
    return {"medjax": __version__} | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the source tree, `+` when it has local changes; None outside git."""
    git = ["git", "-C", str(pathlib.Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")
