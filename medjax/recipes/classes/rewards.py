"""Which rewards a run about classes uses, with what weight, from a config's values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

from medjax.data.classes.tasks import ClassTask
from medjax.recipes.policy.reward_checks import check_weights
from medjax.rl.label_rewards import check_grade_table, grade_table
from medjax.rl.label_set_rewards import SET_RULES
from medjax.rl.ramps import RewardRamp, check_ramp
from medjax.rl.text.label_sets import LabelSetTables
from medjax.rl.text.labels import LabelTables
from medjax.rl.text.reference_tables import RecitationTables
from medjax.systems.vrft_aug import REWARDS, Rewards

GRADES = ("auto", "fuzzy", "exact", "both")


class LabelRewards(NamedTuple):
    """Options of the section `train.grpo` that say what an answer is worth.

    Those without a comment are the fields of `vrft_aug.Rewards`, which explains them.
    """

    grade: str  # one of GRADES
    grade_rule: str  # see `grade_table`
    grade_table: tuple[float, ...]  # of a user, for differences 0, 1, 2, ...; or empty
    min_words: int
    require_label: bool
    min_different: int
    without_words: float
    leak_label: bool
    set_reward: str  # of several labels, what "accuracy" is: one of SET_RULES
    repeat_ngram: int = 0
    repeat_limit: float = 0.5
    # when the recitation is let in, once the label's reward has come up; steps of 0:
    # from the first step on
    recitation_ramp: RewardRamp = RewardRamp(steps=0, above=0.5, window=10)


def reward_weights(
    weights: Mapping[str, float],
    functions: Sequence[str],
    *,
    grade: str,
    task: ClassTask,
) -> dict[str, float]:
    """The weight of every reward; one of weight 0 is reported and teaches nothing.

    Args:
        weights: The config's, of either sign, by names of `REWARDS` and `functions`.
        functions: Names of rewards in Python; each weighs 1 unless `weights` names it.
        grade: What near grades earn. "fuzzy": something, in place of "accuracy";
            "exact": nothing; "auto": as "fuzzy" where the task's classes are grades,
            else as "exact"; "both": both rewards keep their weights.
        task: It says whether the classes are grades; where they are not, there is no
            reward "grade".

    Raises:
        ValueError: What `check_weights` refuses, `grade` is unknown, or near grades are
            to be paid where classes are no grades.
    """
    found = check_weights(weights, REWARDS, functions)
    if grade not in GRADES:
        raise ValueError(f"grade={grade!r}: expected one of {', '.join(GRADES)}")
    if grade in ("fuzzy", "both") and not task.ordinal:
        raise ValueError(
            f"task {task.name}: its classes are not grades, so none is nearer to the "
            "right one than another; choose grade=exact"
        )
    if grade != "both":
        fuzzy = task.ordinal and grade != "exact"
        found["accuracy" if fuzzy else "grade"] = 0.0
    if not task.ordinal:
        found.pop("grade", None)
    return check_weights(found, REWARDS, functions)


def grade_rewards(
    table: Sequence[float], rule: str, *, classes: int
) -> tuple[float, ...]:
    """What a difference of 0, 1, ... grades earns, an entry for each class.

    Args:
        table: The config's, with zeros behind it; empty where the rule's is wanted.
        rule: One of `grade_table`'s, read only if `table` is empty.
        classes: How many grades there are, 1 or more.

    Raises:
        ValueError: See `check_grade_table` and `grade_table`.
    """
    return check_grade_table(table, classes) if table else grade_table(rule, classes)


def make_rewards(
    options: LabelRewards,
    *,
    labels: LabelTables | LabelSetTables,
    references: RecitationTables,
    classes: int,
    weights: Mapping[str, float],
    think: bool = True,
) -> Rewards:
    """What an answer is worth, as `systems.vrft_aug` takes it.

    Args:
        options: The config's; an empty `grade_table` stands for that of `grade_rule`.
        labels: What counts as an answer, from `label_tables` or `label_set_tables`.
        references: From `recitation_tables`: the descriptions that a reasoning may
            recite.
        classes: How many classes there are, which is the length of the table of grades.
        weights: Of every reward, as `reward_weights` gives them.
        think: Whether answers begin with a reasoning.

    Raises:
        ValueError: See `grade_rewards` and `recitation_ramp`; or the reward of sets is
            unknown, or a task of several labels has `leak_label`, or a limit of
            repetitions is out of its range, or something is asked of a reasoning where
            there is none.
    """
    if not think:
        _check_bare(options, weights)
    if options.repeat_ngram < 0:
        raise ValueError(
            f"repeat_ngram={options.repeat_ngram}: expected the words of an n-gram, 1 "
            "or more, or 0 for no guard against repetition"
        )
    if not 0 <= options.repeat_limit <= 1:
        raise ValueError(
            f"repeat_limit={options.repeat_limit}: expected a share of n-grams, 0 to 1"
        )
    if options.set_reward not in SET_RULES:
        raise ValueError(
            f"set_reward={options.set_reward!r}: expected one of {', '.join(SET_RULES)}"
        )
    if options.leak_label and isinstance(labels, LabelSetTables):
        raise ValueError(
            "leak_label=True: a picture of this task may show several classes or none, "
            "so there is no one description to hold its reasoning against; set "
            "leak_label=False"
        )
    return Rewards(
        labels=labels,
        references=references,
        grade_table=grade_rewards(
            options.grade_table, options.grade_rule, classes=classes
        ),
        min_words=options.min_words,
        require_label=options.require_label,
        min_different=options.min_different,
        without_words=options.without_words,
        leak_label=options.leak_label,
        set_rule=options.set_reward,
        repeat_ngram=options.repeat_ngram,
        repeat_limit=options.repeat_limit,
        **recitation_ramp(options.recitation_ramp, weights),
    )


def _check_bare(options: LabelRewards, weights: Mapping[str, float]) -> None:
    """Refuse by name what an answer without reasoning cannot have."""
    asked = {
        "reward_weights.recitation": weights.get("recitation", 0.0),
        "min_words": max(options.min_words, 0),
        "repeat_ngram": options.repeat_ngram,
    }
    found = [f"train.grpo.{name}={value:g}" for name, value in asked.items() if value]
    if found:
        raise ValueError(
            f"prompt.think=False: there is no reasoning, and {', '.join(found)} asks "
            "something of it; expected 0 (recite=none), or think=on"
        )


class Ramped(TypedDict):
    """The fields of `Rewards` about when the recitation is let in."""

    ramp: RewardRamp | None
    ramp_by: str


def recitation_ramp(ramp: RewardRamp, weights: Mapping[str, float]) -> Ramped:
    """When the recitation is let in, and by which reward for right answers.

    Args:
        ramp: The config's; its `above` is a mean reward, 0 to 1. 0 steps stand for no
            ramp.
        weights: Of every reward. It goes by "grade" where that has a weight, else by
            "accuracy".

    Raises:
        ValueError: A number is out of its range, or there is nothing to let in, or no
            reward for right answers to wait for.
    """
    by = "grade" if weights.get("grade") else "accuracy"
    name = "train.grpo.recitation_ramp"
    if ramp.steps < 0 or ramp.window < 1 or not 0 <= ramp.above <= 1:
        raise ValueError(
            f"{name}: expected steps of 0 or more, a window of 1 or more and above "
            f"from 0 to 1; found steps={ramp.steps}, window={ramp.window}, "
            f"above={ramp.above}"
        )
    if ramp.steps == 0:
        return {"ramp": None, "ramp_by": by}
    if not weights.get("recitation"):
        raise ValueError(
            f"{name}.steps={ramp.steps}: the reward recitation has weight 0, so there "
            "is nothing to let in; choose recite=negative or positive, or steps=0"
        )
    if not weights.get(by):
        raise ValueError(
            f"{name}.steps={ramp.steps}: neither accuracy nor grade has a weight, so "
            "there is no reward to wait for; give one a weight, or set steps=0"
        )
    return {"ramp": check_ramp(ramp), "ramp_by": by}
