"""The words about scores follow from paired differences and their intervals."""

import numpy as np

from medjax.recipes.policy.score_story import Rated, score_story
from medjax.recipes.policy.task import Evaluation
from tests.evals.test_gains import GROUPS, RIGHT, interval

EVALUATION = Evaluation(
    every=0, batch=1, questions=1, limit=0, seed=0, bootstrap=200, level=0.95
)
WRONG = np.zeros(40)
EVEN = np.roll(RIGHT, 1)  # as good, on other questions


def lines(*, before=("warm_start", "before training"), groups=GROUPS, **contenders):
    named = {name.replace("_blank", "no image: grpo"): x for name, x in
             contenders.items()}  # fmt: skip
    rated = Rated("A@0.5", {"grpo": RIGHT, **named}, groups, "slices")
    return score_story(rated, before, EVALUATION)


def test_a_score_that_rose_fell_or_shows_no_difference():
    value, low, high = interval(RIGHT, WRONG)
    rose, *_, last = lines(warm_start=WRONG)
    assert rose == (
        "A@0.5 rose from 0.000 (warm_start) to 0.750: "
        f"{value:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}."
    )
    assert last == (
        "Intervals are over 20 slices: another seed of the training is not in them."
    )
    assert lines(warm_start=RIGHT)[0] == (
        "A@0.5 is 0.750, as before it (warm_start): no difference shown, +0.000, "
        "95 % interval +0.000 to +0.000."
    )
    assert lines(warm_start=np.ones(40))[0].startswith("A@0.5 fell from 1.000 (warm")


def test_without_a_warm_start_the_score_stands_alone():
    value, low, high = interval(RIGHT, WRONG)
    first, *rest = lines(before=())
    assert first == f"A@0.5 is 0.750 (95 % interval {low:.3f} to {high:.3f})."
    assert len(rest) == 1


def test_a_difference_that_is_not_shown_is_not_called_a_course():
    line = lines(warm_start=np.where(np.arange(40) == 3, 1.0, RIGHT))[0]
    assert line.startswith("A@0.5 went from 0.775 (warm_start) to 0.750: no difference")


def test_whom_it_beats_and_whom_not():
    found = lines(mean=WRONG, nearest=WRONG, probe=EVEN, best=np.ones(40))
    beats, ties, worse = found[1:4]
    assert beats.startswith(
        "By A@0.5 grpo beats mean (0.750 against 0.000: +0.750, 95 % interval "
    )
    assert ") and nearest (" in beats and beats.endswith(").")
    assert ties.startswith(
        "By A@0.5 grpo does not beat probe (0.750 against 0.750: no difference shown, "
        "+0.000, 95 % interval "
    )
    assert worse.startswith(
        "By A@0.5 grpo is worse than best (0.750 against 1.000: -0.250, 95 % "
    )


def test_another_run_and_blank_pictures_are_no_course_of_the_training():
    names = {"run: sft": WRONG, "no image: before training": WRONG}
    rated = Rated("A@0.5", {"grpo": RIGHT, **names}, GROUPS, "slices")
    first, beats, _ = score_story(rated, tuple(names), EVALUATION)
    assert first.startswith("A@0.5 is 0.750")
    assert "beats 'run: sft' (" in beats and "'no image: before training' (" in beats


def test_whether_the_pictures_are_looked_at():
    (line,) = [x for x in lines(_blank=WRONG) if "blank" in x]
    assert line.startswith(
        "Asked the same about blank pictures it has A@0.5 0.000; the pictures gain it "
        "+0.750, 95 % interval "
    )
    (line,) = [x for x in lines(_blank=EVEN) if "blank" in x]
    assert "0.750; nothing shows that it reads the pictures: no difference" in line


def test_one_group_shows_nothing():
    assert lines(warm_start=WRONG, groups=np.zeros(40)) == [
        "A@0.5 is 0.750; all answers are of one of the slices, so that no interval and "
        "no difference can be shown."
    ]
    nothing = Rated("A@0.5", {"grpo": np.zeros(0)}, np.zeros(0), "slices")
    assert score_story(nothing, (), EVALUATION) == []
