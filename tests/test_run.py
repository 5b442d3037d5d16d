"""The command line from end to end, on drawn shapes: train, resume, evaluate, refuse.

The first run is a process of its own, as a user starts it. The others are forked from
one that has imported everything, which takes longer than what they do.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from medjax.runtime import checkpoint

REPO = pathlib.Path(__file__).resolve().parents[1]
CONFIG, STEPS = "configs/medloc.py:smoke", 8
SMALL = ("--config.checkpoint.every=3", f"--config.train.grpo.steps={STEPS}")
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

FORKS = """
import json, os, resource, runpy, sys
import matplotlib.pyplot, optax.contrib, transformers
import medjax.recipes.medloc, medjax.report.page, medjax.report.curves
from transformers import AutoTokenizer, Qwen2Tokenizer
from tokenizers.trainers import BpeTrainer
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(job[name], os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
        os.environ.update(job["env"])
        if job["largest_file"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
        sys.argv = ["run.py", *job["arguments"]]
        runpy.run_path("run.py", run_name="__main__")
        sys.exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def environment(**more):
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return env | {"XLA_FLAGS": FLAGS, "PYTHONPATH": str(REPO)} | more


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return f"--compilation_cache={tmp_path_factory.mktemp('programs')}"


@pytest.fixture(scope="module")
def forks():
    command = [sys.executable, "-c", FORKS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # GLIBC_TUNABLES is set already: run.py must not start itself anew
    env = environment(MEDJAX="started")
    with subprocess.Popen(command, cwd=REPO, env=env, text=True, **pipes) as process:
        yield process
        process.stdin.close()


class Finished:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(forks, cache, tmp_path):
    """Run a command; `until` is called while it runs and kills it by returning True."""

    def start(*arguments, config=CONFIG, until=None, largest_file=0, **env):
        files = {
            name: tmp_path / f"{time.monotonic_ns()}.{name}" for name in ("out", "err")
        }
        job = {name: str(path) for name, path in files.items()}
        job |= {"env": env, "largest_file": largest_file}
        job["arguments"] = [f"--config={config}", cache, *map(str, arguments)]
        forks.stdin.write(json.dumps(job) + "\n")
        forks.stdin.flush()
        pid = int(forks.stdout.readline())
        while until is not None and pathlib.Path(f"/proc/{pid}").exists():
            if until():
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        code = int(forks.stdout.readline())
        return Finished(code, *(path.read_text() for path in files.values()))

    return start


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A finished run's folder and what it said, from a process of its own."""
    workdir = tmp_path_factory.mktemp("trained")
    done = subprocess.run(
        [
            sys.executable,
            "run.py",
            f"--config={CONFIG}",
            cache,
            *SMALL,
            f"--workdir={workdir}",
        ],
        cwd=REPO,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return workdir, done


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def final(workdir):
    """Every array of grpo's last checkpoint, by name."""
    with checkpoint.open_checkpoints(workdir / "grpo/checkpoints", keep=2) as manager:
        restore = ocp.args.Composite(state=ocp.args.PyTreeRestore())
        return manager.restore(STEPS, args=restore)["state"]


def assert_one_message(done, *pieces):
    """Exit code 1 and one clear message, no traceback."""
    assert done.code not in (0, -signal.SIGKILL), done.out
    assert "Traceback" not in done.err, done.err
    message = done.err[max(done.err.rfind("Error: "), 0) :]
    for piece in pieces:
        assert piece in done.err, (piece, done.err)
    return message


def test_training_writes_everything(trained):
    workdir, done = trained
    for stage, steps in (("warm_start", 4), ("grpo", STEPS)):
        folder = workdir / stage
        assert [r["step"] for r in rows(folder / "metrics.jsonl")] == [
            *range(1, steps + 1)
        ]
        (evaluated,) = rows(folder / "eval.jsonl")
        assert evaluated["step"] == steps and evaluated["n"] == 16
        assert "mIoU" in evaluated
        answers = rows(folder / "eval" / str(steps) / "answers.jsonl")
        assert len(answers) == 16
        page = (folder / "report.html").read_text()
        assert "no image: mean box" in page and "data:image/png" in page
        assert list((folder / "figures").glob("*.png"))
        (manifest,) = json.loads((folder / "manifest.json").read_text())
        assert manifest["config"]["system"] == "medloc"
        assert manifest["stage"] == stage and manifest["versions"]["jax"]
    assert (workdir / "grpo/figures/threshold.png").exists()
    assert {"tau", "hit_rate", "groups_effective"} <= set(
        rows(workdir / "grpo/metrics.jsonl")[0]
    )
    # the second stage is shown beside the first and what sees no image
    table = (workdir / f"grpo/eval/{STEPS}/tables.txt").read_text()
    for name in ("grpo", "warm_start", "no image: mean box"):
        assert f"\n{name} " in table
    assert "grpo" in done.stdout
    assert f"grpo {STEPS}/{STEPS} | tau" in done.stderr and "ETA" in done.stderr


def test_the_same_command_again_does_nothing_twice(trained, run):
    workdir, _ = trained
    kept = ("metrics.jsonl", "eval.jsonl")
    files = [workdir / s / name for s in ("warm_start", "grpo") for name in kept]
    files.append(workdir / "warm_start/manifest.json")
    files += sorted((workdir / "grpo/checkpoints").rglob("*"))
    before = {file: file.stat().st_mtime_ns for file in files if file.is_file()}
    texts = [file.read_text() for file in files[:4]]
    done = run(*SMALL, f"--workdir={workdir}")
    assert done.code == 0, done.err
    assert "compiling" not in done.err
    assert [file.read_text() for file in files[:4]] == texts
    again = {file: file.stat().st_mtime_ns for file in before}
    changed = {file.name for file in before if again[file] != before[file]}
    assert changed <= set(kept)  # rewritten with the same rows
    assert len(json.loads((workdir / "grpo/manifest.json").read_text())) == 2


@pytest.mark.filterwarnings("ignore:Sharding info not provided")  # orbax: one host
def test_killed_and_resumed_equals_the_unbroken_run(trained, run, tmp_path):
    whole, parts = trained[0], tmp_path / "parts"
    shutil.copytree(whole / "warm_start", parts / "warm_start")
    metrics = parts / "grpo/metrics.jsonl"

    def fifth_step():
        return metrics.exists() and metrics.read_text().count("\n") >= 5

    killed = run(*SMALL, f"--workdir={parts}", until=fifth_step)
    assert killed.code == -signal.SIGKILL, killed.err
    assert not (parts / "grpo/eval.jsonl").read_text()
    resumed = run(*SMALL, f"--workdir={parts}")
    assert resumed.code == 0, resumed.err
    assert "resumed from step" in resumed.err
    left, right = final(whole), final(parts)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    for name in ("metrics.jsonl", "eval.jsonl", f"eval/{STEPS}/answers.jsonl"):
        assert rows(parts / "grpo" / name) == rows(whole / "grpo" / name)
