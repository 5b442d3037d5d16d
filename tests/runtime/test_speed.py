"""Steps are timed where nothing comes between them, and traced where that is asked."""

import gzip
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from medjax.runtime import speed
from medjax.runtime.loop import train
from medjax.runtime.speed import profiler, read_pace, speed_writer
from medjax.sharding import make_mesh
from tests.runtime import toy_system as toy

H100 = SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3")


def rows(folder):
    text = (folder / "speed.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def product():
    shape = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
    return jax.jit(lambda x: x @ x).trace(shape).jaxpr


def test_rates_are_those_of_the_chips_peak(tmp_path, clock):
    with speed_writer(tmp_path, [H100] * 4, restored_step=0) as told:
        told.traced(product())
        assert told.finished(1, {"tokens": 80}) == {}
        clock.seconds += 0.5
        row = told.finished(2, {"tokens": 80})
    assert rows(tmp_path) == [{"step": 2, **row}]
    assert row["seconds"] == 0.5
    assert row["tokens_per_second_chip"] == 80 / 0.5 / 4
    # 2e9 FLOPs in half a second on four chips of 989e12
    assert row["mfu"] == pytest.approx(2e9 / 0.5 / 4 / 989e12)


def test_what_comes_between_steps_is_not_timed(tmp_path, clock):
    with speed_writer(tmp_path, [H100], restored_step=0) as told:
        for step in range(1, 7):
            told.finished(step, {})
            clock.seconds += 1.0
            if step == 2:
                told.interrupted()
            if step == 4:
                told.traced(product())
    assert [row["step"] for row in rows(tmp_path)] == [2, 4, 6]
    assert read_pace(tmp_path) == (3, 1.0, None, pytest.approx(2e9 / 989e12))


def test_a_cpu_has_no_peak(tmp_path, clock):
    with speed_writer(tmp_path, jax.devices(), restored_step=0) as told:
        told.traced(product())
        told.finished(1, {})
        clock.seconds += 1.0
        assert told.finished(2, {}) == {"seconds": 1.0}


def test_a_pace_is_a_median_and_a_line_cut_short_is_left_out(tmp_path):
    assert read_pace(tmp_path) is None
    path = tmp_path / "speed.jsonl"
    path.write_text("")
    assert read_pace(tmp_path) is None
    seconds = (1.0, 9.0, 2.0)
    lines = [json.dumps({"step": n, "seconds": x}) for n, x in enumerate(seconds)]
    path.write_text("\n".join(lines) + '\n{"step": 4, "sec')
    assert read_pace(tmp_path) == (3, 2.0, None, None)


def run(folder, **options):
    return train(
        toy.build(),
        toy.source(),
        mesh=make_mesh(toy.ONE, jax.devices()[:1]),
        rules=toy.RULES,
        steps=6,
        seed=0,
        workdir=folder,
        checkpoint_every=4,
        keep=1,
        identity={},
        **options,
    )


def test_a_run_has_its_speed_beside_its_metrics_and_a_trace_of_the_steps(tmp_path):
    run(tmp_path / "plain")
    run(tmp_path / "traced", profile=(2, 3))
    texts = [
        (tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "traced")
    ]
    assert texts[0] == texts[1]
    # the first compiles, and after step 4 a checkpoint is written
    assert [row["step"] for row in rows(tmp_path / "plain")] == [2, 3, 4, 6]
    assert all(row["tokens_per_second_chip"] > 0 for row in rows(tmp_path / "plain"))
    assert not (tmp_path / "plain/profile").exists()
    (trace,) = (tmp_path / "traced/profile").rglob("*.trace.json.gz")
    (xplane,) = (tmp_path / "traced/profile").rglob("*.xplane.pb")
    assert xplane.stat().st_size > 0
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = [str(event.get("name", "")) for event in events]
    assert sum("judged_update" in name for name in names) > 0


def test_a_trace_that_the_training_ends_in_is_written(tmp_path):
    run(tmp_path, profile=(6, 9))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("steps", [(0, 3), (4, 3)])
def test_steps_that_are_none_are_refused(steps, tmp_path):
    with pytest.raises(ValueError, match="expected steps A:B, 1 <= A <= B"):
        with profiler(tmp_path, steps):
            pass
