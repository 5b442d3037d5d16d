"""A stage of GRPO about classes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

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
    task = run.source.wording.task
    weights = reward_weights(
        options.reward_weights,
        tuple(options.python_rewards),
        grade=rewards.grade,
        task=task,
    )
    build = partial(
        vrft_aug.build,
        rewards=make_rewards(
            rewards,
            labels=run.labels,
            references=run.source.references,
            classes=len(task.classes),
            weights=weights,
            think=run.setup.encoding.style.think,
        ),
    )
    return exploration_stage(
        name,
        run.setup,
        options,
        rewards,
        build,
        weights=weights,
        accuracy=f"task {task.name}, grade={rewards.grade}",
        numbers={},
        settle=0,
        show=SHOW,
        check=partial(self_test, run, min_words=rewards.min_words),
        before=before,
    )
