"""Results stay those of an earlier commit: what is exact on any CPU, and short runs.

`make test` compares with `golden/runs.json` what does not depend on how floats are
rounded: hashes of integers and logical values, and of everything else names, shapes
and dtypes. The slow suite makes the runs themselves, with both commits.
"""

import importlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.golden import compare, probe

REPO = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = REPO / "tests/golden/runs.py"
BASE = "48e6ee2"
RECORD = json.loads((REPO / "tests/golden/runs.json").read_text())


@pytest.mark.parametrize("system", RECORD)
def test_runs_begin_as_recorded(system, tmp_path):
    config = importlib.import_module(f"configs.{system}").get_config("smoke")
    # What the base does not have, see `runs.old_puq` and `runs.SEEN`.
    if system == "puq":
        config.fit.categorical.bins = config.fit.calibration.slices = 0
    else:
        config.evaluation.no_image = False
        if system == "vrft_aug":
            config.localisation.evaluation.no_image = False
    # as users run it; optax's Muon promotes dtypes
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        facts = probe.describe(probe.stages_of(config, tmp_path), exact=True)
    paths = [tmp_path / f"{name}.json" for name in ("base", "head")]
    for path, value in zip(paths, (RECORD[system], facts), strict=True):
        path.write_text(json.dumps(value))
    assert compare.first_difference(*paths) is None, (
        "if this is meant to change: tests/golden/runs.py --record --base=COMMIT"
    )


def test_numbers_that_are_counted_otherwise_are_left_out(tmp_path):
    base = write_run(tmp_path / "base", hit_rate=1.0)
    head = write_run(tmp_path / "head", hit_rate=0.25)
    assert "hit_rate: 1.0 in base" in compare.first_difference(base, head)
    assert compare.first_difference(base, head, counted=compare.RIGHT) is None
    other = write_run(tmp_path / "other", hit_rate=0.25, loss=0.6)
    assert "loss" in compare.first_difference(base, other, counted=compare.RIGHT)
    nested = "grpo.metrics.groups_all_right", "grpo.hit_rate", "step 1, hit_rate"
    assert all(re.fullmatch(compare.RIGHT, name) for name in nested)
    assert not re.fullmatch(compare.RIGHT, "step 1, window_hit_rate")


def git(*arguments):
    command = ["git", "-C", str(REPO), *arguments]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_short_runs_give_the_numbers_of_the_base_commit():
    """To rounding: times, bases and fits are other programs than they were there."""
    if shutil.which("git") is None:
        pytest.skip("no git: it checks the base commit out")
    if not git("cat-file", "-e", f"{BASE}^{{commit}}"):
        pytest.skip(f"no commit {BASE} here, as in a shallow clone: git fetch it")
    # without the suite's eight devices
    env = {name: x for name, x in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), f"--base={BASE}", "--tolerance-step1=1e-4"],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def write_run(folder, *, step=1, loss=0.5, voxel=1.0, **more):
    """A workdir with one of what is compared; the newest file is the last written."""
    folder.mkdir()
    row = {"step": step, "loss": loss, **more}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "manifest.json").write_text(f'["{folder}"]')
    (folder / "tables.txt").write_text(f"loss {loss:.2f}\n")
    np.savez(folder / "maps.npz", t2=np.array([voxel, np.nan], np.float32))
    return folder


@pytest.mark.parametrize(
    ("changes", "pieces"),
    [
        ({}, None),
        (
            {"loss": np.nextafter(0.5, 1)},
            ["metrics.jsonl, step 1, loss", "0.5 in base"],
        ),
        ({"loss": -0.0}, ["loss", "-0.0 in HEAD"]),
        ({"step": 2}, ["metrics.jsonl", "step 1, loss", "only in base"]),
        ({"kl": 0.0}, ["step 1, kl only in HEAD"]),
        (
            {"voxel": np.nextafter(np.float32(1), np.float32(2))},
            ["maps.npz, t2", "[0]"],
        ),
    ],
)
def test_the_first_difference_is_named(tmp_path, changes, pieces):
    base = write_run(tmp_path / "base")
    difference = compare.first_difference(base, write_run(tmp_path / "head", **changes))
    if pieces is None:
        assert difference is None
        return
    for piece in pieces:
        assert piece in difference


def test_a_tolerance_is_of_numbers_alone(tmp_path):
    base = write_run(tmp_path / "base", loss=0.5, name="a")
    near = write_run(tmp_path / "near", loss=0.5 + 1e-6, voxel=1 + 1e-6, name="a")
    assert compare.first_difference(base, near)
    assert compare.first_difference(base, near, tolerance=1e-5) is None
    assert compare.first_difference(base, near, tolerance=1e-7)
    far = write_run(tmp_path / "far", voxel=1.1, name="a")
    assert "1 of 2 values" in compare.first_difference(base, far, tolerance=1e-5)
    lost = write_run(tmp_path / "lost", voxel=np.nan, name="a")
    assert "nan in HEAD" in compare.first_difference(base, lost, tolerance=1e-5)
    other = write_run(tmp_path / "other", loss=0.5, name="b")
    assert "name" in compare.first_difference(base, other, tolerance=1e-5)


def test_a_file_that_one_of_them_lacks_is_named(tmp_path):
    base, head = write_run(tmp_path / "base"), write_run(tmp_path / "head")
    (head / "answers.jsonl").write_text("")
    assert "answers.jsonl only in HEAD" in compare.first_difference(base, head)


def test_files_and_rows_that_are_new_on_purpose_are_passed(tmp_path):
    base, head = write_run(tmp_path / "base"), write_run(tmp_path / "head")
    rows = [{"method": name, "nrmse": 0.5} for name in ("unrolled", "PUQ")]
    new = {"method": "unrolled, posterior", "nrmse": 0.4}

    def write(folder, rows):
        text = "\n".join(json.dumps(row) for row in rows)
        (folder / "slices.jsonl").write_text(text + "\n")

    write(base, rows * 2)
    write(head, [rows[0], new, rows[1]] * 2)
    assert compare.first_difference(base, head) is None
    write(head, [rows[0], new | {"method": "another"}, rows[1]] * 2)
    assert "row 1, another" in compare.first_difference(base, head)
    write(head, [rows[0], new, rows[1] | {"nrmse": 0.6}] * 2)
    assert "row 1, PUQ, nrmse: 0.5 in base" in compare.first_difference(base, head)
    write(head, rows * 2)
    (head / "fit").mkdir()
    (head / "fit/trust_a.png").write_text("")
    assert compare.first_difference(base, head, more=("fit/trust_*.png",)) is None
    assert compare.first_difference(base, head, more=("trust_*.png",))


def test_names_and_marks_of_an_older_base_are_read_as_todays(tmp_path):
    base = write_run(tmp_path / "base", clip_low=0.5)
    head = write_run(tmp_path / "head", clipped_low=0.5)
    assert compare.first_difference(base, head) is None
    assert compare.first_difference(head, base)  # only the base may be old
    log = {"a.log.step": np.array([3, -1]), "a.log.margin": np.array([0.1, np.nan])}
    now = compare.as_now(log)
    np.testing.assert_array_equal(now["a.log.margin"], [0.1, 0])
    spoilt = compare.as_now(log | {"a.log.margin": np.array([np.nan, np.nan])})
    np.testing.assert_array_equal(spoilt["a.log.margin"], [np.nan, 0])
