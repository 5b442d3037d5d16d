"""What the stages of a grounding run share: data, policy, baselines, the self-test."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grain
import numpy as np

from medjax.data.batches import Encoding, Parts
from medjax.data.boxes.batches import Record, eval_batches, train_batches
from medjax.data.boxes.sources import load_parts
from medjax.data.prompting.chat import (
    Style,
    longest_answers,
    named_style,
    sample_answers,
)
from medjax.data.prompting.layout import Geometry, shown_size
from medjax.data.prompting.prompts import plan_buckets
from medjax.data.prompting.tokenizer import parse_tables
from medjax.evals.boxes import Answers
from medjax.recipes.boxes.score import make_score, no_image_answers
from medjax.recipes.policy.opening import Policy, open_policy
from medjax.recipes.policy.stages import Kind, Setup
from medjax.systems.policy.boxes import check_answers, make_evaluate

_MULTIPLE = 4  # token counts are rounded up to this
_CHECKED = (8, 4)  # pictures and questions about each that the self-test looks at
WARM_TAU = 0.8  # IoU of a tight answer in whole pixels


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
        policy: options of `open_policy`.
        data: options of `load_parts`; `ramps`.
        prompt: options of `named_style`.
        evaluation: `every`, `limit`, `batch`, `questions`, and the bootstrap's.
    """
    style = make_style(prompt)
    geometry, finish = open_policy(policy)
    parts = load_grounding(data, geometry, seed=seed)
    made = finish(*grounding_words(parts, style), style=style)
    return grounding_setup(
        parts,
        made,
        style,
        ramps=data["ramps"],
        evaluation=evaluation,
        seed=seed,
        workdir=workdir,
    )


def make_style(prompt: Mapping[str, Any]) -> Style:
    """The words around a question from a config's section, see `named_style`."""
    return named_style(
        system=prompt["system"], suffix=prompt["suffix"], answer=prompt["answer"]
    )


def load_grounding(data: Mapping[str, Any], geometry: Geometry, *, seed: int) -> Parts:
    """The parts that a config's section names; see `load_parts`."""
    options = {name: value for name, value in data.items() if name != "ramps"}
    return load_parts(seed=seed, geometry=geometry, **options)


def grounding_words(parts: Parts, style: Style) -> tuple[Sequence[str], Sequence[str]]:
    """Questions, and answers such as a policy will write, for a tiny one's words."""
    return parts.train.texts, sample_answers(parts.train.names, style=style.answer)


def grounding_setup(
    parts: Parts,
    policy: Policy,
    style: Style,
    *,
    ramps: bool,
    evaluation: Mapping[str, Any],
    seed: int,
    workdir: Path,
) -> Setup:
    """Data and policy as the stages take them; see `make_setup`."""
    both = (parts.train, parts.test)
    names = [name for views in both for name in views.names]
    sizes = [shown_size(s, policy.geometry) for views in both for s in views.sizes]
    buckets = plan_buckets(
        policy.tokenizer,
        [text for views in both for text in views.texts],
        longest_answers(names, sizes=sizes, style=style.answer),
        sizes,
        style=style,
        geometry=policy.geometry,
        slots=max(views.slots for views in both),
        multiple=_MULTIPLE,
    )
    encoding = Encoding(policy.tokenizer, style, policy.geometry, buckets, 1, ramps)
    tables = parse_tables(policy.tokenizer, policy.config.vocab)
    baselines = _remembered(
        partial(no_image_answers, parts, policy.geometry, seed=seed)
    )
    kind = Kind(
        train_batches=_train_batches,
        eval_batches=lambda parts, *encoding, **how: eval_batches(
            parts.test, *encoding, **how
        ),
        make_evaluate=make_evaluate,
        make_score=partial(make_score, baselines=baselines),
        check=partial(self_test, tau=WARM_TAU),
    )
    return Setup(parts, policy, encoding, tables, evaluation, seed, workdir, kind)


def self_test(setup: Setup, *, tau: float) -> None:
    """Raise unless ground truth, written as the policy should, earns reward 1."""
    pictures, questions = _CHECKED
    encoding = setup.encoding._replace(questions=questions)
    first = eval_batches(setup.parts.test, encoding, batch=pictures, seed=0)
    batch, records = next(first)
    labels = iter(f"{r.slice_id}, {r.structure}" for r in records)
    names = [next(labels) if ok else "" for ok in np.asarray(batch.valid)]
    check_answers(batch, setup.tables, tau=tau, names=names)


def _train_batches(
    parts: Parts, encoding: Encoding, options: Mapping[str, Any], **where: int
) -> grain.IterDataset:
    """`loose` in the options enlarges the supervised answers' boxes."""
    loose = options.get("loose")
    factors = (float(loose[0]), float(loose[1])) if loose else None
    return train_batches(parts.train, encoding, loose=factors, **where)


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
