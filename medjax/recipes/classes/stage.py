"""A stage of GRPO about classes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from medjax.recipes.classes.rewards import LabelRewards, make_rewards, reward_weights
from medjax.recipes.classes.task import LabelRun, self_test
from medjax.recipes.policy.setup import Exploration
from medjax.recipes.policy.stages import exploration_stage
from medjax.runtime.stages import Stage
from medjax.systems import vrft_aug

SHOW = ("hit_rate", "reward", "reward_std", "overlap", "kl", "entropy", "length")


def label_stage(
    name: str,
    run: LabelRun,
    options: Exploration,
    rewards: LabelRewards,
    *,
    before: Mapping[str, Path],
) -> Stage:
    """A stage of GRPO with the rewards of `systems.vrft_aug`; see `exploration_stage`.

    Args:
        name: The name of the stage and of its folder.
        run: What all stages of the run have in common.
        options: How it explores and learns.
        rewards: What an answer is worth.
        before: Earlier evaluations that get rows of their own in the tables.

    Raises:
        ValueError: Some right answer exceeds `max_tokens`, or a reward, its weight or a
            table of grades does not fit.
    """
    task, paid = run.source.wording.task, label_rewards(run, options, rewards)
    return exploration_stage(
        name,
        run.setup,
        options,
        rewards,
        partial(vrft_aug.build, rewards=paid.rewards),
        weights=paid.weights,
        accuracy=f"task {task.name}, grade={rewards.grade}",
        numbers={},
        settle=0,
        show=SHOW,
        check=partial(self_test, run, min_words=rewards.min_words),
        before=before,
        classes=task.classes,
    )


class Paid(NamedTuple):
    """What an answer is worth, and by what weights."""

    rewards: vrft_aug.Rewards
    weights: Mapping[str, float]  # of every reward, those in Python included


def label_rewards(run: LabelRun, options: Exploration, rewards: LabelRewards) -> Paid:
    """What an answer about classes is worth, as the system takes it.

    Args:
        run: Its task says which rewards there can be.
        options: Their weights.
        rewards: The options of the rewards.

    Raises:
        ValueError: A reward, its weight or a table of grades does not fit.
    """
    task = run.source.wording.task
    weights = reward_weights(
        options.reward_weights,
        tuple(options.python_rewards),
        grade=rewards.grade,
        task=task,
    )
    made = make_rewards(
        rewards,
        labels=run.labels,
        references=run.source.references,
        classes=len(task.classes),
        weights=weights,
        think=run.setup.encoding.style.think,
    )
    return Paid(made, weights)
