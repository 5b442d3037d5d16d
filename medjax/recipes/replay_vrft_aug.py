"""The mode `replay` of `vrft_aug`: a run's audits under other rewards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optax

from medjax.recipes.classes.data import LabelData, LabelPrompt
from medjax.recipes.classes.rewards import LabelRewards
from medjax.recipes.classes.stage import label_rewards
from medjax.recipes.classes.task import LabelRun
from medjax.recipes.policy.python_rewards import make_host_rewards
from medjax.recipes.policy.replay import (
    Replay,
    check_explored,
    has_audit,
    replay_stage,
)
from medjax.recipes.policy.setup import Exploration
from medjax.recipes.policy.stages import make_step, python_rewards
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.replay_medloc import box_replay
from medjax.recipes.sections import read_section
from medjax.recipes.vrft_aug import (
    BOXES,
    open_run,
    read_localisation,
    read_training,
)
from medjax.systems import vrft_aug


def replay(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    prompt: Mapping[str, Any],
    data: Mapping[str, Any],
    localisation: Mapping[str, Any],
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> list[str]:
    """Compute the rewards of a run's completions again, as this config pays them.

    The stage about classes is replayed, and that about boxes before it where it has an
    audit. No weights are read, and nothing is sampled.

    Args:
        seed: The run's; it parts the data.
        workdir: The run's, with grpo/audit/ or boxes_grpo/audit/.
        policy: Section of the config; its tokenizer must be the run's.
        prompt: Section of the config, the run's.
        data: Section of the config, the run's.
        localisation: Section of the config; what pays in its `train.grpo` may be
            another.
        warm_start: Section of the config.
        train: Section of the config; what pays in its `grpo` may be another.
        evaluation: Section of the config.

    Returns:
        What makes the results doubtful, see `replay_stage`.

    Raises:
        FileNotFoundError: There is no audit.
        ValueError: An option or an audit does not fit, see `replay_stage`.
    """
    training = read_training(warm_start, train)
    first = read_localisation(localisation)
    opened = open_run(
        read_section(LabelData, "data", data),
        read_section(LabelPrompt, "prompt", prompt),
        first,
        read_section(Evaluation, "evaluation", evaluation),
        policy=policy,
        seed=seed,
        workdir=workdir,
    )
    located, lines = f"{BOXES}grpo", []
    if first.use and opened.boxes is not None and has_audit(workdir / located):
        lines += replay_stage(box_replay(located, opened.boxes, *first.training.grpo))
        if not has_audit(workdir / "grpo"):
            return lines
    check_explored(training.method)
    return lines + replay_stage(label_replay("grpo", opened.run, *training.grpo))


def label_replay(
    name: str, run: LabelRun, options: Exploration, rewards: LabelRewards
) -> Replay:
    """A stage about classes as a config pays it.

    Args:
        name: Of the stage and of its folder.
        run: What all stages of the run have in common.
        options: How it explores and learns.
        rewards: What an answer is worth.

    Raises:
        ValueError: A weight, a reward or a table of grades does not fit.
    """
    setup, paid = run.setup, label_rewards(run, options, rewards)
    python = python_rewards(setup, options)
    explorer = vrft_aug.make_explorer(
        setup.policy.model,
        setup.policy.tables,
        optax.identity(),
        rewards=paid.rewards,
        step=make_step(setup, options, paid.weights),
    )
    host = make_host_rewards(python) if python else None
    return Replay(name, setup, options, rewards, explorer, host)
