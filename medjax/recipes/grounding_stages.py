"""What the stages of a grounding run share: data, policy, evaluation, warm start."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from medjax.data.batches import Encoding
from medjax.data.chat import (
    Style,
    longest_answers,
    sample_answers,
    special_tokens,
)
from medjax.data.layout import shown_size
from medjax.data.pipeline import Record, eval_batches, train_batches
from medjax.data.prompts import plan_buckets
from medjax.data.tokenizer import parse_tables, stop_ids
from medjax.evals.grounding import Answers
from medjax.recipes.grounding_data import Parts, load_parts, no_image_answers
from medjax.recipes.grounding_score import make_score
from medjax.recipes.policy import Policy, pretrained_policy, tiny_geometry, tiny_policy
from medjax.rl.parse import ParseTables
from medjax.runtime.stages import Stage
from medjax.systems import supervised
from medjax.systems.grounding import check_answers, make_evaluate
from medjax.systems.optimizer import make_optimizer

_MULTIPLE = 4  # token counts are rounded up to this
_CHECKED = (8, 4)  # pictures and questions about each that the self-test looks at
_SCHEDULING = ("remat", "scan_unroll")  # fields of a policy that bear on no number


class Setup(NamedTuple):
    """What all stages of a run have in common."""

    parts: Parts
    policy: Policy
    encoding: Encoding
    tables: ParseTables  # of the policy's vocabulary
    evaluation: Mapping[str, Any]
    baselines: Callable[[Sequence[Record]], dict[str, Answers]]  # that see no image
    seed: int
    workdir: Path

    @property
    def answer_length(self) -> int:
        """Tokens of the longest right answer, rounded up."""
        return max(self.encoding.buckets.answer)


def make_setup(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> Setup:
    """Load data and policy as the sections of a config say.

    Args:
        seed: of data and splits.
        workdir: of the run, where a stage finds the evaluation of the one before.
        policy: options of `tiny_policy`, or `path` and those of `pretrained_policy`.
        data: options of `load_parts`; `ramps`.
        prompt: `system`, `suffix` (empty: none), `answer`.
        evaluation: `every`, `limit`, `batch`, `questions`, and the bootstrap's.
    """
    style = Style(prompt["system"] or None, prompt["suffix"], prompt["answer"])
    data = dict(data)
    ramps = data.pop("ramps")
    load = partial(load_parts, seed=seed, **data)
    parts, made = _load(dict(policy), load, style)
    both = (parts.train, parts.test)
    names = [name for views in both for name in views.names]
    sizes = [shown_size(s, made.geometry) for views in both for s in views.sizes]
    buckets = plan_buckets(
        made.tokenizer,
        [text for views in both for text in views.texts],
        longest_answers(names, sizes=sizes, style=style.answer),
        sizes,
        style=style,
        geometry=made.geometry,
        slots=max(views.slots for views in both),
        multiple=_MULTIPLE,
    )
    encoding = Encoding(made.tokenizer, style, made.geometry, buckets, 1, ramps)
    tables = parse_tables(made.tokenizer, made.config.vocab)
    baselines = _remembered(partial(no_image_answers, parts, made.geometry, seed=seed))
    return Setup(parts, made, encoding, tables, evaluation, baselines, seed, workdir)


def _remembered(
    baselines: Callable[[Sequence[Record]], dict[str, Answers]],
) -> Callable[[Sequence[Record]], dict[str, Answers]]:
    """Computed once: every evaluation of a run asks the same questions."""
    memory: dict[str, dict[str, Answers]] = {}

    def answers(records: Sequence[Record]) -> dict[str, Answers]:
        if "found" not in memory:
            memory["found"] = baselines(records)
        return memory["found"]

    return answers


def _load(
    policy: dict[str, Any], load: Callable[..., Parts], style: Style
) -> tuple[Parts, Policy]:
    """Data and policy; a tiny one's tokenizer is made for the data's words."""
    path = policy.pop("path")
    bounds = {name: policy.pop(name) for name in ("min_pixels", "max_pixels")}
    if path:
        how = {name: policy[name] for name in ("dtype", "param_dtype", "remat")}
        made = pretrained_policy(path, **bounds, **how)
        return load(geometry=made.geometry), made
    geometry = tiny_geometry(policy["vision"], **bounds)
    parts = load(geometry=geometry)
    texts = parts.train.texts
    answers = sample_answers(parts.train.names, style=style.answer)
    return parts, tiny_policy(texts, answers, style=style, **bounds, **policy)


def supervised_stage(
    name: str, setup: Setup, options: Mapping[str, Any], *, before: str | None
) -> Stage:
    """Training on written answers; `loose` in the options enlarges their boxes."""
    system = supervised.build(
        setup.policy.config,
        make_optimizer(steps=options["steps"], **options["optim"]),
        greedy_evaluation(setup, max_tokens=setup.answer_length),
        logit_chunk=options["logit_chunk"],
    )
    return Stage(
        name=name,
        system=system,
        source=training_batches(setup, options, seed=setup.seed),
        steps=options["steps"],
        identity=identity(setup, options),
        show=("loss", "grad_norm"),
        check=partial(self_test, setup, tau=0.8),
        **scoring(setup, name, before=before),
    )


def training_batches(
    setup: Setup, options: Mapping[str, Any], *, seed: int
) -> grain.IterDataset:
    """Batches of `batch` pictures over all processes, `questions` about each."""
    batch, processes = options["batch"], jax.process_count()
    if batch % processes:
        raise ValueError(f"batch {batch} is not divisible by {processes} processes")
    loose = options.get("loose")
    return train_batches(
        setup.parts.train,
        setup.encoding._replace(questions=options["questions"]),
        batch=batch // processes,
        seed=seed,
        loose=(float(loose[0]), float(loose[1])) if loose else None,
        process_index=jax.process_index(),
        process_count=processes,
    )


def greedy_evaluation(setup: Setup, *, max_tokens: int) -> Callable[..., Any]:
    """`System.evaluate` for the setup's policy."""
    policy = setup.policy
    return make_evaluate(
        policy.config,
        setup.tables,
        max_tokens=max_tokens,
        stop_tokens=stop_ids(policy.tokenizer),
        pad=special_tokens(policy.tokenizer).pad,
    )


def scoring(setup: Setup, name: str, *, before: str | None) -> dict[str, Any]:
    """The fields of a `Stage` that say how it is evaluated, the same for all stages."""
    evaluation = setup.evaluation
    batches = partial(
        eval_batches,
        setup.parts.test,
        setup.encoding._replace(questions=evaluation["questions"]),
        batch=evaluation["batch"],
        seed=evaluation["seed"],
        limit=evaluation["limit"] or None,
    )
    score = make_score(
        name,
        setup.policy.tokenizer,
        setup.baselines,
        num_samples=evaluation["bootstrap"],
        level=evaluation["level"],
        seed=evaluation["seed"],
        before=setup.workdir / before / "eval" if before else None,
    )
    every = evaluation["every"]
    return {"eval_batches": batches, "score": score, "evaluate_every": every}


def identity(setup: Setup, options: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change when a run resumes."""
    policy = asdict(setup.policy.config)
    return {
        "data": dict(setup.parts.identity),
        "images": setup.policy.geometry._asdict() | {"ramps": setup.encoding.ramps},
        "prompt": setup.encoding.style._asdict(),
        "policy": {k: x for k, x in policy.items() if k not in _SCHEDULING},
        "options": dict(options),
    }


def self_test(setup: Setup, *, tau: float) -> None:
    """Raise unless ground truth, written as the policy should, earns reward 1."""
    pictures, questions = _CHECKED
    encoding = setup.encoding._replace(questions=questions)
    first = eval_batches(setup.parts.test, encoding, batch=pictures, seed=0)
    batch, records = next(first)
    labels = iter(f"{r.slice_id}, {r.structure}" for r in records)
    names = [next(labels) if ok else "" for ok in np.asarray(batch.valid)]
    check_answers(batch, setup.tables, tau=tau, names=names)
