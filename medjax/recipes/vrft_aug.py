"""The stages of a `vrft_aug` run: localisation first if wanted, then classes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.batches import Parts
from medjax.data.classes.medmnist import EVERY, Slices
from medjax.data.classes.sources import LabelParts, load_label_parts
from medjax.data.classes.tasks import label_instruction
from medjax.data.lists.reading import split_reading
from medjax.data.prompting.chat import Style, named_style
from medjax.recipes import medloc
from medjax.recipes.boxes.task import (
    BoxData,
    BoxPrompt,
    box_setup,
    box_style,
    box_words,
    load_box_parts,
)
from medjax.recipes.classes.rewards import LabelRewards, make_rewards, reward_weights
from medjax.recipes.classes.score import Probe
from medjax.recipes.classes.task import (
    LabelFlaws,
    LabelRun,
    label_corpus,
    label_run,
    label_supervised_stage,
    self_test,
)
from medjax.recipes.policy.opened import Policy
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.scoring import tell
from medjax.recipes.policy.stages import Exploration, Supervised, exploration_stage
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section, read_sections
from medjax.runtime.stages import Stage
from medjax.systems import vrft_aug

BOXES = "boxes_"  # before the names of the localisation stages
ZERO_SHOT = "localisation, zero-shot"
SHOW = ("hit_rate", "reward", "reward_std", "overlap", "kl", "entropy", "length")


class LabelData(NamedTuple):
    """The section `data`: options of `load_label_parts` and others."""

    source: str
    size: tuple[int, int]
    field: float
    margin: float
    least: float
    shift: float
    scale: tuple[float, float]
    mirror: bool
    test_draws: int
    balance: bool
    classes: str
    ordinal: bool | None
    question: str
    test: str
    test_share: float
    descriptions: str
    prompt_knowledge: bool
    recite: bool
    reason_words: int
    phrasings: int
    ramps: bool  # draw where a pixel lies into the picture, see `add_ramps`
    probe: Probe
    slices: Slices = EVERY
    group: str | tuple[str, ...] = ()  # this and what follows: see `Reading`
    readers: str = ""
    on_bad: str = "stop"
    near: str = "report"
    coords: str = ""
    answers: str = "one"
    format: str = ""
    official: bool = True
    fold: int = 0
    window: tuple[float, ...] = ()
    pixels: str = ""


class LabelPrompt(NamedTuple):
    """The section `prompt` of a config: the words around a question."""

    system: str  # see `named_style`
    answer: str  # letter, name or grade; empty: grade where ordinal, or letter
    instruct: bool  # say how to answer
    room: int  # tokens that a question may have, knowledge included


class Localisation(NamedTuple):
    """The section `localisation` of a config: a `medloc` run that comes first."""

    use: bool
    words: bool  # a tiny policy gets the words of boxes also where they are not used
    data: BoxData
    prompt: BoxPrompt
    training: medloc.Training
    evaluation: Evaluation


class Training(NamedTuple):
    """The stages about classes that a config's sections ask for."""

    warm_start: tuple[Supervised, LabelFlaws]
    method: str  # one of medloc.METHODS
    grpo: tuple[Exploration, LabelRewards]
    sft: tuple[Supervised, LabelFlaws]


def stages(
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
) -> list[Stage]:
    """What `run_stages` runs for the sections of `configs/vrft_aug.py`.

    Args:
        seed: Decides splits, the order and the draws of training, and the baselines'
            draws.
        workdir: The run's folder, the one that `run_stages` is given.
        policy: Section of the config with the options of the policy, see `open_policy`.
        prompt: Section of the config with the options of a `LabelPrompt`.
        data: Section of the config with the options of a `LabelData`.
        localisation: Section of the config with those of a `Localisation`; its
            `warm_start` and `train` are those of `medloc.stages`.
        warm_start: Section of the config with the options of a `Supervised` and of
            `LabelFlaws`; `steps` of 0 leave the stage out.
        train: Section of the config with `method`, and a section for each: `sft` like
            `warm_start`, `grpo` with the options of an `Exploration` and of
            `LabelRewards`.
        evaluation: Section of the config with the options of an `Evaluation`.

    Raises:
        ValueError: An option is unknown, missing, or of a value that does not fit.
    """
    training = read_training(warm_start, train)
    first = read_localisation(localisation)
    source = read_section(LabelData, "data", data)
    words = read_section(LabelPrompt, "prompt", prompt)
    geometry, finish = open_policy(policy)
    labels = load_labels(source, seed=seed)
    style = label_style(words, labels)
    texts, answers = label_corpus(labels, style)
    boxes = None
    if first.use or (first.words and not policy["path"]):
        boxes = load_box_parts(first.data, geometry, seed=seed)
        box_texts, box_answers = box_words(boxes, localisation_style(first))
        texts, answers = (*texts, *box_texts), (*answers, *box_answers)
    opened = finish(texts, answers, style=style)
    run = label_run(
        labels,
        opened,
        style,
        room=words.room,
        ramps=source.ramps,
        probe=source.probe,
        evaluation=read_section(Evaluation, "evaluation", evaluation),
        seed=seed,
        workdir=workdir,
    )
    located = []
    if first.use and boxes is not None:
        located = localisation_chain(first, boxes, opened, seed=seed, workdir=workdir)
    head, *rest = located + label_chain(run, training, zero_shot=bool(located))
    return [head._replace(start=opened.load), *rest]


def read_training(warm_start: Mapping[str, Any], train: Mapping[str, Any]) -> Training:
    """The sections `warm_start` and `train` as records; see `stages`.

    Args:
        warm_start: Section of the config.
        train: Section of the config.

    Raises:
        ValueError: An option is unknown or missing, or the method is unknown.
    """
    supervised = (Supervised, LabelFlaws)
    return Training(
        read_sections(supervised, "warm_start", warm_start),
        medloc.check_method(train["method"]),
        read_sections((Exploration, LabelRewards), "train.grpo", train["grpo"]),
        read_sections(supervised, "train.sft", train["sft"]),
    )


def read_localisation(section: Mapping[str, Any]) -> Localisation:
    """The section `localisation` as a record; see `stages`.

    Args:
        section: Section of the config, with sections of its own.

    Raises:
        ValueError: An option is unknown or missing; it is named with its section.
    """
    name = "localisation"
    return Localisation(
        section["use"],
        section["words"],
        read_section(BoxData, f"{name}.data", section["data"]),
        read_section(BoxPrompt, f"{name}.prompt", section["prompt"]),
        medloc.read_training(
            section["warm_start"], section["train"], prefix=f"{name}."
        ),
        read_section(Evaluation, f"{name}.evaluation", section["evaluation"]),
    )


def load_labels(data: LabelData, *, seed: int) -> LabelParts:
    """Pictures and words of a config's source.

    Args:
        data: The section of the config, whose options are those of `load_label_parts`.
        seed: Another one splits a CSV file without splits otherwise.
    """
    reading, options = split_reading(data._asdict())
    for name in ("ramps", "probe"):
        del options[name]
    found = load_label_parts(seed=seed, reading=reading, **options)
    tell(found.parts.notes)
    return found


def label_style(prompt: LabelPrompt, source: LabelParts) -> Style:
    """The words around a question, and the form of its answer.

    Where the prompt names no form, it is a grade for ordinal classes and else a letter.

    Args:
        prompt: The section of the config.
        source: Says whether the classes are grades.
    """
    task = source.wording.task
    answer = prompt.answer or ("grade" if task.ordinal else "letter")
    suffix = label_instruction(answer, multi=task.multi) if prompt.instruct else ""
    return named_style(system=prompt.system, suffix=suffix, answer=answer)


def localisation_style(first: Localisation) -> Style:
    """The words around a question about boxes.

    Args:
        first: The section `localisation`.
    """
    return box_style(first.prompt, answers=first.data.answers)


def localisation_chain(
    first: Localisation, boxes: Parts, policy: Policy, *, seed: int, workdir: Path
) -> list[Stage]:
    """The stages about boxes before those about classes; see `medloc.chain`.

    Args:
        first: The section `localisation`.
        boxes: Training and test part of its source.
        policy: The policy that all stages train.
        seed: Decides the draws of training and of the baselines.
        workdir: The run's folder.
    """
    setup = box_setup(
        boxes,
        policy,
        localisation_style(first),
        ramps=first.data.ramps,
        evaluation=first.evaluation,
        seed=seed,
        workdir=workdir,
    )
    return medloc.chain(setup, first.training, prefix=BOXES)


def label_chain(run: LabelRun, training: Training, *, zero_shot: bool) -> list[Stage]:
    """The stages about classes.

    With `zero_shot` the first of them is evaluated before its first step too: that is
    what the policy knows about classes from the stages before.

    Args:
        run: What all stages of the run have in common.
        training: The options of the stages; those of the other method are not used.
        zero_shot: Whether there were stages before, about boxes.
    """
    workdir = run.setup.workdir
    before: dict[str, Path] = {}
    chain = []
    options, flaws = training.warm_start
    if options.steps:
        chain.append(
            label_supervised_stage("warm_start", run, options, flaws, before={})
        )
        before["warm_start"] = workdir / "warm_start" / "eval"
    if zero_shot:
        name = chain[0].name if chain else training.method
        before[ZERO_SHOT] = workdir / name / "eval" / "0"
    make = label_stage if training.method == "grpo" else label_supervised_stage
    options, own = training.grpo if training.method == "grpo" else training.sft
    chain.append(make(training.method, run, options, own, before=before))
    if zero_shot:
        chain[0] = chain[0]._replace(evaluate_first=True)
    return chain


def label_stage(
    name: str,
    run: LabelRun,
    options: Exploration,
    rewards: LabelRewards,
    *,
    before: Mapping[str, Path],
) -> Stage:
    """A stage of GRPO with the rewards of `systems.vrft_aug`; see `exploration_stage`.

    Args:
        name: The name of the stage and of its folder.
        run: What all stages of the run have in common.
        options: How it explores and learns.
        rewards: What an answer is worth.
        before: Earlier evaluations that get rows of their own in the tables.

    Raises:
        ValueError: Some right answer exceeds `max_tokens`, or a reward, its weight or a
            table of grades does not fit.
    """
    task = run.source.wording.task
    build = partial(
        vrft_aug.build,
        rewards=make_rewards(
            rewards,
            labels=run.labels,
            references=run.source.references,
            classes=len(task.classes),
        ),
    )
    return exploration_stage(
        name,
        run.setup,
        options,
        rewards,
        build,
        weights=reward_weights(
            options.reward_weights,
            tuple(options.python_rewards),
            grade=rewards.grade,
            task=task,
        ),
        accuracy=f"task {task.name}, grade={rewards.grade}",
        numbers={},
        show=SHOW,
        check=partial(self_test, run, min_words=rewards.min_words),
        before=before,
    )
