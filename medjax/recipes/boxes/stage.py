"""A stage of GRPO about boxes, under MedLoc-R1's threshold."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.prompting.chat import asks_for_sets
from medjax.recipes.boxes.task import self_test
from medjax.recipes.policy.reward_checks import check_weights
from medjax.recipes.policy.setup import Exploration, Setup
from medjax.recipes.policy.stages import exploration_stage
from medjax.recipes.policy.training_tables import raise_table
from medjax.rl import schedules
from medjax.rl.text.box_set_reader import box_set_tables
from medjax.runtime.stages import Stage
from medjax.systems import medloc

SCHEDULES = {
    "piecewise": schedules.piecewise_schedule,
    "linear": schedules.linear_schedule,
    "cosine": schedules.cosine_schedule,
    "conservative": schedules.fixed_conservative_schedule,
    "moderate": schedules.fixed_moderate_schedule,
    "aggressive": schedules.fixed_aggressive_schedule,
}
SHOW = ("tau", "hit_rate", "iou", "reward", "reward_std", "kl", "entropy", "length")


class BoxRewards(NamedTuple):
    """Options of the section `train.grpo` that say what an answer is worth.

    `reward` and `entries` are those of `medloc.Rewards`.
    """

    reward: str
    fixed_tau: float  # of reward "fixed"
    schedule: str  # one of SCHEDULES
    schedule_changes: Mapping[str, Any]  # some of its numbers
    entries: str


def box_stage(
    name: str,
    setup: Setup,
    options: Exploration,
    rewards: BoxRewards,
    *,
    before: Mapping[str, Path],
) -> Stage:
    """A stage of GRPO under a threshold; see `exploration_stage`.

    Args:
        name: The name of the stage and of its folder.
        setup: What all stages of the run have in common.
        options: How it explores and learns.
        rewards: What an answer is worth; "fixed" keeps `fixed_tau` and ignores the
            schedule.
        before: Earlier evaluations that get rows of their own in the tables, see
            `scoring`.

    Raises:
        ValueError: Some right answer exceeds `max_tokens`, or the schedule is unknown.
    """
    paid = box_rewards(setup, options, rewards)
    schedule, several = paid.rewards.schedule, paid.rewards.sets is not None
    return exploration_stage(
        name,
        setup,
        options,
        rewards,
        partial(medloc.build, rewards=paid.rewards),
        weights=paid.weights,
        accuracy=f"accuracy is reward={rewards.reward}",
        numbers={"tau": float(schedule.start)},
        settle=settling(rewards.reward, schedule, steps=options.steps),
        show=tuple("quality" if several and x == "iou" else x for x in SHOW),
        check=partial(self_test, setup, tau=float(schedule.target)),
        before=before,
        tell=(partial(raise_table, schedule),)
        if rewards.reward == "curriculum"
        else (),
        schedule=schedule,
        paid=rewards.reward,
    )


class Paid(NamedTuple):
    """What an answer is worth, and by what weights."""

    rewards: medloc.Rewards
    weights: Mapping[str, float]  # of every reward, those in Python included


def box_rewards(setup: Setup, options: Exploration, rewards: BoxRewards) -> Paid:
    """What an answer about boxes is worth, as the system takes it.

    Args:
        setup: Says whether an answer is a set.
        options: Their weights, and the length of the training.
        rewards: "fixed" keeps `fixed_tau` and ignores the schedule.

    Raises:
        ValueError: A weight is of no reward, or the schedule is unknown.
    """
    style = setup.encoding.style
    sets = box_set_tables(think=style.think) if asks_for_sets(style) else None
    return Paid(
        medloc.Rewards(
            accuracy=rewards.reward,
            schedule=make_schedule(rewards),
            total_steps=options.steps,
            entries=rewards.entries,
            sets=sets,
        ),
        check_weights(
            options.reward_weights, medloc.REWARDS, tuple(options.python_rewards)
        ),
    )


def settling(reward: str, schedule: schedules.ThresholdSchedule, *, steps: int) -> int:
    """Steps that a high hit rate may last before the threshold rises and ends it.

    Args:
        reward: The accuracy that is paid.
        schedule: Its window fills before "curriculum" raises the threshold.
        steps: Of the training, by whose shares "progress" raises it, the last time
            after a quarter.
    """
    if reward == "curriculum":
        return schedule.window + 1
    return steps // 4 + 1 if reward == "progress" else 0


def make_schedule(rewards: BoxRewards) -> schedules.ThresholdSchedule:
    """The schedule that a config names, with some of its numbers changed.

    Args:
        rewards: `schedule` is one of `SCHEDULES`, `schedule_changes` has new values by
            fields of `ThresholdSchedule`. Where `reward` is "fixed" both are checked,
            and the threshold stays at `fixed_tau`.

    Raises:
        ValueError: The name or a field is unknown, or `check_schedule` refuses the
            numbers.
    """
    name, changes = rewards.schedule, rewards.schedule_changes
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r}: expected one of {', '.join(SCHEDULES)}")
    preset = SCHEDULES[name]()
    unknown = changes.keys() - preset._asdict().keys()
    if unknown:
        raise ValueError(
            f"schedule_changes: no {', '.join(sorted(unknown))}; a schedule has "
            f"{', '.join(preset._fields)}"
        )
    schedule = preset._replace(**changes)
    schedules.check_schedule(schedule)
    if rewards.reward == "fixed":
        return schedules.fixed_schedule(rewards.fixed_tau)
    return schedule
