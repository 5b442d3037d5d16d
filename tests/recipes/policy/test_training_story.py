"""The words about a training follow from its rows, and say no more."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.recipes.policy.task import Story
from medjax.recipes.policy.training_story import (
    end_story,
    exploration_story,
    loss_lines,
    signal_lines,
    supervised_story,
    threshold_lines,
)
from medjax.recipes.policy.words import changed, compare, joined, number, share, times
from medjax.rl import init_threshold, piecewise_schedule, update_threshold
from medjax.runtime.watch import Watch
from medjax.runtime.watchdogs import Limits, Watchdogs

SCHEDULE = piecewise_schedule()._replace(window=4)
GROUPS = {"groups": 4, "groups_effective": 2, "groups_all_wrong": 1,
          "groups_all_right": 1, "groups_unparsable": 0, "groups_tied": 0}  # fmt: skip


def trained(ious, schedule=SCHEDULE, **more):
    """Rows of steps whose completions all have these IoUs, as a stage writes them."""
    state, rows = init_threshold(schedule), []
    for n, iou in enumerate(ious):
        state, info = update_threshold(state, jnp.full((2, 4), iou), schedule)
        info = {k: np.asarray(x).tolist() for k, x in info.items()}
        named = {f"window_{k}": x for k, x in info.items() if k != "tau"}
        rows.append({"step": n + 1, "tau": info["tau"], **named, **more})
    return rows


def tau_line(rows, schedule=SCHEDULE, reward="curriculum"):
    lines = threshold_lines(rows, reward, schedule)
    assert len(lines) <= 1
    return lines[0] if lines else None


def watch(patience=3, **dogs):
    return Watch(
        patience=patience,
        locate=str,
        advise=lambda row: f"Advice at {row['step']}.",
        dogs=Watchdogs(Limits(window=3, **dogs), {}),
    )


def test_no_raise_names_all_that_held_it():
    assert tau_line(trained([0.35] * 6)) == (
        "tau did not rise from 0.30: at step 6 the window's margin 0.05 < 0.10."
    )
    assert tau_line(trained([0.1] * 6)) == (
        "tau did not rise from 0.30: at step 6 the window's hit rate 0.00 < 0.80 and "
        "the window's margin -0.20 < 0.10."
    )
    uneven = trained([0.9, 0.0, 0.9, 0.0, 0.9])
    assert tau_line(uneven).endswith(
        "the window's hit rate 0.50 < 0.80 and the window's deviation 0.50 > 0.20."
    )
    assert tau_line(trained([0.9] * 3)) == (
        "tau did not rise from 0.30: at step 3 the window was not full."
    )


def test_one_raise_and_what_held_the_next():
    assert tau_line(trained([0.43] * 8)) == (
        "tau rose once, at step 4, from 0.30 to 0.45; it stayed there: at step 8 the "
        "window's hit rate 0.00 < 0.80 and the window's margin -0.02 < 0.10."
    )
    assert tau_line(trained([0.9] * 4)) == (
        "tau rose once, at step 4, from 0.30 to 0.45; that was the last step."
    )


def test_three_raises_and_the_target():
    goal = SCHEDULE._replace(target=0.7)
    rows = trained([0.9] * 12, goal)
    raised = [row for row in rows if row["window_raised"]]
    assert len(raised) == 3  # the oracle: the scheduler itself
    places = ", ".join(
        f"at step {row['step']} to {row['window_tau_next']:.2f}" for row in raised
    )
    assert tau_line(rows, goal) == (
        f"tau rose three times, from 0.30 to 0.70 ({places}), which is its target."
    )
    goal = SCHEDULE._replace(target=0.45)
    assert tau_line(trained([0.9] * 12, goal), goal) == (
        "tau rose once, at step 4, from 0.30 to 0.45, which is its target."
    )


def test_many_raises_are_counted():
    row = trained([0.35] * 5)[-1]
    rows = [
        row | {"step": n, "window_raised": True, "window_tau_next": 0.3 + 0.01 * n}
        for n in range(1, 8)
    ]
    assert tau_line(rows) == (
        "tau rose 7 times, from 0.30 to 0.37, first at step 1 and last at step 7; that "
        "was the last step."
    )


def test_a_skipped_step_raised_nothing():
    rows = trained([0.9] * 4)
    rows[-1] |= {"nonfinite": 1}
    assert tau_line(rows) == (
        "tau did not rise from 0.30: at step 3 the window was not full."
    )


@pytest.mark.parametrize(
    ("reward", "taus", "line"),
    [
        ("fixed", (0.5, 0.5), "tau was fixed at 0.50."),
        ("fixed", (0.5, 0.6), None),  # not of this config
        (
            "raw_iou",
            (0.0, 0.0),
            "No threshold: an answer earned its IoU (of a set, its Q).",
        ),
        (
            "progress",
            (0.85, 0.99),
            "tau followed the share of the steps that were done, from 0.85 to 0.99.",
        ),
        ("curriculum", (0.5, 0.5), None),  # no window: another reward's rows
        ("", (), None),
    ],
)
def test_other_rewards_have_no_raises(reward, taus, line):
    rows = [{"step": n + 1, "tau": tau} for n, tau in enumerate(taus)]
    assert tau_line(rows, reward=reward) == line
    assert threshold_lines(rows, reward, None) == []


def test_rows_of_a_moving_threshold_are_not_called_fixed():
    assert tau_line(trained([0.35] * 6), reward="fixed") is None


def test_the_share_of_groups_that_taught():
    assert signal_lines([GROUPS]) == [
        "50 % of groups gave signal: their rewards differed. 25 % were all wrong and "
        "25 % all right."
    ]
    every = GROUPS | {
        "groups_effective": 4, "groups_all_wrong": 0, "groups_all_right": 0
    }  # fmt: skip
    assert signal_lines([every]) == [
        "100 % of groups gave signal: their rewards differed."
    ]
    none = GROUPS | {"groups_effective": 0, "groups_all_wrong": 3}
    assert signal_lines([none]) == [
        "No group gave signal: all completions of a prompt earned the same. 75 % were "
        "all wrong and 25 % all right."
    ]
    # the last tenth, and a step that was not finite
    broken = dict.fromkeys(GROUPS, float("nan")) | {"nonfinite": 1}
    (line,) = signal_lines([every] * 38 + [broken] + [GROUPS] * 2)
    assert line.endswith("In the last 4 of 40 steps 75 % gave signal.")
    assert signal_lines([]) == signal_lines([{"loss": 1.0}]) == []


def test_the_course_of_a_loss():
    rows = [{"step": n, "loss": 2.0 - n / 50} for n in range(100)]
    assert loss_lines(rows) == [
        "The loss fell from 1.91 to 0.11, means of the first and of the last 10 steps."
    ]
    assert loss_lines(rows[:2]) == [
        "The loss fell from 2 to 1.98, at the first and the last step."
    ]
    assert loss_lines(rows[:1]) == ["The loss of the one step was 2."]
    assert loss_lines([{"loss": float("nan"), "nonfinite": 1}]) == []


def step(n, *, effective=1, hits=0.0, bad=0):
    return {"step": n, "nonfinite": bad, "groups_effective": effective,
            "hit_rate": hits}  # fmt: skip


def test_an_early_end_and_why():
    rows = [step(1), *(step(n, effective=0, hits=0.1) for n in (2, 3, 4))]
    told = end_story(rows, 300, watch())
    assert told.lines == ()
    assert told.doubts == (
        "Training stopped after step 4: in the last 3 steps no group of completions "
        "differed in reward, at a mean hit rate of 0.10; expected 0.9 or a group that "
        "differs. Advice at 4. To go on here without looking: train.grpo.patience=0, "
        "of a localisation localisation.train.grpo.patience=0.",
    )
    rows = [step(n, effective=0, hits=1.0) for n in (1, 2, 3)]
    told = end_story(rows, 300, watch())
    assert told.doubts == ()
    assert told.lines == (
        "Training converged after step 3: in the last 3 steps no group of completions "
        "differed in reward, at a mean hit rate of 1.00; there is nothing left to "
        "learn from this reward.",
    )


def test_a_part_of_the_steps_and_steps_that_were_skipped():
    rows = [step(1), step(2, bad=1), step(3)]
    assert end_story(rows, 300, watch()) == Story(
        ("3 of the 300 steps that are asked for are done.",),
        ("1 of 3 steps were not finite, and changed nothing.",),
    )
    assert end_story(rows[:1], 1, watch()) == end_story([], 9, None) == Story()
    supervised = [{"step": 1, "nonfinite": 0, "loss": 1.0}]
    assert end_story(supervised, 1, None) == Story()


def write(folder, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text)


def test_a_whole_story_with_the_watchdogs_warnings(tmp_path):
    told = exploration_story(6, watch(), "curriculum", SCHEDULE, tmp_path)
    assert told == supervised_story(6, tmp_path) == Story()
    more = GROUPS | {"nonfinite": 0, "hit_rate": 0.5, "entropy": 0.01}
    write(tmp_path, trained([0.35] * 6, **more))
    told = exploration_story(6, watch(), "curriculum", SCHEDULE, tmp_path)
    assert [line.split()[0] for line in told.lines] == ["tau", "50"]
    assert told.doubts == (
        "watchdog: entropy [nat / token] was below 0.05 from step 1 to 6, to the end "
        "(at worst 0.01)",
    )
    write(tmp_path, [{"step": n, "nonfinite": 0, "loss": 3.0 / n} for n in (1, 2)])
    assert supervised_story(2, tmp_path) == Story(
        ("The loss fell from 3 to 1.5, at the first and the last step.",)
    )


def test_numbers_are_never_rounded_to_what_they_are_not():
    assert [number(x) for x in (0.3, 0.475, 1.0)] == ["0.30", "0.475", "1.00"]
    assert compare(0.67, 0.8, "<") == "0.67 < 0.80"
    assert compare(0.7996, 0.8, "<") == "0.7996 < 0.8000"
    assert changed(2.0, 2.0001) == "stayed at 2"
    assert changed(1.0, 2.0) == "rose from 1 to 2"
    assert [share(x, 1000) for x in (0, 1, 999, 1000, 583)] == [
        "0 %", "< 1 %", "> 99 %", "100 %", "58 %"
    ]  # fmt: skip
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert [times(n) for n in (1, 2, 6)] == ["once", "twice", "6 times"]
