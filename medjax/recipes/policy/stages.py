"""Stages that train a policy: what those about boxes and those about classes share."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax

from medjax.data.batches import Encoding, Parts
from medjax.data.classes.knowledge import check_same_wording
from medjax.data.prompting.chat import special_tokens
from medjax.data.prompting.tokenizer import stop_ids, tokenizer_digest
from medjax.recipes.policy.opening import Policy
from medjax.rl.text.boxes import ParseTables
from medjax.runtime.stages import Stage
from medjax.systems.optimizer import make_optimizer
from medjax.systems.policy import supervised
from medjax.types import System

_SCHEDULING = ("remat", "scan_unroll")  # fields of a policy that bear on no number


class Kind(NamedTuple):
    """What differs between boxes and classes."""

    # (parts, encoding, options, *, batch, seed, process_index, process_count)
    train_batches: Callable[..., grain.IterDataset]
    eval_batches: Callable[..., Any]  # (parts, encoding, *, batch, seed, limit)
    make_evaluate: Callable[
        ..., Any
    ]  # (config, tables, *, max_tokens, stop_tokens, pad)
    make_score: Callable[
        ..., Any
    ]  # (stage, tokenizer, *, num_samples, level, seed, before)
    check: Callable[..., None]  # (setup): ground truth earns reward 1, or raise


class Setup(NamedTuple):
    """What all stages of a run about one kind of answers have in common."""

    parts: Parts
    policy: Policy
    encoding: Encoding
    tables: ParseTables  # of the policy's vocabulary
    evaluation: Mapping[str, Any]
    seed: int
    workdir: Path
    kind: Kind

    @property
    def answer_length(self) -> int:
        """Tokens of the longest right answer, rounded up."""
        return max(self.encoding.buckets.answer)


def supervised_stage(
    name: str,
    setup: Setup,
    options: Mapping[str, Any],
    *,
    before: Mapping[str, Path],
) -> Stage:
    """Training on written answers.

    Args:
        name: of the stage.
        setup: of the run.
        options: `steps`, `batch`, `questions`, `optim`, `logit_chunk`, and what the
            setup's batches take.
        before: evaluations for rows of their own, see `scoring`.
    """
    system = supervised.build(
        setup.policy.config,
        make_optimizer(steps=options["steps"], **options["optim"]),
        greedy_evaluation(setup, max_tokens=setup.answer_length),
        logit_chunk=options["logit_chunk"],
    )
    fields = stage_fields(setup, name, options, seed=setup.seed, before=before)
    return Stage(system=system, show=("loss", "grad_norm"), **fields)


def exploration_stage(
    name: str,
    setup: Setup,
    options: Mapping[str, Any],
    build: Callable[..., System],
    *,
    before: Mapping[str, Path],
    **fields: Any,
) -> Stage:
    """GRPO on sampled answers, from other draws than a supervised stage before.

    Args:
        name: of the stage.
        setup: of the run.
        options: those of `exploration.build`, `max_tokens` 0 being as long as the
            longest right answer; `steps`, `batch`, `questions`, `optim`.
        build: (config, tables, optimizer, evaluate, **step options) -> System.
        before: evaluations for rows of their own, see `scoring`.
        fields: of the `Stage`.

    Raises:
        ValueError: `max_tokens` that some right answer exceeds.
    """
    policy, longest = setup.policy, setup.answer_length
    room = options["max_tokens"] or longest
    if room < longest:
        raise ValueError(
            f"max_tokens={room} is too short: the longest right answer has {longest} "
            "tokens, so some questions could never earn a reward"
        )
    system = build(
        policy.config,
        setup.tables,
        make_optimizer(steps=options["steps"], **options["optim"]),
        greedy_evaluation(setup, max_tokens=room),
        group=options["group"],
        max_tokens=room,
        stop_tokens=stop_ids(policy.tokenizer),
        pad=special_tokens(policy.tokenizer).pad,
        sampling=options["sampling"],
        advantages=options["advantages"],
        loss=options["loss"],
        iterations=options["iterations"],
        accumulate=options["accumulate"],
        freeze_vision=options["freeze_vision"],
        logit_chunk=options["logit_chunk"],
    )
    shared = stage_fields(setup, name, options, seed=setup.seed + 1, before=before)
    return Stage(system=system, **(shared | fields))


def stage_fields(
    setup: Setup,
    name: str,
    options: Mapping[str, Any],
    *,
    seed: int,
    before: Mapping[str, Path],
) -> dict[str, Any]:
    """The fields of a `Stage` that every stage of a setup has alike."""
    return {
        "name": name,
        "source": training_batches(setup, options, seed=seed),
        "steps": options["steps"],
        "identity": identity(setup, options),
        "accepts": partial(check_trained_alike, setup),
        "check": partial(setup.kind.check, setup),
        **scoring(setup, name, before=before),
    }


def training_batches(
    setup: Setup, options: Mapping[str, Any], *, seed: int
) -> grain.IterDataset:
    """Batches of `batch` pictures over all processes, `questions` about each."""
    batch, processes = options["batch"], jax.process_count()
    if batch % processes:
        raise ValueError(f"batch {batch} is not divisible by {processes} processes")
    return setup.kind.train_batches(
        setup.parts,
        setup.encoding._replace(questions=options["questions"]),
        options,
        batch=batch // processes,
        seed=seed,
        process_index=jax.process_index(),
        process_count=processes,
    )


def greedy_evaluation(setup: Setup, *, max_tokens: int) -> Callable[..., Any]:
    """`System.evaluate` for the setup's policy."""
    policy = setup.policy
    return setup.kind.make_evaluate(
        policy.config,
        setup.tables,
        max_tokens=max_tokens,
        stop_tokens=stop_ids(policy.tokenizer),
        pad=special_tokens(policy.tokenizer).pad,
    )


def scoring(setup: Setup, name: str, *, before: Mapping[str, Path]) -> dict[str, Any]:
    """The fields of a `Stage` that say how it is evaluated, the same for all stages.

    `before` gives earlier evaluations a row in the tables: row's name -> folder with
    an answers.jsonl, or one with such folders by step, the last of which is taken.
    """
    evaluation = setup.evaluation
    batches = partial(
        setup.kind.eval_batches,
        setup.parts,
        setup.encoding._replace(questions=evaluation["questions"]),
        batch=evaluation["batch"],
        seed=evaluation["seed"],
        limit=evaluation["limit"] or None,
    )
    score = setup.kind.make_score(
        name,
        setup.policy.tokenizer,
        num_samples=evaluation["bootstrap"],
        level=evaluation["level"],
        seed=evaluation["seed"],
        before=before,
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
        "tokenizer": tokenizer_digest(setup.policy.tokenizer),
        "policy": {k: x for k, x in policy.items() if k not in _SCHEDULING},
        "options": dict(options),
    }


def check_trained_alike(setup: Setup, stored: Mapping[str, Any]) -> None:
    """Raise ValueError where a policy was trained with other words or other images.

    Args:
        setup: what it is about to be evaluated with.
        stored: the identity it was trained with, see `identity`; the words of another
            task, or of other classes, may differ.
    """
    ours = identity(setup, {})
    for what, mine, theirs in (
        ("tokenizer", ours["tokenizer"], stored.get("tokenizer")),
        ("ramps", ours["images"]["ramps"], stored["images"]["ramps"]),
    ):
        if mine != theirs:
            raise ValueError(
                f"the checkpoint was trained with another {what} ({theirs}, here "
                f"{mine}): name the config that it was trained with"
            )
    mine, theirs = (about["data"].get("words") for about in (ours, stored))
    if mine and theirs and mine["classes"] == theirs["classes"]:
        check_same_wording(theirs, mine)
