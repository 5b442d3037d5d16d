"""The stages of a `medloc` run: a supervised warm start, then GRPO; or SFT alone."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from medjax.data.chat import special_tokens
from medjax.data.pipeline import find_records
from medjax.data.tokenizer import stop_ids
from medjax.recipes.grounding_stages import (
    Setup,
    greedy_evaluation,
    identity,
    make_setup,
    scoring,
    self_test,
    supervised_stage,
    training_batches,
)
from medjax.recipes.python_rewards import load_reward, make_host_rewards
from medjax.rl import schedules
from medjax.runtime.stages import Stage
from medjax.systems import medloc
from medjax.systems.optimizer import make_optimizer

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
    method = train["method"]
    if method not in METHODS:
        raise ValueError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    setup = make_setup(seed=seed, workdir=workdir, **sections)
    found = []
    if warm_start["steps"]:
        found.append(supervised_stage("warm_start", setup, warm_start, before=None))
    before = found[-1].name if found else None
    make_stage = grpo_stage if method == "grpo" else supervised_stage
    found.append(make_stage(method, setup, train[method], before=before))
    found[0] = found[0]._replace(start=setup.policy.start)
    return found


def grpo_stage(
    name: str, setup: Setup, options: Mapping[str, Any], *, before: str | None
) -> Stage:
    """GRPO under a threshold; the options are those of `systems.medloc.build`.

    Raises:
        ValueError: `max_tokens` that some right answer exceeds, an unknown schedule.
    """
    policy, longest = setup.policy, setup.answer_length
    room = options["max_tokens"] or longest
    if room < longest:
        raise ValueError(
            f"max_tokens={room} is too short: the longest right answer has {longest} "
            "tokens, so some questions could never earn a reward"
        )
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
        host_rewards = make_host_rewards(functions, policy.tokenizer, records)
    system = medloc.build(
        policy.config,
        setup.tables,
        make_optimizer(steps=options["steps"], **options["optim"]),
        greedy_evaluation(setup, max_tokens=room),
        accuracy=options["reward"],
        schedule=schedule,
        total_steps=options["steps"],
        group=options["group"],
        max_tokens=room,
        stop_tokens=stop_ids(policy.tokenizer),
        pad=special_tokens(policy.tokenizer).pad,
        sampling=options["sampling"],
        advantages=options["advantages"],
        loss=options["loss"],
        reward_weights=dict.fromkeys(functions, 1.0) | dict(options["reward_weights"]),
        entries=options["entries"],
        iterations=options["iterations"],
        accumulate=options["accumulate"],
        freeze_vision=options["freeze_vision"],
        logit_chunk=options["logit_chunk"],
        host_rewards=host_rewards,
    )
    # other draws than the warm start's
    source = training_batches(setup, options, seed=setup.seed + 1)
    return Stage(
        name=name,
        system=system,
        source=source,
        steps=options["steps"],
        identity=identity(setup, options),
        show=SHOW,
        check=partial(self_test, setup, tau=float(schedule.target)),
        **scoring(setup, name, before=before),
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
