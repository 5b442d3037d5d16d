"""An audit trail on disk: JSON lines of every step, sharded by process, rotating.

    audit/process-000-00000.jsonl      process 0: its first file
    audit/process-000-00001.jsonl      and the next, once the first had its size

Each process writes files of its own. Each file begins with the header, so that it can
be read alone. A new one is begun between two steps, so that the lines of a step are
never parted; none is ever deleted, but by a resume that repeats its steps.
"""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import jax

FOLDER = "audit"
VERSION = 1  # of the lines; a reader refuses another
_NAME = re.compile(r"process-(\d{3,})-(\d{5,})\.jsonl")
WriteTrace = Callable[[int, Any, Mapping[str, Any]], None]  # (step, trace, metrics)


class Audit(NamedTuple):
    """What the trail of a stage holds."""

    header: Mapping[str, Any]  # first line of each file, as JSON can hold it
    # (trace, the step's metrics), all on the host -> this process's lines
    lines: Callable[[Any, Mapping[str, Any]], Iterable[Mapping[str, Any]]]
    size: int = 64 * 2**20  # bytes after which the next step begins a new file


@contextlib.contextmanager
def audit_writer(
    folder: str | os.PathLike, audit: Audit | None, *, restored_step: int
) -> Iterator[WriteTrace]:
    """A function write(step, trace, metrics) that adds the lines of a step.

    They are with the operating system when it returns.

    Args:
        folder: The stage's; the trail lies in audit/ there, which is made.
        audit: What lines hold. None gives a function that writes nothing, and leaves
            what is there.
        restored_step: The step that a resume goes on from, 0 at the start. Lines of
            later steps are cut away first, of all files: those steps will be repeated.
    """
    if audit is None:
        yield lambda *_: None
        return
    trail = pathlib.Path(folder) / FOLDER
    trail.mkdir(parents=True, exist_ok=True)
    _cut_back(trail, restored_step)
    with contextlib.ExitStack() as stack:
        yield _Writer(trail, audit, stack)


class _Writer:
    """The open file of this process."""

    def __init__(
        self, trail: pathlib.Path, audit: Audit, stack: contextlib.ExitStack
    ) -> None:
        self._trail, self._audit = trail, audit
        process = jax.process_index()
        mine = [part for owner, part, _ in audit_files(trail) if owner == process]
        self._next = mine[-1] + 1 if mine else 0
        self._file: IO[str] | None = None
        stack.callback(self._close)

    def __call__(self, step: int, trace: Any, metrics: Mapping[str, Any]) -> None:
        """Write the lines of a step, each with its number."""
        if self._file is not None and self._file.tell() >= self._audit.size:
            self._close()
        if self._file is None:
            name = f"process-{jax.process_index():03d}-{self._next:05d}.jsonl"
            self._file = (self._trail / name).open("w", encoding="utf-8")
            about = {"audit": VERSION, **self._audit.header}
            about["process"] = [jax.process_index(), jax.process_count()]
            self._file.write(_line(about))
            self._next += 1
        lines = self._audit.lines(trace, metrics)
        self._file.write("".join(_line({"step": step, **line}) for line in lines))
        self._file.flush()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def audit_files(
    trail: str | os.PathLike,
) -> list[tuple[int, int, pathlib.Path]]:
    """(process, number, path) of the files of a trail, in the order of writing.

    Args:
        trail: The folder audit/ of a stage; one that does not exist has no files.
    """
    found = []
    for path in pathlib.Path(trail).glob("process-*.jsonl"):
        name = _NAME.fullmatch(path.name)
        if name:
            found.append((int(name[1]), int(name[2]), path))
    return sorted(found)


def _cut_back(trail: pathlib.Path, step: int) -> None:
    """Drop the lines after `step`, and a last one that a kill cut short.

    A run may go on with another number of processes: each cuts the files of those that
    are its own number modulo theirs, so that every file is cut by one.
    """
    count, index = jax.process_count(), jax.process_index()
    for owner, _, path in audit_files(trail):
        if owner % count != index:
            continue
        end, kept = 0, 0
        with path.open("rb") as file:
            for number, line in enumerate(file):
                whole = line.endswith(b"\n")
                if not whole or (number and json.loads(line)["step"] > step):
                    break
                end, kept = end + len(line), number
        if not kept:  # nothing but the header
            path.unlink()
        elif end < path.stat().st_size:
            os.truncate(path, end)


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
