"""`--mode=plan` from the command line: a small step planned, mistakes refused."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.golden.trees import fast_compilation

REPO = pathlib.Path(__file__).resolve().parents[1]
LAST = {"vrft_aug": ("--config.localisation.use=False",)}  # of several stages
TPU = importlib.util.find_spec("libtpu") is not None


def run(*arguments, config="configs/medloc.py:smoke,method=sft"):
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    # with GLIBC_TUNABLES set run.py does not start itself anew
    env |= {"PYTHONPATH": str(REPO), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    env |= {"XLA_FLAGS": fast_compilation()}
    command = [sys.executable, "run.py", f"--config={config}", *arguments]
    return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode=plan"], "--mode=plan: expected --topology"),
        (
            ["--mode=train", "--topology=gpu:8"],
            "--topology=gpu:8: expected --mode=plan",
        ),
        (["--mode=plan", "--topology=v9:4x4"], "--topology=v9:4x4: expected a chip"),
        (
            ["--mode=plan", "--topology=gpu:8", "--config.mesh.model=3"],
            "does not fit 8 devices",
        ),
    ],
)
def test_mistakes_end_with_one_line_before_anything_is_opened(
    arguments, message, tmp_path
):
    done = run(*arguments, f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert message in line
    assert not (tmp_path / "w").exists()


@pytest.mark.skipif(TPU, reason="libtpu is installed here")
def test_without_the_compiler_of_tpus_the_extra_is_named():
    done = run("--mode=plan", "--topology=v5e:4x4")
    assert done.returncode == 1
    assert 'pip install -e ".[plan]"' in done.stderr


def test_systems_without_a_plan_say_which_modes_they_have():
    done = run("--mode=plan", "--topology=gpu:8", config="configs/puq.py:smoke")
    assert done.returncode == 1
    assert "--mode=plan: puq has the modes" in done.stderr


@pytest.mark.parametrize(
    "config", ["medloc", pytest.param("vrft_aug", marks=pytest.mark.slow)]
)
def test_a_small_step_is_planned(config, tmp_path):
    done = run(
        *("--mode=plan", "--topology=gpu:2", "--price=3", f"--workdir={tmp_path}"),
        *("--config.warm_start.steps=0",) + LAST.get(config, ()),
        config=f"configs/{config}.py:smoke,method=sft",
    )
    assert done.returncode == 0, done.stderr
    assert "sft on gpu:2: 2 h100 chips" in done.stdout
    (row,) = json.loads((tmp_path / "plan.json").read_text())["stages"]
    assert row["fits"]
    assert row["phases"]["learner"]["flops"] > 0
    # each device holds all parameters and half of the batch: gradients are summed
    assert "all-reduce" in row["phases"]["learner"]["wire_bytes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json"]
