"""One live line on a terminal, plain lines every few seconds elsewhere."""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TextIO

import jax
import numpy as np

LIVE_SECONDS = 0.2  # between redraws of a live line


class Progress(NamedTuple):
    """How a loop talks to the person who watches it."""

    step: Callable[[int, Mapping[str, Any]], None]  # one finished step and its metrics
    note: Callable[[str], None]  # a line that stays
    busy: Callable[[str], AbstractContextManager[None]]  # something without steps


@contextlib.contextmanager
def progress(
    name: str,
    *,
    first: int,
    total: int,
    show: Sequence[str],
    stream: TextIO | None = None,
    interval: float = 5.0,
) -> Iterator[Progress]:
    """Report steps `first` to `total`; silent on all processes but the first.

    Args:
        name: What runs, such as a stage; each line begins with it.
        first: How many steps are done already, 0 or more; the rate is measured from the
            step after it on.
        total: How many steps there are in all, those done included; 0 when that is not
            known, and then no time left is shown.
        show: The names of the metrics to print, in this order. A metric that is missing
            or not a single number is left out.
        stream: Where the lines go; None is standard error. On a terminal one line is
            redrawn, elsewhere lines follow each other.
        interval: The least number of seconds between two lines that are not redrawn; 0
            prints each step. The last step is always printed.
    """
    out = sys.stderr if stream is None else stream
    silent = jax.process_index() != 0
    live = out.isatty() and not silent
    started = time.monotonic()
    last = {"time": -interval, "step": first, "width": 0, "at": started}
    rate = {"seconds": 0.0}
    lock = threading.Lock()

    def put(line: str, *, stay: bool) -> None:
        if silent:
            return
        with lock:
            if live:
                line = line[: shutil.get_terminal_size().columns - 1]
                padding = " " * max(0, last["width"] - len(line))
                out.write(f"\r{line}{padding}" + ("\n" if stay else ""))
                last["width"] = 0 if stay else len(line)
            else:
                out.write(line + "\n")
            out.flush()

    def step(number: int, metrics: Mapping[str, Any]) -> None:
        now = time.monotonic()
        seconds = (now - last["at"]) / max(1, number - last["step"])
        last["at"], last["step"] = now, number
        # The first step of a run holds the compilation: it says nothing of the rest.
        old = rate["seconds"]
        rate["seconds"] = seconds if number <= first + 2 else 0.9 * old + 0.1 * seconds
        pause = LIVE_SECONDS if live else interval
        if now - last["time"] < pause and number != total:
            return
        last["time"] = now
        put(
            progress_line(
                name, number, total, metrics, show=show, seconds=rate["seconds"]
            ),
            stay=False,
        )

    @contextlib.contextmanager
    def busy(what: str) -> Iterator[None]:
        begun, done = time.monotonic(), threading.Event()

        def tick() -> None:
            while not done.wait(LIVE_SECONDS if live else interval):
                put(f"{name}: {what} {time.monotonic() - begun:.0f} s", stay=False)

        put(f"{name}: {what}", stay=False)
        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()
        put(f"{name}: {what} took {time.monotonic() - begun:.1f} s", stay=True)
        last["at"] = time.monotonic()

    try:
        yield Progress(step, lambda text: put(f"{name}: {text}", stay=True), busy)
    finally:
        if live and last["width"]:
            out.write("\n")


def progress_line(
    name: str,
    step: int,
    total: int,
    metrics: Mapping[str, Any],
    *,
    show: Sequence[str],
    seconds: float,
) -> str:
    """`name 12/400 | tau 0.45 | ... | 1.20 s/step | 340 tokens/s | ETA 3:20`.

    Args:
        name: What runs; the line begins with it.
        step: How many steps are done, 0 or more.
        total: How many there are in all; 0 shows "?" and no time left.
        metrics: The step's, by name; "idle", "skipped", "tokens" and "mfu" are shown
            without being named.
        show: The names of further metrics, in this order; those that are missing or not
            a single number are left out.
        seconds: What a step takes; 0 leaves the tokens per second out.
    """
    parts = [f"{name} {step}/{total or '?'}"]
    parts += [
        f"{key} {float(metrics[key]):.3g}"
        for key in show
        if key in metrics and np.ndim(metrics[key]) == 0
    ]
    if metrics.get("idle"):
        parts.append(f"no signal for {metrics['idle']}")
    if metrics.get("skipped"):
        parts.append(f"skipped {metrics['skipped']}")
    parts.append(f"{seconds:.2f} s/step")
    if "tokens" in metrics and seconds > 0:
        parts.append(f"{float(metrics['tokens']) / seconds:.0f} tokens/s")
    if "mfu" in metrics:
        parts.append(f"MFU {float(metrics['mfu']):.1%}")
    if total:
        parts.append(f"ETA {clock((total - step) * seconds)}")
    return " | ".join(parts)


def clock(seconds: float) -> str:
    """A time as m:ss, or from an hour on as h:mm:ss.

    Args:
        seconds: 0 or more; rounded to whole ones.
    """
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minute:02d}:{second:02d}"
    return f"{minute}:{second:02d}"
