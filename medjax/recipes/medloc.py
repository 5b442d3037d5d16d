"""The stages of a `medloc` run: a supervised warm start, then GRPO; or SFT alone."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from medjax.data.boxes.batches import find_records
from medjax.recipes.boxes.task import make_setup, self_test
from medjax.recipes.policy.python_rewards import (
    box_columns,
    load_reward,
    make_host_rewards,
)
from medjax.recipes.policy.stages import Setup, exploration_stage, supervised_stage
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


def stages(
    *,
    seed: int,
    workdir: Path,
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    **sections: Mapping[str, Any],
) -> list[Stage]:
    """What `run_stages` runs for the sections of `configs/medloc.py`.

    Args:
        seed: of data and splits.
        workdir: of the run.
        warm_start: supervised training before; `steps` 0 leaves it out.
        train: `method` "grpo" or "sft", and its options.
        sections: `policy`, `data`, `prompt` and `evaluation`, see `make_setup`.
    """
    check_method(train["method"])
    setup = make_setup(seed=seed, workdir=workdir, **sections)
    found = chain(setup, warm_start=warm_start, train=train)
    found[0] = found[0]._replace(start=setup.policy.start)
    return found


def chain(
    setup: Setup,
    *,
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    prefix: str = "",
) -> list[Stage]:
    """The stages of a setup, `prefix` before their names."""
    method = check_method(train["method"])
    found = []
    if warm_start["steps"]:
        name = f"{prefix}warm_start"
        found.append(supervised_stage(name, setup, warm_start, before={}))
    before = {stage.name: setup.workdir / stage.name / "eval" for stage in found}
    make_stage = grpo_stage if method == "grpo" else supervised_stage
    found.append(make_stage(prefix + method, setup, train[method], before=before))
    return found


def check_method(method: str) -> str:
    """The method, if it is one."""
    if method not in METHODS:
        raise ValueError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    return method


def grpo_stage(
    name: str,
    setup: Setup,
    options: Mapping[str, Any],
    *,
    before: Mapping[str, Path],
) -> Stage:
    """GRPO under a threshold; the options are those of `systems.medloc.build`.

    Raises:
        ValueError: `max_tokens` that some right answer exceeds, an unknown schedule.
    """
    schedule = make_schedule(options["schedule"], options["schedule_changes"])
    if options["reward"] == "fixed":
        schedule = schedules.fixed_schedule(options["fixed_tau"])
    functions = {
        name: load_reward(where) for name, where in options["python_rewards"].items()
    }
    host_rewards = None
    if functions:
        asked = setup.encoding._replace(questions=options["questions"])
        records = find_records(setup.parts.train, asked, seed=setup.seed + 1)
        host_rewards = make_host_rewards(
            functions, setup.policy.tokenizer, records, box_columns
        )
    build = partial(
        medloc.build,
        accuracy=options["reward"],
        schedule=schedule,
        total_steps=options["steps"],
        reward_weights=dict.fromkeys(functions, 1.0) | dict(options["reward_weights"]),
        entries=options["entries"],
        host_rewards=host_rewards,
    )
    return exploration_stage(
        name,
        setup,
        options,
        build,
        before=before,
        show=SHOW,
        check=partial(self_test, setup, tau=float(schedule.target)),
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
