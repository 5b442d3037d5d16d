"""Seconds and memory of `--mode=predict` on a series of images, from process start.

    python benchmarks/predict_series.py                    this tree alone
    python benchmarks/predict_series.py --base=48e6ee2     and that commit, in turn

256 x 256 x 128 voxels of 8 echoes 15..120 ms as int16 in a gzip file (blocks of T2
50..150 ms in a ball, amplitude 1000, noise sd 10, seed 0). One run of each tree in turn
after one that compiles: A B A B .... Medians, with the least and the largest; memory is
the peak of the process.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import nibabel
import numpy as np
from grpo_step import machine

REPO = pathlib.Path(__file__).resolve().parents[1]
SIDE, SLICES, NOISE = 256, 128, 10
TE = 0.015 * np.arange(1, 9)


def write_series(folder):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    images = np.zeros((SIDE, SIDE, SLICES, len(TE)), np.int16)
    for z in range(SLICES):
        radius = 110 * np.sqrt(max(0.05, 1 - ((z - 64) / 70) ** 2))
        ball = np.hypot(columns - 128, rows - 128) < radius
        t2 = 0.05 + 0.1 * ((columns // 32 + rows // 32 + z // 16) % 4) / 3
        clean = 1000 * ball[..., None] * np.exp(-TE / t2[..., None])
        images[:, :, z] = np.abs(clean + rng.normal(0, NOISE, clean.shape)).round()
    nibabel.save(nibabel.Nifti1Image(images, np.eye(4)), folder / "series.nii.gz")
    fields = {"EchoTime": TE.tolist(), "RepetitionTime": 3.0}
    (folder / "series.json").write_text(json.dumps(fields))
    return folder / "series.nii.gz"


def predict(tree, series, folder):
    """Wall and CPU seconds and peak MB of one run, measured in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        command = [sys.executable, "run.py", "--config=configs/puq.py"]
        command += ["--mode=predict", f"--input={series}", f"--workdir={workdir}"]
        command += [f"--compilation_cache={folder / 'cache'}"]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        start = time.perf_counter()
        done = subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(done.pid, 0)
        wall = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 3):  # with warnings
        raise SystemExit(f"{tree}: exit code {code}")
    unit = 1 if sys.platform == "darwin" else 1024
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6


@contextlib.contextmanager
def trees(base):
    if not base:
        yield {"HEAD": REPO}
        return
    git = ["git", "-C", str(REPO), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / base
        subprocess.run([*git, "add", "-q", "--detach", str(tree), base], check=True)
        try:
            yield {base: tree, "HEAD": REPO}
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="", help="a commit to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, trees(given.base) as found:
        folder = pathlib.Path(folder)
        series, runs = write_series(folder), {name: [] for name in found}
        for turn in range(given.rounds + 1):
            for name, tree in found.items():
                own = folder / name
                own.mkdir(exist_ok=True)
                run = predict(tree, series, own)
                runs[name] += [run] if turn else []  # the first one compiles
    print(machine())
    for name, rows in runs.items():
        for unit, values in zip(("s", "s CPU", "MB"), np.transpose(rows), strict=True):
            spread = f"{min(values):.1f} to {max(values):.1f}"
            print(f"{name:10} {statistics.median(values):8.1f} {unit} ({spread})")


if __name__ == "__main__":
    main()
