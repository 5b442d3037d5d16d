"""Runs of one config that differ in their seed, each by `run.py` in its own folder.

A run's folder has one folder a stage, as `run.py` leaves them, run.log with what it
printed, and seed.json once it has ended: what was asked, and how long it took.
"""

import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

from medjax.recipes.policy.scoring import earlier_rows
from medjax.runtime.naming import differences
from medjax.runtime.writer import last_row, write_atomic

REPO = pathlib.Path(__file__).resolve().parents[2]
RUN = REPO / "run.py"
# path -> what XLA is told; `sse` rounds sums elsewhere: no fused and no wide products
PATHS = {"native": "", "sse": "--xla_cpu_max_isa=SSE4_2"}
ENDED = (0, 3)  # exit codes of a run that came to its end; 3: with warnings


class RunError(ValueError):
    """A seed's run failed, or its folder holds another one."""


def seeded(config, seed):
    """`configs/x.py:a=b` with the seed as one more variant.

    Raises:
        ValueError: It names a seed of its own.
    """
    path, colon, variants = config.partition(":")
    if any(word.split("=")[0] == "seed" for word in variants.split(",")):
        raise ValueError(f"{config} names a seed: leave it out, --seeds has them all")
    return f"{path}:{variants + ',' if colon and variants else ''}seed={seed}"


def run_name(config):
    """A folder's name for a config: its file's, and its variants."""
    path, _, variants = config.partition(":")
    name = "-".join([pathlib.Path(path).stem, *filter(None, variants.split(","))])
    return "".join(x if x.isalnum() or x in "-._" else "_" for x in name)


def environment(path, environ, *, machine):
    """The environment of a run on one of `PATHS`.

    Raises:
        ValueError: The processor has no such path.
    """
    if path == "native":
        return dict(environ)
    if machine.lower() not in ("x86_64", "amd64"):
        raise ValueError(f"--path={path} is one of x86 processors; this is {machine}")
    flags = [environ.get("XLA_FLAGS", ""), PATHS[path]]
    return dict(environ) | {"XLA_FLAGS": " ".join(filter(None, flags))}


def run_seed(folder, config, seed, *, path, options):
    """Run a seed, or what is left of it; its record. One that has ended is only read.

    Raises:
        RunError: It failed; or the folder holds a run that was asked for otherwise.
    """
    asked = {"config": config, "seed": seed, "path": path, "options": list(options)}
    record = read_record(folder, asked)
    if record is not None:
        return record
    command = [sys.executable, str(RUN), f"--config={seeded(config, seed)}"]
    command += [f"--workdir={folder}", *options]
    env = environment(path, os.environ, machine=platform.machine())
    folder.mkdir(parents=True, exist_ok=True)
    started, log = time.time(), folder / "run.log"
    with log.open("a", encoding="utf-8") as file:
        code = call(command, env=env, stdout=file)
    if code not in ENDED:
        last = "\n  ".join(log.read_text("utf-8", "replace").splitlines()[-12:])
        raise RunError(
            f"seed {seed} ended with exit code {code}; {log} ends:\n  {last}"
        )
    record = asked | {"exit": code, "seconds": round(time.time() - started, 1)}
    write_atomic(folder / "seed.json", json.dumps(record, indent=1))
    return record


def call(command, *, env, stdout):
    """A program's exit code; a stop is handed on, and waited for."""
    with subprocess.Popen(
        command, env=env, stdout=stdout, stderr=subprocess.STDOUT, cwd=REPO
    ) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the terminal told the child too
            child.wait()
            raise
        except SystemExit:
            child.terminate()
            child.wait()
            raise


@contextmanager
def terminated_as_exit():
    """Within the block SIGTERM raises SystemExit(143), so that `call` hears of it."""

    def leave(number, _frame):
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def read_record(folder, asked):
    """What is on record of a run that has ended; None where it has not.

    Raises:
        RunError: It was asked for otherwise.
    """
    file = folder / "seed.json"
    if not file.exists():
        return None
    record = json.loads(file.read_text("utf-8"))
    changed = differences({name: record.get(name) for name in asked}, asked)
    if changed:
        lines = "\n  ".join(x.replace("the checkpoint", "the folder") for x in changed)
        raise RunError(
            f"{folder} holds another run:\n  {lines}\nchoose another folder with "
            "--out, or remove this one"
        )
    return record


def stages_of(folder):
    """Names of the stages that were evaluated, in the order of their first start."""

    def begun(file):
        starts = manifest_of(file.parent)
        return starts[0]["time"], file.stat().st_mtime_ns

    files = sorted(folder.glob("*/eval.jsonl"), key=begun)
    return [file.parent.name for file in files]


def manifest_of(stage):
    """The records of all starts of a stage, as `run.py` left them."""
    return json.loads((stage / "manifest.json").read_text("utf-8"))


def read_ends(folder, *, start=None, end=None):
    """What a run was before its last stage and after it.

    Args:
        folder: Of a run that has ended.
        start: The stage at whose end it counts as begun; None: the one before the
            last, or the last one before its first step, where it was evaluated there.
        end: The stage at whose end it counts as trained; None: the last one.

    Returns:
        Of "start" and "end": stage, step, scores, answers and tables. A system without
        answers, which is one of maps, has an end alone, unless a start is named.

    Raises:
        RunError: There is no such stage, or nothing before the only one.
    """
    names = stages_of(folder)
    for wanted in filter(None, (start, end)):
        if wanted not in names:
            raise RunError(f"{folder}: no stage {wanted!r}, there are: {names}")
    if not names:
        raise RunError(f"{folder}: no stage with an eval.jsonl")
    end = end or names[-1]
    rows = read_rows(folder / end / "eval.jsonl")
    last = _end(folder, end, rows[-1])
    if start is None and not any(folder.glob("*/eval/*/answers.jsonl")):
        return {"end": last}
    if start is None and rows[0]["step"] == 0 and len(rows) > 1:
        start, first = end, rows[0]
    else:
        before = names[: names.index(end)]
        if start is None and not before:
            raise RunError(
                f"{folder}: nothing was evaluated before {end}, so nothing tells what "
                "it gained; choose a config with a warm start, or name --start"
            )
        start = start or before[-1]
        first = read_rows(folder / start / "eval.jsonl")[-1]
    return {"start": _end(folder, start, first), "end": last}


def read_rows(path):
    """The rows of a file of JSON lines; at least one."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _end(folder, stage, row):
    place = folder / stage / "eval" / str(row["step"])
    tables = place / "tables.json"
    left_out = ("step", "n")
    numbers = {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and name not in left_out
    }
    return {
        "stage": stage,
        "step": row["step"],
        "scores": numbers,
        "answers": list(earlier_rows(place)),
        "tables": json.loads(tables.read_text("utf-8")) if tables.exists() else [],
    }


def facts_of(folder):
    """Commits, versions, devices and config of a run, from all starts of its stages.

    Returns:
        commits: sorted, of every start; the rest of the last stage's last start.
    """
    names = stages_of(folder)
    starts = [start for name in names for start in manifest_of(folder / name)]
    last = starts[-1]
    seconds = (last_row(folder / names[-1] / "metrics.jsonl") or {}).get("seconds")
    return {
        "commits": sorted({str(start["git"]) for start in starts}),
        "versions": last["versions"],
        "python": last["python"],
        "devices": last["devices"],
        "config": last["config"],
        "last_step_seconds": seconds,
    }


def processor():
    """What this machine's processor is called, with its cores."""
    name = platform.processor() or platform.machine()
    about = pathlib.Path("/proc/cpuinfo")
    if about.exists():
        for line in about.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return {"name": name, "cores": os.cpu_count(), "machine": platform.machine()}
