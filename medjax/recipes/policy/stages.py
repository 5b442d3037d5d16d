"""Stages that train a policy: what those about boxes and those about classes share."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import grain
import jax
import optax

from medjax.data.batches import Question
from medjax.recipes.policy.audit import make_audit, stage_options, wants_audit
from medjax.recipes.policy.evaluating import (
    check_answers,
    greedy_evaluation,
    scoring,
)
from medjax.recipes.policy.identity import (
    check_trained_alike,
    data_facts,
    identity,
    trained_with,
)
from medjax.recipes.policy.patience import advise, check_patience
from medjax.recipes.policy.python_rewards import (
    PythonRewards,
    load_rewards,
    make_host_rewards,
)
from medjax.recipes.policy.revisiting import RIGHT, as_candidates, make_revisits
from medjax.recipes.policy.reward_checks import try_rewards
from medjax.recipes.policy.setup import (
    Exploration,
    Setup,
    Supervised,
    without_idle_cap,
)
from medjax.recipes.policy.task import TellFn, TrainBatches
from medjax.recipes.policy.training_story import exploration_story, supervised_story
from medjax.recipes.policy.training_tables import watchdog_table
from medjax.recipes.sections import plain
from medjax.rl.schedules import ThresholdSchedule
from medjax.rl.text.boxes import ParseTables
from medjax.runtime.processes import rows_per_process
from medjax.runtime.stages import Stage
from medjax.runtime.watch import Watch
from medjax.runtime.watchdogs import Watchdogs, check_limits
from medjax.systems.optimizer import make_optimizer
from medjax.systems.policy import supervised
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.host_rewards import HostRewards
from medjax.systems.policy.learner import Teaching
from medjax.systems.policy.revisits import Candidates
from medjax.types import Decoding, EvaluateFn, PolicyModel, System


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
        _optimizer(setup, options),
        greedy_evaluation(setup, max_tokens=setup.answer_length),
    )
    words = partial(supervised_story, options.steps)
    scored = scoring(setup, name, before=before, words=words)
    return Stage(
        name=name,
        system=system,
        source=source,
        steps=options.steps,
        tokens=options.batch * options.questions * setup.answer_length,
        identity=identity(setup, plain(options) | plain(flaws)),
        base=setup.policy.base,
        show=("loss", "grad_norm"),
        accepts=partial(check_trained_alike, setup),
        facts={"trained_with": trained_with(setup)} | data_facts(setup.parts),
        check=partial(check_answers, check, setup.evaluation, scored["eval_batches"]),
        **scored,
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
    tell: tuple[TellFn, ...] = (),
    schedule: ThresholdSchedule | None = None,
    paid: str = "",
    classes: Sequence[str] = (),
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
        tell: Tables about the training for the report, beside that of the watchdogs.
        schedule: The numbers of a moving threshold, which an audit names.
        paid: What an IoU earns, one of `medloc.ACCURACY`; "" where there are no boxes.
        classes: Names by index where answers are classes, likewise.

    Raises:
        ValueError: Some right answer exceeds `max_tokens`, or a limit of the watchdogs
            is out of its range.
    """
    policy, room = setup.policy, find_room(setup, options)
    options = without_idle_cap(options, policy)
    seed = draw_seed(setup)
    rewards = python_rewards(setup, options)
    revisits = make_revisits(setup, options, weights)
    drawn = options
    if revisits is not None:
        drawn = options._replace(batch=options.batch * options.revisit.candidates)
    source = training_batches(setup, setup.task.train_batches, drawn, seed=seed)
    if revisits is not None:
        source = as_candidates(source, setup, options, seed=seed)
    document = stage_options(options, own)
    dogs = Watchdogs(
        check_limits(options.watchdogs, "train.grpo.watchdogs"),
        weights,
        options.advantages.normalise == "parts",
        RIGHT,
    )
    watch = Watch(
        patience=check_patience(options.patience),
        locate=partial(_locate, _find_records(setup, options, seed=seed)),
        advise=partial(advise, accuracy, weights),
        settle=settle,
        dogs=dogs,
    )
    scored = scoring(
        setup,
        name,
        before=before,
        tell=(*tell, partial(watchdog_table, dogs)),
        words=partial(exploration_story, options.steps, watch, paid, schedule),
    )
    system = build(
        policy.model,
        policy.tables,
        _optimizer(setup, options),
        greedy_evaluation(setup, max_tokens=room),
        step=make_step(setup, options, weights)._replace(revisits=revisits),
        host_rewards=make_host_rewards(rewards) if rewards else None,
    )
    return Stage(
        name=name,
        system=system,
        source=source,
        steps=options.steps,
        tokens=options.batch * options.questions * options.group * room,
        identity=identity(setup, document),
        base=setup.policy.base,
        show=show,
        accepts=partial(check_trained_alike, setup),
        facts={"trained_with": trained_with(setup)} | data_facts(setup.parts),
        check=partial(
            _check_exploration,
            partial(check_answers, check, setup.evaluation, scored["eval_batches"]),
            rewards,
            source,
            weights,
            numbers,
        ),
        watch=watch,
        audit=make_audit(
            name,
            setup,
            document,
            weights,
            room=room,
            schedule=schedule,
            classes=classes,
        )
        if wants_audit(options.audit)
        else None,
        **scored,
    )


def _optimizer(
    setup: Setup, options: Supervised | Exploration
) -> optax.GradientTransformation:
    key = jax.random.key(setup.seed)
    return make_optimizer(steps=options.steps, key=key, **options.optim._asdict())


def draw_seed(setup: Setup) -> int:
    """The seed of an exploration's draws: others than of supervised answers before it.

    Args:
        setup: What all stages of the run have in common.
    """
    return setup.seed + 1


def find_room(setup: Setup, options: Exploration) -> int:
    """How many tokens a completion may have.

    Args:
        setup: Its longest right answer has to fit.
        options: Their `max_tokens`; 0 is as many as that answer has.

    Raises:
        ValueError: They are too few.
    """
    longest = setup.answer_length
    room = options.max_tokens or longest
    if room < longest:
        raise ValueError(
            f"max_tokens={room} is too short: the longest right answer has {longest} "
            "tokens, so some questions could never earn a reward"
        )
    return room


def make_step(setup: Setup, options: Exploration, weights: Mapping[str, float]) -> Step:
    """How a policy explores and learns, where all pictures are visited alike.

    Args:
        setup: What all stages of the run have in common.
        options: How it explores and learns.
        weights: The weight of every reward, those in Python included.
    """
    room = find_room(setup, options)
    return Step(
        group=options.group,
        decoding=Decoding(setup.policy.ends, room, *options.sampling),
        advantages=options.advantages,
        reward_weights=weights,
        teaching=Teaching(options.loss, options.iterations, options.accumulate),
        sampler=setup.policy.sampler,
        audit=wants_audit(options.audit),
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


def python_rewards(setup: Setup, options: Exploration) -> PythonRewards | None:
    """A stage's rewards in Python with what they are given, None without any.

    Args:
        setup: What all stages of the run have in common.
        options: Their `python_rewards` are loaded, which runs their files.
    """
    if not options.python_rewards:
        return None
    return load_rewards(
        options.python_rewards,
        setup.policy.tokenizer,
        _find_records(setup, options, seed=draw_seed(setup)),
        setup.task.columns,
    )


def _check_exploration(
    check: Callable[[], None],
    rewards: PythonRewards | None,
    source: grain.IterDataset,
    weights: Mapping[str, float],
    numbers: Mapping[str, float],
) -> list[str]:
    """What `check` tests, then a trial of the rewards in Python."""
    check()
    if rewards is None:
        return []
    batch = next(iter(source))
    if isinstance(batch, Candidates):
        batch = batch.batch
    return try_rewards(rewards, batch, weights, numbers)


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
