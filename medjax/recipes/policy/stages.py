"""Stages that train a policy: what those about boxes and those about classes share."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grain
import jax
import optax

from medjax.data.batches import Encoding, Parts, Question
from medjax.recipes.policy.alike import check_alike
from medjax.recipes.policy.opened import Policy
from medjax.recipes.policy.python_rewards import (
    PythonRewards,
    load_rewards,
    make_host_rewards,
)
from medjax.recipes.policy.reward_checks import try_rewards
from medjax.recipes.policy.task import Evaluation, ScoredStage, Task, TrainBatches
from medjax.recipes.sections import plain
from medjax.rl.text.boxes import ParseTables
from medjax.runtime.processes import rows_per_process
from medjax.runtime.stages import Stage
from medjax.runtime.watch import Watch
from medjax.systems.optimizer import OptimizerOptions, make_optimizer
from medjax.systems.policy import supervised
from medjax.systems.policy.exploration import Advantages, HostRewards, Step
from medjax.systems.policy.learner import Loss, Teaching
from medjax.types import Decoding, EvaluateFn, PolicyModel, System


class Setup(NamedTuple):
    """What all stages of a run about one kind of answers have in common."""

    task: Task
    parts: Parts
    policy: Policy
    encoding: Encoding
    evaluation: Evaluation
    seed: int  # of data and splits
    workdir: Path  # where a stage finds the evaluation of the one before

    @property
    def answer_length(self) -> int:
        """Tokens of the longest right answer with its stop token, rounded up."""
        return max(self.encoding.buckets.answer)


class Supervised(NamedTuple):
    """A section of the config: training on written answers."""

    steps: int  # 0 leaves a warm start out
    batch: int  # pictures, over all processes
    questions: int  # about each
    optim: OptimizerOptions


class Sampling(NamedTuple):
    """A section of the config: how completions are drawn, see `Decoding`."""

    temperature: float
    top_k: int | None = None
    top_p: float | None = None


class Exploration(NamedTuple):
    """A section of the config: GRPO on sampled answers, whatever they are about."""

    steps: int
    batch: int  # pictures, over all processes
    questions: int  # about each
    group: int  # completions of each prompt
    max_tokens: int  # of a completion; 0: as many as the longest right answer
    sampling: Sampling
    advantages: Advantages
    reward_weights: Mapping[str, float]
    python_rewards: Mapping[str, str]  # name -> "FILE.py:NAME"
    loss: Loss
    iterations: int
    accumulate: int
    optim: OptimizerOptions
    patience: int | None = 50  # steps without a group that has a signal; see `Watch`


class Build(Protocol):
    """A system's `build` with its rewards bound."""

    def __call__(
        self,
        model: PolicyModel,
        tables: ParseTables,
        optimizer: optax.GradientTransformation,
        evaluate: EvaluateFn,
        *,
        step: Step,
        host_rewards: HostRewards | None,
    ) -> System:
        """The system; see `systems.medloc.build`."""
        ...


def supervised_stage(
    name: str,
    setup: Setup,
    options: Supervised,
    *,
    source: grain.IterDataset,
    flaws: NamedTuple,
    check: Callable[[], None],
    before: Mapping[str, Path],
) -> Stage:
    """A stage that trains on written answers.

    Args:
        name: The name of the stage and of its folder.
        setup: What all stages of the run have in common.
        options: Steps, batch and optimiser.
        source: Training batches, as `training_batches` gives them.
        flaws: By these options of the task the answers of `source` are wrong on
            purpose; they are part of the stage's identity.
        check: Called before training; it raises unless ground truth earns reward 1.
        before: Earlier evaluations that get rows of their own in the tables, see
            `scoring`.
    """
    system = supervised.build(
        setup.policy.model,
        make_optimizer(steps=options.steps, **options.optim._asdict()),
        greedy_evaluation(setup, max_tokens=setup.answer_length),
    )
    return Stage(
        name=name,
        system=system,
        source=source,
        steps=options.steps,
        identity=identity(setup, plain(options) | plain(flaws)),
        show=("loss", "grad_norm"),
        accepts=partial(check_trained_alike, setup),
        facts={"trained_with": trained_with(setup)} | data_facts(setup.parts),
        check=check,
        **scoring(setup, name, before=before),
    )


def exploration_stage(
    name: str,
    setup: Setup,
    options: Exploration,
    own: NamedTuple,
    build: Build,
    *,
    weights: Mapping[str, float],
    accuracy: str,
    numbers: Mapping[str, float],
    settle: int,
    show: tuple[str, ...],
    check: Callable[[], None],
    before: Mapping[str, Path],
) -> Stage:
    """GRPO on sampled answers, from other draws than a supervised stage before.

    Args:
        name: The name of the stage and of its folder.
        setup: What all stages of the run have in common.
        options: How it explores and learns.
        own: The system's own options, which are part of the stage's identity.
        build: Makes the system, its rewards bound.
        weights: The weight of every reward, those in Python included.
        accuracy: What the reward for right answers is called in the config, for a
            person whose run learns nothing.
        numbers: What rewards in Python are given first beside lists, `step` excepted.
        settle: Steps after which a hit rate that is high has changed what is paid, if
            it ever does; 0 where nothing changes.
        show: Names of the metrics on the progress line, in this order.
        check: Called before training; it raises unless ground truth earns reward 1.
        before: Earlier evaluations that get rows of their own in the tables, see
            `scoring`.

    Raises:
        ValueError: Some right answer exceeds `max_tokens`.
    """
    policy, longest = setup.policy, setup.answer_length
    room = options.max_tokens or longest
    if room < longest:
        raise ValueError(
            f"max_tokens={room} is too short: the longest right answer has {longest} "
            "tokens, so some questions could never earn a reward"
        )
    seed = setup.seed + 1
    rewards = _python_rewards(setup, options, seed=seed)
    source = training_batches(setup, setup.task.train_batches, options, seed=seed)
    document = plain(options)
    del document["patience"]  # a resume may have more of it, or none
    system = build(
        policy.model,
        policy.tables,
        make_optimizer(steps=options.steps, **options.optim._asdict()),
        greedy_evaluation(setup, max_tokens=room),
        step=Step(
            group=options.group,
            decoding=Decoding(policy.ends, room, *options.sampling),
            advantages=options.advantages,
            reward_weights=weights,
            teaching=Teaching(options.loss, options.iterations, options.accumulate),
        ),
        host_rewards=make_host_rewards(rewards) if rewards else None,
    )
    return Stage(
        name=name,
        system=system,
        source=source,
        steps=options.steps,
        identity=identity(setup, document | plain(own)),
        show=show,
        accepts=partial(check_trained_alike, setup),
        facts={"trained_with": trained_with(setup)} | data_facts(setup.parts),
        check=partial(_check_exploration, check, rewards, source, weights, numbers),
        watch=Watch(
            patience=check_patience(options.patience),
            locate=partial(_locate, _find_records(setup, options, seed=seed)),
            advise=partial(advise, accuracy, weights),
            settle=settle,
        ),
        **scoring(setup, name, before=before),
    )


def check_patience(patience: int | None) -> int:
    """A whole number of steps, 0 for None.

    Args:
        patience: The config's.

    Raises:
        ValueError: A negative number.
    """
    if patience is not None and patience < 0:
        raise ValueError(
            f"train.grpo.patience={patience}: expected a number of steps, or 0 or None "
            "to go on without a signal"
        )
    return patience or 0


def advise(accuracy: str, weights: Mapping[str, float], row: Mapping[str, Any]) -> str:
    """What the completions of a step without a signal earned, and what to try.

    Args:
        accuracy: What the reward for right answers is called in the config.
        weights: The weight of every reward.
        row: The metrics of the step; {} where they are not known.
    """
    means = ", ".join(
        f"{name} {row[f'reward_{name}']:.3g} (weight {weight:g})"
        for name, weight in weights.items()
        if f"reward_{name}" in row
    )
    at = f" at tau {row['tau']:.2f}" if "tau" in row else ""
    what = f"Rewards: {accuracy}{at}; in the last step {means or 'unknown'}. "
    if row.get("parse_rate", 1.0) < 0.5:
        return what + (
            f"Of its completions {1 - row['parse_rate']:.0%} could not be read: try a "
            "longer warm start (warm_start.steps) or a prompt that shows the form."
        )
    return what + (
        "Try more variety (train.grpo.group, train.grpo.sampling.temperature), an "
        "easier or graded reward, or a longer warm start (warm_start.steps); in "
        "another workdir."
    )


def training_batches(
    setup: Setup,
    draw: TrainBatches,
    options: Supervised | Exploration,
    *,
    seed: int,
) -> grain.IterDataset:
    """Batches of `batch` pictures over all processes, `questions` about each.

    Args:
        setup: What all stages of the run have in common.
        draw: Makes the stream; see `task.TrainBatches`.
        options: Its `batch` and `questions` are read.
        seed: Decides the order of the pictures, how they are moved and what is asked.

    Raises:
        ValueError: The processes cannot share the batch equally.
    """
    return draw(
        setup.parts,
        setup.encoding._replace(questions=options.questions),
        batch=rows_per_process(options.batch),
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def greedy_evaluation(setup: Setup, *, max_tokens: int) -> EvaluateFn:
    """`System.evaluate` for the setup's policy, which takes the most likely tokens.

    Args:
        setup: What all stages of the run have in common.
        max_tokens: An answer that is longer is cut.
    """
    decoding = Decoding(setup.policy.ends, max_tokens, temperature=0.0)
    return setup.task.make_evaluate(
        setup.policy.model, setup.policy.tables, decoding=decoding
    )


def scoring(setup: Setup, name: str, *, before: Mapping[str, Path]) -> dict[str, Any]:
    """The fields of a `Stage` that say how it is evaluated, the same for all stages.

    Args:
        setup: What all stages of the run have in common.
        name: The stage's name, which its row of the tables has.
        before: Earlier evaluations that get a row in the tables: row's name -> folder
            with an answers.jsonl, or one with such folders by step, the last of which
            is taken.
    """
    evaluation = setup.evaluation
    batches = partial(
        setup.task.eval_batches,
        setup.parts,
        setup.encoding._replace(questions=evaluation.questions),
        batch=evaluation.batch,
        seed=evaluation.seed,
        limit=evaluation.limit or None,
    )
    stage = ScoredStage(name, setup.policy.tokenizer, evaluation, before)
    return {
        "eval_batches": batches,
        "score": partial(setup.task.score, stage),
        "evaluate_every": evaluation.every,
    }


def identity(setup: Setup, options: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change when a run resumes, as a JSON document.

    Args:
        setup: Data, policy and encoding of the run.
        options: Those of the stage that bear on numbers.
    """
    return {
        "data": dict(setup.parts.identity),
        "images": setup.policy.geometry._asdict() | {"ramps": setup.encoding.ramps},
        "ends": setup.policy.ends._asdict(),
        "prompt": setup.encoding.style._asdict(),
        "tokenizer": setup.policy.digest,
        "policy": dict(setup.policy.identity),
        "options": dict(options),
    }


def check_trained_alike(setup: Setup, stored: Mapping[str, Any]) -> None:
    """Raise ValueError where a policy was trained with other words or other images.

    Args:
        setup: What the policy is about to be evaluated with.
        stored: The identity it was trained with, see `identity`, or what a folder says
            of it; the words of another task, or of other classes, may differ.

    Raises:
        ValueError: What differs, see `check_alike`.
    """
    check_alike(identity(setup, {}), stored)
    if "data" in stored:
        setup.task.check_words(stored["data"], setup.parts.identity)


def trained_with(setup: Setup) -> dict[str, Any]:
    """What a stage's manifest says that the policy was shown and how it may be used.

    Args:
        setup: What all stages of the run have in common.

    Returns:
        A JSON document: how images became numbers, the ids that end and pad answers,
        the words around questions, the chat template, and how the folder that the
        policy came from wants tokens drawn in prediction, which training did not read.
    """
    about = identity(setup, {})
    return {name: about[name] for name in ("images", "ends", "prompt", "tokenizer")} | {
        "chat_template": setup.policy.tokenizer.chat_template,
        "drawing": setup.policy.drawing._asdict(),
    }


def data_facts(parts: Parts) -> dict[str, Any]:
    """What a stage's manifest says of a user's list: nothing of one without faults.

    Args:
        parts: Lines that were left out are named by file and number, without what was
            wrong with them, which may name a patient.
    """
    left_out = {"lines_left_out": [bad.origin for bad in parts.dropped]}
    notes = {"data_notes": list(parts.notes)}
    return (left_out if parts.dropped else {}) | (notes if parts.notes else {})


def _python_rewards(
    setup: Setup, options: Exploration, *, seed: int
) -> PythonRewards | None:
    if not options.python_rewards:
        return None
    return load_rewards(
        options.python_rewards,
        setup.policy.tokenizer,
        _find_records(setup, options, seed=seed),
        setup.task.columns,
    )


def _check_exploration(
    check: Callable[[], None],
    rewards: PythonRewards | None,
    source: grain.IterDataset,
    weights: Mapping[str, float],
    numbers: Mapping[str, float],
) -> list[str]:
    """The self-test of answers, then a trial of the rewards in Python."""
    check()
    if rewards is None:
        return []
    return try_rewards(rewards, next(iter(source)), weights, numbers)


def _find_records(
    setup: Setup, options: Exploration, *, seed: int
) -> Callable[[Sequence[int]], list[Question]]:
    encoding = setup.encoding._replace(questions=options.questions)
    return setup.task.find_records(setup.parts, encoding, seed=seed)


def _locate(
    find_records: Callable[[Sequence[int]], list[Question]], sample_id: int
) -> str:
    (record,) = find_records([sample_id])
    return f"{record.slice_id}, question {record.query!r}"
