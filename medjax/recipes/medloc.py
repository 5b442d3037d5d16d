"""The stages of a `medloc` run: a supervised warm start, then GRPO; or SFT alone."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from medjax.data.chat import Style, special_tokens
from medjax.data.layout import shown_size
from medjax.data.pipeline import Encoding, Record, eval_batches, train_batches
from medjax.data.prompts import plan_buckets
from medjax.data.tokenizer import parse_tables, stop_ids
from medjax.evals.grounding import Answers
from medjax.recipes.grounding_data import Parts, load_parts, no_image_answers
from medjax.recipes.grounding_score import make_score
from medjax.recipes.policy import Policy, pretrained_policy, tiny_geometry, tiny_policy
from medjax.rl import schedules
from medjax.runtime.stages import Stage
from medjax.systems import medloc, supervised
from medjax.systems.grounding import check_answers, make_evaluate
from medjax.systems.optimizer import make_optimizer

SCHEDULES = {
    "piecewise": schedules.piecewise_schedule,
    "linear": schedules.linear_schedule,
    "cosine": schedules.cosine_schedule,
    "conservative": schedules.fixed_conservative_schedule,
    "moderate": schedules.fixed_moderate_schedule,
    "aggressive": schedules.fixed_aggressive_schedule,
}
SHOW = ("tau", "hit_rate", "iou", "reward", "reward_std", "kl", "entropy", "length")
_MULTIPLE = 4  # token counts are rounded up to this


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
        workdir: of the run, where a stage finds the evaluation of the one before.
        policy: options of `tiny_policy`, or `path` and those of `pretrained_policy`.
        data: options of `load_parts`; `ramps`.
        prompt: `system`, `suffix` (empty: none), `answer`.
        warm_start: supervised training before; `steps` 0 leaves it out.
        train: `method` "grpo" or "sft", and its options.
        evaluation: `every`, `limit`, `batch`, and the bootstrap's.
    """
    policy, data = dict(policy), dict(data)
    ramps = data.pop("ramps")
    style = Style(prompt["system"] or None, prompt["suffix"], prompt["answer"])
    parts, made = _load(policy, data, style, seed)
    encoding = _encoding(parts, made, style, ramps)
    shared = _Shared(parts, made, encoding, evaluation, seed, workdir)
    found = []
    if warm_start["steps"]:
        found.append(_supervised_stage("warm_start", shared, warm_start, before=None))
    before = found[-1].name if found else None
    method = train["method"]
    if method == "sft":
        found.append(_supervised_stage("sft", shared, train["sft"], before=before))
    elif method == "grpo":
        found.append(_grpo_stage("grpo", shared, train["grpo"], before=before))
    else:
        raise ValueError(f"method {method!r}: expected 'grpo' or 'sft'")
    found[0] = found[0]._replace(start=made.start)
    return found


class _Shared(NamedTuple):
    """What all stages of a run have in common."""

    parts: Parts
    policy: Policy
    encoding: Encoding
    evaluation: Mapping[str, Any]
    seed: int
    workdir: Path


def _load(
    policy: dict[str, Any], data: dict[str, Any], style: Style, seed: int
) -> tuple[Parts, Policy]:
    """Data and policy; a tiny one's tokenizer is made for the data's words."""
    path = policy.pop("path")
    bounds = {name: policy.pop(name) for name in ("min_pixels", "max_pixels")}
    if path:
        how = {name: policy[name] for name in ("dtype", "param_dtype", "remat")}
        made = pretrained_policy(path, **bounds, **how)
        return load_parts(seed=seed, geometry=made.geometry, **data), made
    tower = policy["vision"]
    geometry = tiny_geometry(tower, **bounds)
    parts = load_parts(seed=seed, geometry=geometry, **data)
    made = tiny_policy(
        parts.train.texts, parts.train.names, style=style, **bounds, **policy
    )
    return parts, made


def _encoding(parts: Parts, policy: Policy, style: Style, ramps: bool) -> Encoding:
    both = (parts.train, parts.test)
    buckets = plan_buckets(
        policy.tokenizer,
        [text for views in both for text in views.texts],
        [name for views in both for name in views.names],
        [shown_size(s, policy.geometry) for views in both for s in views.sizes],
        style=style,
        geometry=policy.geometry,
        slots=max(views.slots for views in both),
        multiple=_MULTIPLE,
    )
    return Encoding(policy.tokenizer, style, policy.geometry, buckets, 1, ramps)


def _common(shared: _Shared, name: str, before: str | None) -> dict[str, Any]:
    """The evaluation of a stage, and the part of its identity that all share."""
    evaluation, policy = shared.evaluation, shared.policy
    encoding = shared.encoding._replace(questions=evaluation["questions"])
    batches = partial(
        eval_batches,
        shared.parts.test,
        encoding,
        batch=evaluation["batch"],
        seed=evaluation["seed"],
        limit=evaluation["limit"] or None,
    )
    memory: dict[str, dict[str, Answers]] = {}

    def baselines(records: Sequence[Record]) -> dict[str, Answers]:
        if "found" not in memory:  # the same at every evaluation of a stage
            memory["found"] = no_image_answers(
                shared.parts, policy.geometry, records, seed=shared.seed
            )
        return memory["found"]

    score = make_score(
        name,
        policy.tokenizer,
        baselines,
        num_samples=evaluation["bootstrap"],
        level=evaluation["level"],
        seed=evaluation["seed"],
        before=shared.workdir / before / "eval" if before else None,
    )
    return {
        "name": name,
        "eval_batches": batches,
        "score": score,
        "evaluate_every": evaluation["every"],
    }


def _evaluate(shared: _Shared, max_tokens: int):  # noqa: ANN202
    policy = shared.policy
    return make_evaluate(
        policy.config,
        parse_tables(policy.tokenizer, policy.config.vocab),
        max_tokens=max_tokens,
        stop_tokens=stop_ids(policy.tokenizer),
        pad=special_tokens(policy.tokenizer).pad,
    )


def _source(
    shared: _Shared,
    *,
    batch: int,
    questions: int,
    loose: Sequence[float] | None,
    seed: int,
) -> Any:  # noqa: ANN401
    processes = jax.process_count()
    if batch % processes:
        raise ValueError(f"batch {batch} is not divisible by {processes} processes")
    return train_batches(
        shared.parts.train,
        shared.encoding._replace(questions=questions),
        batch=batch // processes,
        seed=seed,
        loose=(float(loose[0]), float(loose[1])) if loose else None,
        process_index=jax.process_index(),
        process_count=processes,
    )


def _supervised_stage(
    name: str, shared: _Shared, options: Mapping[str, Any], *, before: str | None
) -> Stage:
    length = max(shared.encoding.buckets.answer)
    system = supervised.build(
        shared.policy.config,
        make_optimizer(steps=options["steps"], **options["optim"]),
        _evaluate(shared, length),
        logit_chunk=options["logit_chunk"],
    )
    source = _source(
        shared,
        batch=options["batch"],
        questions=options["questions"],
        loose=options["loose"],
        seed=shared.seed,
    )
    return Stage(
        system=system,
        source=source,
        steps=options["steps"],
        identity=_identity(shared, options),
        show=("loss", "grad_norm"),
        check=partial(_self_test, shared, tau=0.8),
        **_common(shared, name, before),
    )


def _grpo_stage(
    name: str, shared: _Shared, options: Mapping[str, Any], *, before: str | None
) -> Stage:
    policy, options = shared.policy, dict(options)
    length = max(shared.encoding.buckets.answer)
    room = options["max_tokens"] or length
    if room < length:
        raise ValueError(
            f"max_tokens={room} is too short: the longest right answer has {length} "
            "tokens, so some questions could never earn a reward"
        )
    schedule = make_schedule(options["schedule"], options["schedule_changes"])
    if options["reward"] == "fixed":
        schedule = schedules.fixed_schedule(options["fixed_tau"])
    system = medloc.build(
        policy.config,
        parse_tables(policy.tokenizer, policy.config.vocab),
        make_optimizer(steps=options["steps"], **options["optim"]),
        _evaluate(shared, room),
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
        reward_weights=options["reward_weights"],
        entries=options["entries"],
        iterations=options["iterations"],
        accumulate=options["accumulate"],
        freeze_vision=options["freeze_vision"],
        logit_chunk=options["logit_chunk"],
    )
    source = _source(
        shared,
        batch=options["batch"],
        questions=options["questions"],
        loose=None,
        seed=shared.seed + 1,  # other draws than the warm start's
    )
    return Stage(
        system=system,
        source=source,
        steps=options["steps"],
        identity=_identity(shared, options),
        show=SHOW,
        check=partial(_self_test, shared, tau=float(schedule.target)),
        **_common(shared, name, before),
    )


def make_schedule(name: str, changes: Mapping[str, Any]) -> schedules.ThresholdSchedule:
    """A preset with some of its numbers changed."""
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r}: expected one of {', '.join(SCHEDULES)}")
    schedule = SCHEDULES[name]()._replace(**changes)
    schedules.check_schedule(schedule)
    return schedule


def _identity(shared: _Shared, options: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change when a run resumes."""
    return {"data": dict(shared.parts.identity), "options": dict(options)}


def _self_test(shared: _Shared, *, tau: float) -> None:
    """Ground truth, written as the policy should, earns reward 1."""
    encoding = shared.encoding._replace(questions=4)
    batch, records = next(eval_batches(shared.parts.test, encoding, batch=8, seed=0))
    labels = iter(f"{r.slice_id}, {r.structure}" for r in records)
    names = [next(labels) if ok else "" for ok in np.asarray(batch.valid)]
    tables = parse_tables(shared.policy.tokenizer, shared.policy.config.vocab)
    check_answers(batch, tables, tau=tau, names=names)
