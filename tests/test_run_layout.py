"""`run.py` on eight forced devices, whose mesh is chosen and cannot divide all."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.golden.trees import fast_compilation

REPO = pathlib.Path(__file__).resolve().parents[1]
# 2 key-value heads, 2 heads of the tower and 30 of its hidden units on 4 devices
CONFIG = "--config=configs/medloc.py:smoke,method=sft,mesh=auto"
POLICY = ("--config.policy.vision.mlp=30", "--config.warm_start.steps=0")


def run(workdir, *arguments, devices):
    forced = f"--xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": f"{fast_compilation()} {forced}"}
    env |= {"PYTHONPATH": str(REPO), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    command = [sys.executable, "run.py", CONFIG, *POLICY, f"--workdir={workdir}"]
    done = subprocess.run(
        [*command, *arguments], cwd=REPO, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = (workdir / "sft/metrics.jsonl").read_text().splitlines()
    return done.stdout, [json.loads(row) for row in rows]


@pytest.mark.slow
def test_a_tower_that_the_mesh_does_not_divide_trains_as_on_one_device(tmp_path):
    said, found = run(tmp_path / "8", "--config.mesh.model=4", devices=8)
    assert "mesh chosen: data 2, fsdp 1, model 4; about" in said
    for words in ("2 key-value heads", "30 hidden units of the vision tower"):
        assert f"{words} are not divisible by the 4 devices of model" in said
    _, expected = run(tmp_path / "1", devices=1)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        # sums of float32 in another order, four steps of Muon in a row
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
