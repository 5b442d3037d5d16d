"""SIGTERM and SIGINT ask for a stop at the next step boundary."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(SystemExit):
    """A signal ended the run after its checkpoint; it exits with 128 + the signal."""


@contextmanager
def deferred_signals() -> Iterator[Callable[[], signal.Signals | None]]:
    """Within the block a stop signal is only remembered; call the result to read it.

    The call gives the first signal that came, or None. A second signal acts at once, as
    it would have done outside. Outside the main thread, where Python allows no
    handlers, nothing is remembered.
    """
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def remember(number: int, _frame) -> None:
        received.append(signal.Signals(number))
        restore()
        sys.stderr.write(
            f"\n{received[0].name}: finishing this step, then writing a checkpoint "
            "(a second signal stops at once)\n"
        )
        sys.stderr.flush()

    for number in STOP_SIGNALS:
        signal.signal(number, remember)
    try:
        yield lambda: received[0] if received else None
    finally:
        restore()
