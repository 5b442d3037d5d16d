"""A parent for each process of a run, which learns how all of them end.

The parent computes nothing. It starts the program again as its child and waits for it;
parents talk over TCP, with that of process 0 in the middle. A process that is killed,
that fails, or whose host falls silent ends the run: each parent says which it was, on
which host and why, ends its child and exits with 1.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

ORDERLY = (0, 3, 128 + signal.SIGTERM)  # exit codes of processes that end together
BEAT_SECONDS, SILENT_SECONDS = 3, 20
GRACE_SECONDS = 3  # in which what began it is told, beside what fell over it
LINGER_SECONDS = 60  # of a parent whose child has ended well, for the others


class Place(NamedTuple):
    """Where a process is among the others."""

    index: int
    hosts: list[str]  # by process
    addresses: list[str]  # where the parent of process 0 may be reached
    port: int  # likewise
    secret: str  # by which parents of one run know each other


class Cause(NamedTuple):
    """Why a run cannot go on."""

    weight: int  # 2: by itself; 1: perhaps since another one is gone
    index: int  # of the process
    text: str
    said: str = ""  # its last words


def describe_end(index: int, code: int, last: str) -> Cause:
    """What the end of a process says of why a run ended.

    Args:
        index: The number of the process.
        code: As `subprocess` gives it: negative for a signal.
        last: What the process said last, "" for nothing.
    """
    if code < 0:
        name = signal.Signals(-code).name
        by = ", by hand or by the kernel for want of memory" if code == -9 else ""
        return Cause(1 if name == "SIGABRT" else 2, index, f"was killed by {name}{by}")
    broken = "JaxRuntimeError" in last
    return Cause(1 if broken else 2, index, f"ended with exit code {code}", last)


def choose_cause(causes: Sequence[Cause]) -> Cause:
    """What began it: of the greatest weight, and of those the one told first.

    Args:
        causes: At least one, in the order in which they were told.
    """
    return max(causes, key=lambda cause: cause.weight)


class _Parent:
    """What a parent knows. All that happens comes as an event into one queue."""

    def __init__(self, server: socket.socket) -> None:
        self.events: queue.Queue[tuple[str, int, Any]] = queue.Queue()
        self.peers: dict[int, socket.socket] = {}  # of process 0 all others, else it
        self.place: Place | None = None
        self.last = ""  # what the child said last
        self._server, self._lock = server, threading.Lock()

    def others(self) -> set[int]:
        """The processes whose ends this parent hears of."""
        if self.place is None:
            return set()
        return {0} if self.place.index else set(range(1, len(self.place.hosts)))

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message to all that this parent is connected with."""
        data = (json.dumps(message) + "\n").encode()
        with self._lock:
            for connection in self.peers.values():
                with contextlib.suppress(OSError):  # `listen` notices
                    connection.sendall(data)

    def hear_child(self, pipe: int) -> None:
        """Note what the child tells: its place, and its last words."""
        with open(pipe, encoding="utf-8") as lines:
            for line in lines:
                message = json.loads(line)
                if "said" in message:
                    self.last = message["said"]
                else:
                    self.place = Place(**message)
                    _thread(self.admit if not self.place.index else self.reach)
                    _thread(self.beat)

    def wait_for(self, child: subprocess.Popen) -> None:
        """Put the end of the child into the queue."""
        self.events.put(("ended", -1, child.wait()))

    def beat(self) -> None:
        """Show the others that this host is there."""
        while True:
            time.sleep(BEAT_SECONDS)
            self.tell({})

    def admit(self) -> None:
        """Take the parents of the other processes in that know the run's secret."""
        while self.place is not None:
            with contextlib.suppress(OSError, ValueError):
                connection, _ = self._server.accept()
                connection.settimeout(SILENT_SECONDS)
                lines = connection.makefile("r", encoding="utf-8")
                hello = json.loads(lines.readline())
                if hello.get("secret") == self.place.secret:
                    self.connect(int(hello["index"]), connection, lines)

    def reach(self) -> None:
        """Connect to the parent of process 0."""
        place = self.place
        if place is None:
            return
        hello = {"index": place.index, "secret": place.secret}
        deadline = time.monotonic() + SILENT_SECONDS
        while time.monotonic() < deadline:
            for address in place.addresses:
                with contextlib.suppress(OSError):
                    found = (address, place.port)
                    connection = socket.create_connection(found, timeout=5)
                    connection.sendall((json.dumps(hello) + "\n").encode())
                    lines = connection.makefile("r", encoding="utf-8")
                    if lines.readline():  # its first beat
                        self.connect(0, connection, lines)
                        return
            time.sleep(0.5)
        _say(
            f"process {place.index} cannot reach the parent of process 0 "
            f"({', '.join(place.addresses)}, port {place.port}): that "
            "another process has ended may be noticed late"
        )

    def connect(self, index: int, connection: socket.socket, lines: IO[str]) -> None:
        """Hold a connection, and listen to it."""
        connection.settimeout(SILENT_SECONDS)
        with self._lock:
            self.peers[index] = connection
        _thread(self.listen, index, lines)
        self.tell({})

    def listen(self, index: int, lines: IO[str]) -> None:
        """Put what a peer says into the queue, and that it is gone."""
        why = "is gone: its connection closed without a word"
        try:
            for line in lines:
                message = json.loads(line)
                if message:
                    self.events.put(("told", index, message))
        except TimeoutError:
            why = f"is gone or stopped: no sign of its host for {SILENT_SECONDS} s"
        except (OSError, ValueError):
            pass
        self.events.put(("gone", index, why))


def watch_child(
    command: Sequence[str], environ: Mapping[str, str], *, variable: str
) -> int:
    """Run a program as one process of several until all of them end; its exit code.

    Args:
        command: The program and its arguments.
        environ: Its environment variables.
        variable: The one by which the child knows its parent: "PORT,WRITE,READ", the
            port of this parent, a descriptor to write to it, and one that ends with it.
    """
    server = socket.create_server(("", 0))
    told, write = os.pipe()
    alive, held = os.pipe()
    port = server.getsockname()[1]
    child = subprocess.Popen(
        list(command),
        env={**environ, variable: f"{port},{write},{alive}"},
        pass_fds=(write, alive),
    )
    for descriptor in (write, alive):
        os.close(descriptor)
    _forward_signals(child)
    parent = _Parent(server)
    _thread(parent.hear_child, told)
    _thread(parent.wait_for, child)
    code = _await_ends(parent, child)
    os.close(held)
    return code


def _await_ends(parent: _Parent, child: subprocess.Popen) -> int:
    """Until all have ended well, or one has not; then all end. The exit code."""
    code: int | None = None
    causes: list[Cause] = []
    done: set[int] = set()
    deadline = float("inf")
    while True:
        pause = min(1.0, max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(queue.Empty):
            kind, index, what = parent.events.get(timeout=pause)
            place = parent.place
            if kind == "ended" and place is None and what >= 0:
                return what  # it never met the others, and has said why
            if kind == "ended" and what in ORDERLY:
                code = what
                parent.tell({"done": True})
                deadline = time.monotonic() + LINGER_SECONDS
            elif kind == "ended":
                code, wait = what, GRACE_SECONDS
                causes.append(
                    describe_end(place.index if place else -1, what, parent.last)
                )
                if place is not None and place.index:  # the first decides for all
                    parent.tell({"cause": causes[-1]})
                    wait *= 3
                deadline = time.monotonic() + wait
            elif kind == "told" and "verdict" in what:
                return _end_all(parent, child, Cause(*what["verdict"]))
            elif kind == "told" and "cause" in what:
                causes.append(Cause(*what["cause"]))
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            elif kind == "told":
                done.add(index)
            elif index not in done:
                causes.append(Cause(2, index, what))
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        if code in ORDERLY and not causes and done >= parent.others():
            return code
        if time.monotonic() >= deadline:
            if causes:
                return _end_all(parent, child, choose_cause(causes))
            return code or 0


def _end_all(parent: _Parent, child: subprocess.Popen, cause: Cause) -> int:
    """Say why, on all hosts, and end the child."""
    place = parent.place
    parent.tell({"verdict": cause})
    child.kill()
    child.wait()
    # what stands on this screen already is not repeated
    said = f": {cause.said}" if cause.said and cause.said != parent.last else ""
    who = f"a process on {socket.gethostname()}"
    if place is not None:
        host = place.hosts[cause.index]
        who = f"process {cause.index} of {len(place.hosts)} on {host}"
    _say(
        f"{who} {cause.text}{said}\nAll processes of the run end; the same command "
        "goes on from its newest checkpoint"
    )
    return 1


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _thread(function: Any, *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _forward_signals(child: subprocess.Popen) -> None:
    """SIGTERM and ctrl-C ask all to stop at the same step; a second one acts at once.

    The child takes no ctrl-C of its own, see `watched`: a terminal sends it to both.
    """
    came: list[int] = []

    def forward(number: int, _frame: Any) -> None:
        came.append(number)
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM if len(came) == 1 else signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
