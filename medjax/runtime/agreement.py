"""What all processes of a run must have alike: config, code, data, and one workdir."""

import hashlib
import json
import os
import pathlib
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from medjax.runtime.errors import ProcessError
from medjax.runtime.naming import differences
from medjax.runtime.processes import from_first, gather_texts
from medjax.runtime.writer import installed_versions

TOKEN = ".processes.token"
WAIT_SECONDS = 30  # a network's folder may show a new file late
SHOWN = 12  # lines of differences in an error


def require_alike(what: str, document: Mapping[str, Any]) -> None:
    """Raise where a process has another document than the first; each must call this.

    Args:
        what: What an error calls it, such as "config".
        document: As JSON can hold it; what it cannot hold counts as its text.

    Raises:
        ProcessError: On all processes alike. Process and host are named, with what
            differs.
    """
    if jax.process_count() == 1:
        return
    mine = json.dumps([socket.gethostname(), document], default=str)
    told = [json.loads(text) for text in gather_texts(mine)]
    (first, expected), lines = told[0], []
    for index, (host, found) in enumerate(told):
        sides = (f"process {index} on {host}", f"process 0 on {first}")
        lines += differences(found, expected, sides=sides)
    if lines:
        more = len(lines) - SHOWN
        shown = [*lines[:SHOWN], *([f"... and {more} more"] if more > 0 else [])]
        raise ProcessError(
            f"the processes of this run differ in {what}:\n  "
            + "\n  ".join(shown)
            + "\nstart all of them with one command, one version and the same files"
        )


def require_one_workdir(workdir: str | os.PathLike) -> None:
    """Raise unless all processes read in `workdir` what the first one writes.

    Args:
        workdir: It is made, with its parents, if it does not exist.

    Raises:
        ProcessError: On all processes alike; those that cannot read it are named.
        ValueError: Process 0 cannot write there; the others are told of it.
        OSError: Likewise, on process 0.
    """
    if jax.process_count() == 1:
        return
    path = pathlib.Path(workdir) / TOKEN

    def write() -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(16)
        path.write_text(token, encoding="utf-8")
        return token

    token = from_first(write)
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := _read(path)) != token and time.monotonic() < deadline:
        time.sleep(0.5)
    said = gather_texts("" if found == token else socket.gethostname())
    if jax.process_index() == 0:
        path.unlink(missing_ok=True)
    blind = [f"process {n} on {host}" for n, host in enumerate(said) if host]
    if blind:
        raise ProcessError(
            f"{', '.join(blind)}: {path.parent.absolute()} is not the folder that "
            f"process 0 writes to (what it wrote was not there after {WAIT_SECONDS} "
            "s); expected a --workdir that all processes share"
        )


def _read(path: pathlib.Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def require_agreement(
    workdir: str | os.PathLike, program: str | os.PathLike, **facts: Any
) -> None:
    """Raise unless all processes are of one command and one version, in one workdir.

    Args:
        workdir: See `require_one_workdir`.
        program: The file that runs; it, the folder configs/ beside it and the package
            are compared by a digest.
        facts: What must be alike beside, such as the config, as JSON can hold it.

    Raises:
        ProcessError: On all processes alike, before anything is read or trained.
        ValueError: See `require_one_workdir`.
        OSError: Likewise.
    """
    if jax.process_count() == 1:
        return
    file = pathlib.Path(program).absolute()
    configs = [path for path in (file.parent / "configs",) if path.is_dir()]
    code = _digest([pathlib.Path(__file__).parents[1], file, *configs])
    facts |= {"versions": installed_versions(), "code": code}
    require_alike("command, config or code", facts)
    require_one_workdir(workdir)


def _digest(places: Iterable[pathlib.Path]) -> str:
    digest = hashlib.sha256()
    for place in places:
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for file in files:
            name = file.relative_to(place).as_posix() if file != place else file.name
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
