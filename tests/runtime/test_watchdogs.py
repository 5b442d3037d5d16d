"""Watchdogs: what is told of a run's metrics, when, and again after a resume."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.runtime.loop import train
from medjax.runtime.watch import Watch
from medjax.runtime.watchdogs import (
    Limits,
    Watchdogs,
    Watched,
    check_limits,
    observe,
    observe_all,
    read_rows,
    summary,
    summary_lines,
)
from medjax.sharding import make_mesh
from tests.runtime import toy_system as toy

WEIGHTS = {"accuracy": 1.0, "format": 0.5, "mine": 0.0}
DOGS = Watchdogs(Limits(entropy=0.1, no_signal=0.5, share=0.8, window=4), WEIGHTS)
CALM = {
    "entropy": 1.0,
    "groups": 8.0,
    "groups_effective": 8.0,
    "reward_accuracy_std": 1.0,
    "reward_format_std": 2.0,
    "reward_mine_std": 100.0,  # weighs nothing
    "reward_accuracy_tied": 0.5,
    "reward_format_tied": 0.5,
}


def rows_of(**columns):
    """Rows of steps 1, 2, ... with these columns, calm in the others."""
    length = len(next(iter(columns.values())))
    return [
        CALM | {name: x[n] for name, x in columns.items()} | {"step": n + 1}
        for n in range(length)
    ]


def told(rows, dogs=DOGS):
    seen, lines = Watched(), []
    for row in rows:
        seen, more = observe(dogs, seen, row["step"], row)
        lines += more
    return seen, lines


def test_windows_are_those_of_a_reshaped_array():
    """Alarms are runs of windows whose mean is out; written with NumPy alone."""
    rng = np.random.default_rng(0)
    entropy = rng.uniform(0, 0.2, 400)
    seen, lines = told(rows_of(entropy=entropy))
    means = entropy.reshape(-1, 4).mean(axis=1)
    out = np.concatenate([[False], means < 0.1, [False]])
    starts = np.flatnonzero(out[1:] & ~out[:-1])
    ends = np.flatnonzero(out[:-1] & ~out[1:])  # the first window that is in again
    assert len(starts) > 10
    alarms = [(x.what, x.since, x.until) for x in seen.alarms]
    assert alarms == [
        ("entropy", 4 * a + 1, 4 * b) for a, b in zip(starts, ends, strict=True)
    ]
    for alarm, a, b in zip(seen.alarms, starts, ends, strict=True):
        assert alarm.worst == pytest.approx(means[a:b].min())
        assert alarm.over == (b < 100)
    # a line where each begins, and one where it ends
    assert len(lines) == len(starts) + sum(x.over for x in seen.alarms)


def test_it_is_told_once_while_it_happens_and_once_at_its_end():
    entropy = [1.0] * 4 + [0.02] * 4 + [0.01] * 8 + [0.5] * 8
    seen, lines = told(rows_of(entropy=entropy))
    begins, ends = lines
    assert begins.startswith("watchdog: entropy 0.02 nat a token over steps 5 to 8, ")
    assert "below 0.1" in begins and "sampling.temperature" in begins
    assert "entropy 0.5 nat a token over steps 17 to 20, no longer below 0.1" in ends
    assert "from step 5 to 16" in ends
    (line,) = summary_lines(DOGS, seen)
    assert line.endswith("was below 0.1 from step 5 to 16 (at worst 0.01)")
    (row,) = summary(DOGS, told(rows_of(entropy=entropy[:16]))[0])
    assert row[2:] == ("5", "16, to the end", "0.01")


def test_groups_without_a_signal_are_a_share_of_those_that_count():
    """Of a window with 8, 8, 2, 2 groups 4 of 20 teach: 0.8, not the mean 0.5."""
    columns = {"groups": [8.0, 8.0, 2.0, 2.0], "groups_effective": [0, 0, 2, 2]}
    seen, (line,) = told(rows_of(**columns))
    assert seen.alarms[0].what == "no_signal"
    assert seen.alarms[0].worst == pytest.approx(0.8)
    assert (
        "a share of 0.8 of the groups without a signal" in line and "above 0.5" in line
    )
    assert not told(rows_of(groups=[0.0] * 4, groups_effective=[0.0] * 4))[0].alarms


def test_a_reward_for_right_answers_may_have_all_of_the_variance():
    rows = rows_of(reward_format_std=[0.0] * 8)
    assert any("'accuracy'" in line for line in told(rows)[1])
    seen, lines = told(rows, DOGS._replace(right=("accuracy",)))
    assert not seen.alarms and not lines
    rows = rows_of(reward_accuracy_std=[0.0] * 8)
    assert "'format'" in told(rows, DOGS._replace(right=("accuracy",)))[1][0]


def test_a_share_of_the_variance_is_by_weight_and_of_weighed_rewards():
    # (1 * 1)^2 to (0.5 * 2)^2: halves; then 9 to 1
    seen, lines = told(rows_of(reward_accuracy_std=[1.0] * 4 + [3.0] * 4))
    (alarm,) = seen.alarms
    assert alarm.what == "share accuracy" and alarm.since == 5
    assert alarm.worst == pytest.approx(0.9)
    assert "'accuracy'" in lines[0] and "above 0.8" in lines[0]
    # normalised one by one: 1 to 0.25 where both always differ, 9 to 1 where the
    # second does in 4 of 9 groups
    dogs = DOGS._replace(by_parts=True)
    rows = rows_of(reward_format_tied=[0.0] * 8, reward_accuracy_tied=[0.0] * 8)
    assert not told(rows, dogs)[0].alarms
    rows = rows_of(reward_format_tied=[5 / 9] * 4, reward_accuracy_tied=[0.0] * 4)
    (alarm,) = told(rows, dogs)[0].alarms
    assert alarm.worst == pytest.approx(0.9)
    # one reward alone is all of the variance, always; and none has any
    alone = DOGS._replace(weights={"accuracy": 1.0, "format": 0.0})
    assert not told(rows_of(reward_accuracy_std=[3.0] * 4), alone)[0].alarms
    quiet = rows_of(reward_accuracy_std=[0.0] * 4, reward_format_std=[0.0] * 4)
    assert not told(quiet)[0].alarms


def test_what_is_not_asked_or_not_there_is_not_watched():
    off = DOGS._replace(limits=Limits(None, None, None, 1))
    bad = rows_of(entropy=[0.0], groups_effective=[0.0], reward_format_std=[0.0])
    assert len(told(bad, DOGS._replace(limits=DOGS.limits._replace(window=1)))[1]) == 3
    assert told(bad, off) == (Watched(), [])
    assert told([{"step": 1}], off) == (Watched(), [])
    # a step that was not finite is no step of a window
    rows = rows_of(entropy=[0.0] * 3 + [np.nan, 0.0])
    rows[3]["nonfinite"] = 1
    seen, _ = told(rows)
    assert seen.alarms[0].since == 1 and seen.alarms[0].until == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entropy": -0.1}, r"here\.entropy=-0.1: expected 0 or more, or None"),
        ({"entropy": float("nan")}, r"here\.entropy=nan"),
        ({"no_signal": 1.5}, r"here\.no_signal=1.5: expected 0 to 1, or None"),
        ({"share": -1.0}, r"here\.share=-1.0"),
        ({"window": 0}, r"here\.window=0: expected a number of steps, 1 or more"),
    ],
)
def test_limits_that_cannot_be_asked_for_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        check_limits(Limits()._replace(**change), "here")
    assert check_limits(Limits(), "here") == Limits()


def run(workdir, capsys, steps=24):
    """The toy system whose entropy is low in the steps 5 to 16."""
    inner = toy.build()

    def update(state, batch, key):
        new, metrics = inner.update(state, batch, key)
        low = (new.step > 4) & (new.step <= 16)
        return new, metrics | {"entropy": jnp.where(low, 0.01, 1.0)}

    capsys.readouterr()
    train(
        inner._replace(update=update),
        toy.source(),
        mesh=make_mesh(toy.ONE, jax.devices()[:1]),
        rules=toy.RULES,
        seed=0,
        workdir=workdir,
        keep=2,
        identity={},
        steps=steps,
        checkpoint_every=100,
        watch=Watch(0, str, lambda row: "", dogs=DOGS),
    )
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if "watchdog" in line]


def test_the_loop_tells_it_and_a_resumed_one_tells_no_more(tmp_path, capsys):
    begins, ends, summed = run(tmp_path / "whole", capsys)
    assert "over steps 5 to 8" in begins and "from step 5 to 16" in ends
    assert summed.endswith("from step 5 to 16 (at worst 0.01)")
    first = run(tmp_path / "parts", capsys, steps=6)  # inside of a window
    second = run(tmp_path / "parts", capsys, steps=10)
    third = run(tmp_path / "parts", capsys)
    assert first == []
    assert second[0] == begins and "to 8, to the end" in second[1]
    assert third == [ends, summed]
    rows = read_rows(tmp_path / "parts/metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 25))
    assert len(observe_all(DOGS, rows).alarms) == 1


def test_a_row_that_a_kill_cut_short_is_left_out(tmp_path):
    assert read_rows(tmp_path / "none.jsonl") == []
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + '\n{"step": 2, "entr')
    assert read_rows(path) == [{"step": 1}]
