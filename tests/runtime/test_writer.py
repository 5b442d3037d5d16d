import json

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.runtime.writer import (
    last_row,
    metrics_writer,
    write_atomic,
    write_manifest,
)


def write_steps(folder, steps, *, restored_step):
    with metrics_writer(folder, name="m", restored_step=restored_step) as write:
        for step in steps:
            write(
                step,
                {
                    "A@0.5": 0.1,
                    "loss": np.float32(step),
                    "tau": jnp.float32(0.5),
                    "n": 3,
                },
            )


def steps_in(folder):
    lines = (folder / "m.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_rows_are_cut_back_to_the_restored_step(tmp_path):
    write_steps(tmp_path, range(1, 6), restored_step=0)
    with (tmp_path / "m.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # what a kill leaves
    write_steps(tmp_path, [4, 5], restored_step=3)
    assert steps_in(tmp_path) == [1, 2, 3, 4, 5]
    assert last_row(tmp_path / "m.jsonl") == {
        "step": 5,
        "A@0.5": 0.1,
        "loss": 5.0,
        "tau": 0.5,
        "n": 3,
    }
    write_steps(tmp_path, [1], restored_step=0)
    assert steps_in(tmp_path) == [1]


def test_a_row_is_on_disk_at_once_and_arrays_become_lists(tmp_path):
    with metrics_writer(tmp_path, name="m", restored_step=0) as write:
        write(1, {"a": np.array([1, 2]), "b": jnp.array(True), "c": "text", "d": None})
        row = last_row(tmp_path / "m.jsonl")
    assert row == {"step": 1, "a": [1, 2], "b": True, "c": "text", "d": None}


def test_scalars_reach_tensorboard(tmp_path):
    write_steps(tmp_path, [1, 2], restored_step=0)
    (events,) = (tmp_path / "tensorboard" / "m").iterdir()
    data = events.read_bytes()
    assert b"loss" in data and b"tau" in data and b"A_0.5" in data


def test_no_rows(tmp_path):
    assert last_row(tmp_path / "m.jsonl") is None


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    import pathlib

    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_manifest_has_one_record_per_start(tmp_path):
    write_manifest(tmp_path / "run", config={"seed": 1})
    write_manifest(tmp_path / "run", config={"seed": 1})
    first, second = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert first["config"] == {"seed": 1}
    assert first["versions"]["jax"] and first["devices"]["count"] == 8
    assert {"command", "git", "time", "python"} <= second.keys()
