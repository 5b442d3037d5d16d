"""How fast steps are: seconds, tokens a second and chip, and the share of the peak."""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from medjax.planning.chips import chip_of
from medjax.planning.traced import traced_flops
from medjax.runtime.writer import metrics_writer

SPEED = "speed"  # its file: what it holds differs from run to run, metrics do not


class Speed(NamedTuple):
    """How a loop tells what it does, so that steps can be timed."""

    traced: Callable[[Any], None]  # a program that steps run from now on
    finished: Callable[[int, Mapping[str, Any]], dict[str, float]]  # a step
    interrupted: Callable[[], None]  # something else came between two steps


class Pace(NamedTuple):
    """The median of steps that were timed; None where it could not be told."""

    steps: int
    seconds: float
    tokens: float | None  # a second and chip
    mfu: float | None  # 0 to 1


@contextlib.contextmanager
def speed_writer(
    folder: str | os.PathLike, devices: Sequence[Any], *, restored_step: int
) -> Iterator[Speed]:
    """Times steps, and writes a row of speed.jsonl for each that nothing came between.

    A row has `seconds` from the end of the step before to its own, and where metrics
    have `tokens` what that makes a second and chip, `tokens_per_second_chip`. `mfu` is
    the share of the chips' peak by `traced_flops`, which leaves out what is drawn token
    by token and counts what is computed again; it is there on chips whose peak is
    known, see `chip_of`, and so never on a CPU.

    Args:
        folder: Gets speed.jsonl, and a part of tensorboard/.
        devices: Those that steps run on.
        restored_step: See `metrics_writer`.
    """
    chip = chip_of(devices[0].device_kind)
    count = len(devices)
    flops, before = 0.0, None
    with metrics_writer(folder, name=SPEED, restored_step=restored_step) as write:

        def traced(program: Any) -> None:
            nonlocal flops, before
            flops = traced_flops(program) if chip is not None else 0.0
            before = None

        def finished(step: int, metrics: Mapping[str, Any]) -> dict[str, float]:
            nonlocal before
            now, last = time.monotonic(), before
            before = now
            row: dict[str, float] = {}
            if last is None:
                return row
            row["seconds"] = seconds = now - last
            if "tokens" in metrics:
                tokens = float(metrics["tokens"]) / seconds / count
                row["tokens_per_second_chip"] = tokens
            if chip is not None and flops:
                row["mfu"] = flops / seconds / count / chip.flops
            write(step, row)
            return row

        def interrupted() -> None:
            nonlocal before
            before = None

        yield Speed(traced, finished, interrupted)


def read_pace(folder: str | os.PathLike) -> Pace | None:
    """The medians of a stage's speed.jsonl; None without one, or without rows.

    Args:
        folder: Of the stage. A last line that a kill cut short is left out.
    """
    path = pathlib.Path(folder) / f"{SPEED}.jsonl"
    if not path.exists():
        return None
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    if not rows:
        return None

    def median(name: str) -> float | None:
        found = [row[name] for row in rows if name in row]
        return float(np.median(found)) if found else None

    return Pace(
        len(rows),
        float(np.median([row["seconds"] for row in rows])),
        median("tokens_per_second_chip"),
        median("mfu"),
    )


@contextlib.contextmanager
def profiler(
    folder: str | os.PathLike, steps: tuple[int, int] | None
) -> Iterator[Callable[[int], None]]:
    """A function of the number of a step that is about to run; it traces steps A to B.

    The trace lies in folder/profile/plugins/profile, as xprof (*.xplane.pb) and
    Perfetto (*.trace.json.gz) open it. One that the training ends in is written too.

    Args:
        folder: The stage's.
        steps: A and B, numbers of steps, both traced; None traces none.

    Raises:
        ValueError: A is less than 1, or B less than A.
    """
    first, last = steps or (0, 0)
    if steps is not None and not 1 <= first <= last:
        raise ValueError(f"--profile={first}:{last}: expected steps A:B, 1 <= A <= B")
    running = False

    def before(step: int) -> None:
        nonlocal running
        if running and step > last:
            jax.profiler.stop_trace()
            running = False
        if steps is not None and step == first:
            jax.profiler.start_trace(pathlib.Path(folder) / "profile")
            running = True

    try:
        yield before
    finally:
        if running:
            jax.profiler.stop_trace()
