"""The mode `replay` of `medloc`: a run's audit under other rewards."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optax

from medjax.recipes.boxes.data import BoxData, BoxPrompt
from medjax.recipes.boxes.stage import BoxRewards, box_rewards
from medjax.recipes.medloc import open_run, read_training
from medjax.recipes.policy.python_rewards import make_host_rewards
from medjax.recipes.policy.replay import Replay, check_explored, replay_stage
from medjax.recipes.policy.setup import Exploration, Setup
from medjax.recipes.policy.stages import make_step, python_rewards
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section
from medjax.systems import medloc


def replay(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> list[str]:
    """Compute the rewards of a run's completions again, as this config pays them.

    No weights are read, and nothing is sampled. Pictures are opened for rewards in
    Python alone, which are given the columns of the data.

    Args:
        seed: The run's; it parts the data.
        workdir: The run's, with grpo/audit/; grpo/replay/ gets what is found.
        policy: Section of the config; its tokenizer must be the run's.
        data: Section of the config, the run's.
        prompt: Section of the config, the run's.
        warm_start: Section of the config.
        train: Section of the config; what pays in its `grpo` may be another.
        evaluation: Section of the config.

    Returns:
        What makes the result doubtful, see `replay_stage`.

    Raises:
        FileNotFoundError: There is no audit.
        ValueError: An option or the audit does not fit, see `replay_stage`.
    """
    training = read_training(warm_start, train)
    check_explored(training.method)
    setup, _ = open_run(
        read_section(BoxData, "data", data),
        read_section(BoxPrompt, "prompt", prompt),
        read_section(Evaluation, "evaluation", evaluation),
        policy=policy,
        seed=seed,
        workdir=workdir,
    )
    return replay_stage(box_replay("grpo", setup, *training.grpo))


def box_replay(
    name: str, setup: Setup, options: Exploration, rewards: BoxRewards
) -> Replay:
    """A stage about boxes as a config pays it.

    Args:
        name: Of the stage and of its folder.
        setup: What all stages of the run have in common.
        options: How it explores and learns.
        rewards: What an answer is worth.

    Raises:
        ValueError: A weight, a reward or its schedule does not fit.
    """
    paid = box_rewards(setup, options, rewards)
    python = python_rewards(setup, options)
    explorer = medloc.make_explorer(
        setup.policy.model,
        setup.policy.tables,
        optax.identity(),
        rewards=paid.rewards,
        step=make_step(setup, options, paid.weights),
    )
    host = python and partial(medloc.see_threshold, make_host_rewards(python))
    return Replay(name, setup, options, rewards, explorer, host)
