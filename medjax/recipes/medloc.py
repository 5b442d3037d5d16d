"""The stages of a `medloc` run: a supervised warm start, then GRPO; or SFT alone."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from medjax.recipes.boxes.task import (
    BoxData,
    BoxFlaws,
    BoxPrompt,
    box_setup,
    box_style,
    box_supervised_stage,
    box_words,
    load_box_parts,
    self_test,
)
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.stages import (
    Exploration,
    Setup,
    Supervised,
    exploration_stage,
)
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section, read_sections
from medjax.rl import schedules
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
METHODS = ("grpo", "sft")
SHOW = ("tau", "hit_rate", "iou", "reward", "reward_std", "kl", "entropy", "length")


class BoxRewards(NamedTuple):
    """Of the section `train.grpo`: what an answer is worth, see `medloc.Rewards`."""

    reward: str
    fixed_tau: float  # of reward "fixed"
    schedule: str  # one of SCHEDULES
    schedule_changes: Mapping[str, Any]  # some of its numbers
    entries: str


class Training(NamedTuple):
    """The stages of a run that a config's sections ask for."""

    warm_start: tuple[Supervised, BoxFlaws]
    method: str  # one of METHODS
    grpo: tuple[Exploration, BoxRewards]
    sft: tuple[Supervised, BoxFlaws]


def stages(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> list[Stage]:
    """What `run_stages` runs for the sections of `configs/medloc.py`.

    Args:
        seed: of data and splits.
        workdir: of the run.
        policy: see `open_policy`.
        data: a `BoxData`.
        prompt: a `BoxPrompt`.
        warm_start: a `Supervised` with `BoxFlaws`; `steps` 0 leaves it out.
        train: `method`, and the options of each: a `Supervised` with `BoxFlaws`, an
            `Exploration` with `BoxRewards`.
        evaluation: an `Evaluation`.
    """
    training = read_training(warm_start, train)
    source = read_section(BoxData, "data", data)
    style = box_style(read_section(BoxPrompt, "prompt", prompt))
    geometry, finish = open_policy(policy)
    parts = load_box_parts(source, geometry, seed=seed)
    setup = box_setup(
        parts,
        finish(*box_words(parts, style), style=style),
        style,
        ramps=source.ramps,
        evaluation=read_section(Evaluation, "evaluation", evaluation),
        seed=seed,
        workdir=workdir,
    )
    first, *rest = chain(setup, training)
    return [first._replace(start=setup.policy.load), *rest]


def read_training(
    warm_start: Mapping[str, Any], train: Mapping[str, Any], *, prefix: str = ""
) -> Training:
    """The sections `warm_start` and `train`; `prefix` before their names in errors."""
    supervised = (Supervised, BoxFlaws)
    return Training(
        read_sections(supervised, f"{prefix}warm_start", warm_start),
        check_method(train["method"]),
        read_sections((Exploration, BoxRewards), f"{prefix}train.grpo", train["grpo"]),
        read_sections(supervised, f"{prefix}train.sft", train["sft"]),
    )


def chain(setup: Setup, training: Training, *, prefix: str = "") -> list[Stage]:
    """The stages of a setup, `prefix` before their names."""
    found, before = [], {}
    options, flaws = training.warm_start
    if options.steps:
        name = f"{prefix}warm_start"
        found.append(box_supervised_stage(name, setup, options, flaws, before={}))
        before[name] = setup.workdir / name / "eval"
    make = grpo_stage if training.method == "grpo" else box_supervised_stage
    options, own = training.grpo if training.method == "grpo" else training.sft
    found.append(make(prefix + training.method, setup, options, own, before=before))
    return found


def check_method(method: str) -> str:
    """The method, if it is one."""
    if method not in METHODS:
        raise ValueError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    return method


def grpo_stage(
    name: str,
    setup: Setup,
    options: Exploration,
    rewards: BoxRewards,
    *,
    before: Mapping[str, Path],
) -> Stage:
    """GRPO under a threshold.

    Raises:
        ValueError: `max_tokens` that some right answer exceeds, an unknown schedule.
    """
    schedule = make_schedule(rewards.schedule, rewards.schedule_changes)
    if rewards.reward == "fixed":
        schedule = schedules.fixed_schedule(rewards.fixed_tau)
    build = partial(
        medloc.build,
        rewards=medloc.Rewards(
            accuracy=rewards.reward,
            schedule=schedule,
            total_steps=options.steps,
            entries=rewards.entries,
        ),
    )
    return exploration_stage(
        name,
        setup,
        options,
        rewards,
        build,
        weights=dict.fromkeys(options.python_rewards, 1.0)
        | dict(options.reward_weights),
        show=SHOW,
        check=partial(self_test, setup, tau=float(schedule.target)),
        before=before,
    )


def make_schedule(name: str, changes: Mapping[str, Any]) -> schedules.ThresholdSchedule:
    """A preset with some of its numbers changed."""
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
    return schedule
