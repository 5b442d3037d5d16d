"""The trail on disk: files that turn, lines that a resume does not double."""

import json

import jax
import jax.numpy as jnp
import pytest

from medjax.runtime.audit import Audit, audit_files, audit_writer
from tests.runtime import toy_system as toy
from tests.runtime.test_loop import rows, run


def lines(trace, metrics):
    return [{"row": n, "value": float(x), **metrics} for n, x in enumerate(trace)]


def write(folder, steps, *, restored=0, size=10**6, rows=3):
    audit = Audit({"maker": "test"}, lines, size)
    with audit_writer(folder, audit, restored_step=restored) as put:
        for step in steps:
            put(step, [step + n / 10 for n in range(rows)], {"tau": 0.5})


def read(folder):
    """Header and lines of each file."""
    found = []
    for process, number, path in audit_files(folder / "audit"):
        header, *rest = map(json.loads, path.read_text().splitlines())
        assert header == {"audit": 1, "maker": "test", "process": [process, 1]}
        found.append((number, [(line["step"], line["row"]) for line in rest]))
    return found


def whole(*steps):
    return [(step, n) for step in steps for n in range(3)]


def test_a_file_that_is_large_enough_is_followed_by_another_between_steps(tmp_path):
    write(tmp_path, range(1, 5), size=1)
    assert read(tmp_path) == [(n, whole(n + 1)) for n in range(4)]
    write(tmp_path, range(5, 7), restored=4)
    assert read(tmp_path)[4:] == [(4, whole(5, 6))]


@pytest.mark.parametrize("size", [1, 10**6])
@pytest.mark.parametrize("restored", [0, 1, 3, 5])
def test_a_resume_repeats_no_line(tmp_path, size, restored):
    write(tmp_path, range(1, 6), size=size)
    write(tmp_path, range(restored + 1, 7), restored=restored, size=size)
    assert sum((part for _, part in read(tmp_path)), []) == whole(*range(1, 7))


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    write(tmp_path, (1, 2))
    ((_, _, path),) = audit_files(tmp_path / "audit")
    path.write_bytes(path.read_bytes()[:-9])
    write(tmp_path, (3,), restored=2)
    assert read(tmp_path) == [(0, whole(1, 2)[:-1]), (1, whole(3))]


def test_each_process_has_files_of_its_own_and_all_are_cut(tmp_path, monkeypatch):
    for index in range(3):
        monkeypatch.setattr(jax, "process_count", lambda: 3)
        monkeypatch.setattr(jax, "process_index", lambda n=index: n)
        write(tmp_path, range(1, 4))
    names = [path.name for _, _, path in audit_files(tmp_path / "audit")]
    assert names == [f"process-00{n}-00000.jsonl" for n in range(3)]
    # one process goes on from step 1: it cuts what all three had written after it
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    write(tmp_path, (2,), restored=1)
    steps = [
        json.loads(line)["step"]
        for _, _, path in audit_files(tmp_path / "audit")
        for line in path.read_text().splitlines()[1:]
    ]
    assert sorted(steps) == [1] * 9 + [2] * 3


def test_no_audit_leaves_a_folder_as_it_is(tmp_path):
    with audit_writer(tmp_path, None, restored_step=0) as put:
        put(1, None, {})
    assert not list(tmp_path.iterdir())


def test_the_loop_takes_the_trace_off_and_writes_it_at_its_step(tmp_path):
    system = toy.build()

    def update(state, batch, key):
        new, metrics = system.update(state, batch, key)
        return new, metrics | {"trace": batch["y"] * jnp.float32(2)}

    def told(trace, metrics):
        return [{"y": trace.tolist(), "loss": float(metrics["loss"])}]

    audit = Audit({}, told)
    traced = system._replace(update=update)
    run(tmp_path, system=traced, audit=audit, steps=3, checkpoint_every=2)
    run(tmp_path, system=traced, audit=audit, steps=5, checkpoint_every=2)
    metrics = rows(tmp_path)
    assert "trace" not in metrics[0]
    found = [
        json.loads(line)
        for _, _, path in audit_files(tmp_path / "audit")
        for line in path.read_text().splitlines()[1:]
    ]
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in found] == [row["loss"] for row in metrics]
    batches = iter(toy.source())
    for row in found:
        assert row["y"] == (next(batches)["y"] * 2).tolist()
