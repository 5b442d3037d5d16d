"""Ends of a training without signal, and rewards that are no numbers, in the loop."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.runtime.errors import NonFiniteReward
from medjax.runtime.loop import train
from medjax.runtime.naming import named
from medjax.runtime.stages import Stage, doubts, run_stages
from medjax.runtime.watch import (
    Counters,
    Watch,
    count_step,
    end_line,
    is_over,
    read_counters,
)
from medjax.sharding import make_mesh
from tests.runtime import toy_system as toy

ROW = {"nonfinite": 0, "groups_effective": 0.0, "hit_rate": 0.5}


def watch(patience, **changes):
    options = {
        "locate": "line {}".format,
        "advise": lambda row: f"tau {row['tau']:.0f}.",
    }
    return Watch(patience, **{**options, **changes})


def system(*, effective=(), hits=0.25, fault=None):
    """The toy system; a group has a signal in the steps `effective`, from 1."""
    inner = toy.build()

    def update(state, batch, key):
        new, metrics = inner.update(state, batch, key)
        some = jnp.isin(new.step, jnp.array(effective or [-1], jnp.int32))
        metrics |= {"groups_effective": some.astype(jnp.float32)}
        metrics |= {"hit_rate": jnp.float32(hits), "tau": jnp.float32(7)}
        if fault is not None:
            bad = jnp.where(new.step == fault, 41, -1).astype(jnp.int32)
            metrics |= {"fault_mine": bad, "fault_format": jnp.int32(-1)}
        return new, metrics

    return inner._replace(update=update)


def run(workdir, *, devices=1, evaluate=None, **options):
    mesh = (
        make_mesh(toy.MESH) if devices == 8 else make_mesh(toy.ONE, jax.devices()[:1])
    )
    options = {"steps": 12, "checkpoint_every": 5, "watch": watch(4)} | options
    return train(
        options.pop("system", None) or system(),
        toy.source(),
        mesh=mesh,
        rules=toy.RULES,
        seed=0,
        workdir=workdir,
        keep=2,
        identity={},
        evaluate=evaluate,
        **options,
    )


def rows(folder, name="metrics"):
    return list(map(json.loads, (folder / f"{name}.jsonl").read_text().splitlines()))


def assert_same(left, right):
    left, right = named(left), named(right)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


@pytest.mark.parametrize(("every", "devices"), [(1, 1), (100, 1), (4, 8)])
def test_it_ends_after_its_patience_wherever_checkpoints_lie(tmp_path, every, devices):
    scored = []
    state = run(
        tmp_path,
        system=system(effective=[1, 3]),
        checkpoint_every=every,
        devices=devices,
        evaluate=lambda state: scored.append(int(state.step)) or {"error": 0.0},
    )
    assert int(state.step) == 7 and scored == [7]
    assert [row["idle"] for row in rows(tmp_path)] == [0, 1, 0, 1, 2, 3, 4]
    assert [row["step"] for row in rows(tmp_path, "eval")] == [7]


def test_no_patience_and_other_systems_never_end(tmp_path):
    assert int(run(tmp_path / "a", watch=watch(0)).step) == 12
    assert int(run(tmp_path / "b", watch=None).step) == 12
    assert "idle" not in rows(tmp_path / "b")[0]
    assert int(run(tmp_path / "c", system=toy.build()).step) == 12
    assert int(run(tmp_path / "d", system=system(effective=range(3, 13, 3))).step) == 12


def test_a_resumed_run_ends_at_the_same_step(tmp_path):
    """Also where the count had begun, and one step before its end."""
    options = {"system": system(effective=[2])}
    whole = run(tmp_path / "whole", **options)
    for steps in (3, 5, 12):
        parts = run(tmp_path / "parts", steps=steps, **options)
    assert int(whole.step) == 6
    assert_same(whole, parts)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_an_ended_run_stays_ended_until_it_has_more_patience(tmp_path, capsys):
    run(tmp_path)
    capsys.readouterr()
    assert int(run(tmp_path).step) == 4
    assert "in the last 4 steps no group" in capsys.readouterr().err
    assert int(run(tmp_path, watch=watch(6)).step) == 6
    assert int(run(tmp_path, watch=watch(0)).step) == 12


def test_a_checkpoint_without_these_counters_resumes():
    old = {"skipped": 2, "skipped_in_a_row": 1}
    assert read_counters(old) == Counters(2, 1, 0, 0.0)


@pytest.mark.parametrize(("hits", "word"), [(0.9, "converged"), (0.89, "stopped")])
def test_what_was_learnt_decides_how_it_ended(tmp_path, capsys, hits, word):
    run(tmp_path, system=system(hits=hits))
    said = capsys.readouterr().err
    assert f"{word} after step 4" in said and f"hit rate of {hits:.2f}" in said


def test_the_last_line_of_a_stopped_run_says_what_to_try():
    counters = Counters(idle=4, idle_hits=1.0)
    line = end_line(watch(4), counters, 9, {"tau": 7.0})
    assert line.startswith("stopped after step 9: in the last 4 steps no group")
    assert "tau 7. To go on here without looking: train.grpo.patience=0" in line
    assert "hit rate of 0.25; expected 0.9" in line


def test_hit_rates_count_over_all_idle_steps():
    counters = Counters()
    for hits in (0.0, 1.0, 0.5):
        counters = count_step(counters, ROW | {"hit_rate": np.float32(hits)})
    assert counters.idle == 3 and counters.idle_hits == 1.5
    assert is_over(watch(3), counters) and not is_over(watch(4), counters)
    assert is_over(watch(4), counters, ahead=1)
    assert count_step(counters, ROW | {"groups_effective": 1.0}) == Counters()
    assert count_step(counters, ROW | {"nonfinite": 1}) == Counters(1, 1)


def test_a_high_hit_rate_waits_for_a_threshold_that_may_rise():
    """The window of a threshold is longer than this patience: it would rise later."""
    for hits, ends in ((1.0, 6), (0.5, 4)):
        counters, steps = Counters(), 0
        while not is_over(watch(4, settle=6), counters):
            counters = count_step(counters, ROW | {"hit_rate": hits})
            steps += 1
        assert steps == ends
    assert is_over(watch(4, settle=6), Counters(idle=3, idle_hits=3.0), ahead=1)


@pytest.mark.parametrize("on_nonfinite", ["stop", "skip"])
def test_a_reward_that_is_no_number_stops_and_is_named(tmp_path, on_nonfinite):
    """Also where steps that are not finite are skipped: no later one is better."""
    with pytest.raises(NonFiniteReward, match=r"step 3: reward 'mine'.*41 \(line 41\)"):
        run(
            tmp_path,
            system=system(effective=range(12), fault=3),
            on_nonfinite=on_nonfinite,
            checkpoint_every=2,
        )
    written = rows(tmp_path)
    assert [row["step"] for row in written] == [1, 2, 3]
    assert not any(name.startswith("fault") for row in written for name in row)
    with pytest.raises(NonFiniteReward, match=r"sample 41\. .*checkpoint: none"):
        run(tmp_path / "b", system=system(fault=1), watch=None)


def stages(hits, patience=4):
    return [
        Stage(
            name=name,
            system=system(hits=hits) if name == "boxes" else system(effective=range(9)),
            source=toy.source(),
            steps=6,
            identity={},
            eval_batches=lambda: [(next(iter(toy.source())), 0)],
            watch=watch(patience) if name == "boxes" else None,
        )
        for name in ("boxes", "classes")
    ]


def run_all(chain, workdir):
    where = {"seed": 0, "workdir": workdir}
    run_stages(
        chain,
        mesh=make_mesh(toy.ONE, jax.devices()[:1]),
        rules=toy.RULES,
        checkpoint_every=2,
        keep=2,
        on_nonfinite="stop",
        facts={},
        **where,
    )
    return doubts(chain, **where)


def test_a_stage_that_learnt_nothing_is_the_last_and_says_so(tmp_path):
    for _ in range(2):  # the second only finds that it has ended
        (line,) = run_all(stages(hits=0.5), tmp_path)
        assert line.startswith("boxes: stopped after step 4")
        assert not (tmp_path / "classes").exists()
        assert [row["step"] for row in rows(tmp_path / "boxes", "eval")] == [4]
    assert run_all(stages(hits=0.5, patience=0), tmp_path) == []
    assert [row["step"] for row in rows(tmp_path / "boxes", "eval")] == [4, 6]
    assert rows(tmp_path / "classes")[-1]["step"] == 6


def test_a_stage_that_has_converged_hands_on_what_it_learnt(tmp_path):
    for _ in range(2):
        assert run_all(stages(hits=1.0), tmp_path) == []
        assert [row["step"] for row in rows(tmp_path / "boxes", "eval")] == [4]
        assert [row["step"] for row in rows(tmp_path / "classes", "eval")] == [6]
