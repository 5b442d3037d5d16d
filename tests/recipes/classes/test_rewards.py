"""The rewards that a config of `vrft_aug` chooses, and their weights."""

import pytest

from medjax.data.classes.tasks import ClassQuestion, ClassTask
from medjax.recipes.classes.rewards import (
    LabelRewards,
    grade_rewards,
    make_rewards,
    recitation_ramp,
    reward_weights,
)
from medjax.rl.ramps import RewardRamp

WEIGHTS = {"accuracy": 0.7, "grade": 0.9, "format": 0.5, "recitation": -0.5}
CLASSES = ("none", "small", "large")
NAMED = ClassTask("organ", CLASSES, (ClassQuestion("organ", ("Which?",), (0, 1, 2)),))
GRADED = NAMED._replace(name="size", ordinal=True)


def weigh(task, grade, functions=(), **changes):
    return reward_weights(WEIGHTS | changes, functions, grade=grade, task=task)


@pytest.mark.parametrize(
    ("task", "grade", "accuracy", "near"),
    [
        (GRADED, "auto", 0.0, 0.9),
        (GRADED, "fuzzy", 0.0, 0.9),
        (GRADED, "exact", 0.7, 0.0),
        (GRADED, "both", 0.7, 0.9),
        (NAMED, "auto", 0.7, None),
        (NAMED, "exact", 0.7, None),
    ],
)
def test_near_grades_take_the_place_of_accuracy(task, grade, accuracy, near):
    found = weigh(task, grade)
    assert found["accuracy"] == accuracy and found.get("grade") == near
    assert (found["format"], found["recitation"]) == (0.5, -0.5)


def test_rewards_in_python_have_weight_1_unless_given():
    found = weigh(NAMED, "auto", functions=("short", "polite"), short=0.0)
    assert (found["short"], found["polite"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("task", "grade", "changes", "message"),
    [
        (NAMED, "fuzzy", {}, "organ: its classes are not grades.*grade=exact"),
        (NAMED, "both", {}, "organ: its classes are not grades"),
        (GRADED, "half", {}, "grade='half': expected one of auto, fuzzy"),
        (GRADED, "auto", {"acuracy": 1.0}, "no reward acuracy; expected some of acc"),
    ],
)
def test_what_is_refused(task, grade, changes, message):
    with pytest.raises(ValueError, match=message):
        weigh(task, grade, **changes)


OPTIONS = LabelRewards(
    "auto", "sixteenth", (), 1, True, 3, 1.0, leak_label=False, set_reward="f1"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeat_ngram": -1}, "repeat_ngram=-1: expected the words of an n-gram"),
        ({"repeat_limit": 1.5}, "repeat_limit=1.5: expected a share of n-grams, 0 to"),
        ({"repeat_limit": float("nan")}, "repeat_limit=nan"),
    ],
)
def test_a_guard_against_repetition_is_in_its_range(changes, message):
    tables = {"labels": None, "references": None, "classes": 3, "weights": {}}
    made = make_rewards(OPTIONS._replace(repeat_ngram=2, repeat_limit=0.25), **tables)
    assert (made.repeat_ngram, made.repeat_limit) == (2, 0.25)
    with pytest.raises(ValueError, match=message):
        make_rewards(OPTIONS._replace(**changes), **tables)


RAMP = RewardRamp(steps=20, above=0.5, window=5)


def test_a_ramp_goes_by_the_reward_that_is_paid_for_right_answers():
    off = recitation_ramp(RAMP._replace(steps=0), weigh(GRADED, "auto"))
    assert off == {"ramp": None, "ramp_by": "grade"}
    for grade, by in (("auto", "grade"), ("exact", "accuracy"), ("both", "grade")):
        found = recitation_ramp(RAMP, weigh(GRADED, grade))
        assert found == {"ramp": RAMP, "ramp_by": by}
    assert recitation_ramp(RAMP, weigh(NAMED, "auto"))["ramp_by"] == "accuracy"


@pytest.mark.parametrize(
    ("ramp", "changes", "message"),
    [
        (RAMP, {"recitation": 0.0}, "steps=20: the reward recitation has weight 0"),
        (RAMP, {"accuracy": 0.0}, "steps=20: neither accuracy nor grade has a weight"),
        (RAMP._replace(steps=-1), {}, "recitation_ramp: expected .*found steps=-1"),
        (RAMP._replace(window=0), {}, "recitation_ramp: .*window=0"),
        (RAMP._replace(above=1.5), {}, "recitation_ramp: .*above=1.5"),
    ],
)
def test_a_ramp_that_could_not_begin_or_changes_nothing_is_refused(
    ramp, changes, message
):
    with pytest.raises(ValueError, match=message):
        recitation_ramp(ramp, weigh(NAMED, "auto", **changes))


def test_a_table_comes_before_the_rule():
    assert grade_rewards((), "sixteenth", classes=5) == (1, 0.25, 0.0625, 0, 0)
    assert grade_rewards((1, 0.5), "sixteenth", classes=5) == (1, 0.5, 0, 0, 0)
    with pytest.raises(ValueError, match="1 to 2"):
        grade_rewards((1, 0.5, 0.1), "sixteenth", classes=2)
