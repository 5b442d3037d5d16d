"""Which rewards a run about classes uses, with what weight, from a config's values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medjax.data.classes.tasks import ClassTask
from medjax.rl.label_rewards import check_grade_table, grade_table
from medjax.rl.text.labels import LabelTables
from medjax.rl.text.reference_tables import RecitationTables
from medjax.systems.vrft_aug import REWARDS, Rewards

GRADES = ("auto", "fuzzy", "exact", "both")


class LabelRewards(NamedTuple):
    """Of the section `train.grpo`: what an answer is worth, see `vrft_aug.Rewards`."""

    grade: str  # one of GRADES
    grade_rule: str  # see `grade_table`
    grade_table: tuple[float, ...]  # of a user, for differences 0, 1, 2, ...; or empty
    min_words: int
    require_label: bool
    min_different: int
    without_words: float
    leak_label: bool


def reward_weights(
    weights: Mapping[str, float],
    functions: Sequence[str],
    *,
    grade: str,
    task: ClassTask,
) -> dict[str, float]:
    """The weight of every reward; one of weight 0 is reported and teaches nothing.

    Args:
        weights: those of a config, by the names of `REWARDS` and `functions`.
        functions: names of rewards in Python, whose weight is 1 unless given.
        grade: "fuzzy": near grades earn something, which takes the place of
            "accuracy"; "exact": they earn nothing; "auto": fuzzy where the task's
            classes are grades; "both": with both weights as they are.
        task: whose classes may be grades.

    Raises:
        ValueError: a reward that does not exist; near grades of what are no grades.
    """
    unknown = [name for name in weights if name not in (*REWARDS, *functions)]
    if unknown:
        raise ValueError(
            f"reward_weights: no reward {', '.join(unknown)}; expected some of "
            f"{', '.join((*REWARDS, *functions))}"
        )
    if grade not in GRADES:
        raise ValueError(f"grade={grade!r}: expected one of {', '.join(GRADES)}")
    if grade in ("fuzzy", "both") and not task.ordinal:
        raise ValueError(
            f"task {task.name}: its classes are not grades, so none is nearer to the "
            "right one than another; choose grade=exact"
        )
    found = dict.fromkeys(functions, 1.0) | dict(weights)
    if grade != "both":
        fuzzy = task.ordinal and grade != "exact"
        found["accuracy" if fuzzy else "grade"] = 0.0
    if not task.ordinal:
        found.pop("grade", None)
    return found


def grade_rewards(
    table: Sequence[float], rule: str, *, classes: int
) -> tuple[float, ...]:
    """What near grades earn: the table of a config, or if it is empty the rule's.

    Raises:
        ValueError: see `check_grade_table` and `grade_table`.
    """
    return check_grade_table(table, classes) if table else grade_table(rule, classes)


def make_rewards(
    options: LabelRewards,
    *,
    labels: LabelTables,
    references: RecitationTables,
    classes: int,
) -> Rewards:
    """What an answer is worth, as `systems.vrft_aug` takes it.

    Args:
        options: of the config; an empty `grade_table` is the rule's.
        labels: to read answers.
        references: the descriptions.
        classes: how many there are, which bounds the table.

    Raises:
        ValueError: see `grade_rewards`.
    """
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
    )
