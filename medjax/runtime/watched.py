"""What a process does for the parent that watches it, see `supervisor`.

Python's messages go to the screen as ever; what C++ writes to the same descriptors,
such as the trace of a broken connection, goes to a log file.
"""

import contextlib
import json
import os
import pathlib
import secrets
import signal
import socket
import sys
import threading
import traceback
from typing import Any, NamedTuple

import jax

from medjax.runtime.processes import gather_texts
from medjax.runtime.supervisor import Place

SHOWN = 600  # characters of a message that a parent repeats


class Watch(NamedTuple):
    """How a child knows its parent."""

    port: int  # where the parent listens
    write: int  # a descriptor of a pipe to it
    read: int  # one of a pipe that ends where it ends


def read_watch(text: str) -> Watch:
    """A `Watch` from "PORT,WRITE,READ"."""
    return Watch(*map(int, text.split(",")))


class _Echo:
    """A text stream that tells the parent what was written last."""

    def __init__(self, stream: Any, write: int) -> None:
        self._stream, self._write = stream, write

    def write(self, text: str) -> int:
        """Write, and tell."""
        if text.strip():
            said = json.dumps({"said": text.strip()[-SHOWN:]})
            with contextlib.suppress(OSError):
                os.write(self._write, f"{said}\n".encode())
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def obey(watch: Watch, log: pathlib.Path) -> None:
    """Take the parent's place in what a terminal, a launcher and C++ do.

    Args:
        watch: How this process knows its parent.
        log: The file that C++ writes to from here on; its folder is made.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent makes it a SIGTERM
    out, err = (open(os.dup(n), "w", buffering=1, encoding="utf-8") for n in (1, 2))
    sys.stdout, sys.stderr = out, _Echo(err, watch.write)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.excepthook = _leave
    threading.Thread(target=_die_with_parent, args=(watch.read,), daemon=True).start()


def _die_with_parent(descriptor: int) -> None:
    os.read(descriptor, 1)  # until the parent's end of it is closed
    os._exit(1)


def _leave(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """End at once after an error: jax would wait for the others, and they for this.

    An error of jax's runtime mostly says that another process is gone; its traceback
    goes to the log.
    """
    text = "".join(traceback.format_exception(kind, error, trace))
    if isinstance(error, jax.errors.JaxRuntimeError):
        os.write(2, text.encode())
        text = f"{kind.__name__}: {str(error).splitlines()[0]}\n"
    sys.stderr.write(text)
    end(1)


def end(code: int) -> None:
    """End this process without the others, with all that Python has written."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def introduce(watch: Watch, coordinator: str | None) -> None:
    """Tell the parent where all processes are; each must call this.

    Args:
        watch: How this process knows its parent.
        coordinator: HOST:PORT where others reach process 0, if it is known.
    """
    host = socket.gethostname()
    known = [coordinator.rpartition(":")[0].strip("[]")] if coordinator else []
    mine = [host, watch.port, [*known, host, *_own_addresses()], secrets.token_hex(16)]
    told = [json.loads(text) for text in gather_texts(json.dumps(mine))]
    _, port, addresses, secret = told[0]
    place = Place(jax.process_index(), [x[0] for x in told], addresses, port, secret)
    os.write(watch.write, (json.dumps(place._asdict()) + "\n").encode())


def _own_addresses() -> list[str]:
    """The addresses that this host's name stands for, those of the loopback last."""
    try:
        found = {str(x[4][0]) for x in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        return []
    return sorted(found, key=lambda x: (x.startswith("127.") or x == "::1", x))
