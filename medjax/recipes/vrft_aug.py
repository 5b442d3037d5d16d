"""The stages of a `vrft_aug` run: localisation first if wanted, then classes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from medjax.data.prompting.chat import Style
from medjax.recipes import medloc
from medjax.recipes.boxes.card import box_card
from medjax.recipes.boxes.check import examine_boxes
from medjax.recipes.boxes.data import (
    BoxData,
    BoxPrompt,
    box_style,
    box_words,
    load_box_parts,
)
from medjax.recipes.boxes.task import box_setup
from medjax.recipes.classes.card import label_card
from medjax.recipes.classes.check import examine_classes
from medjax.recipes.classes.data import LabelData, LabelPrompt, label_style, load_labels
from medjax.recipes.classes.rewards import LabelRewards
from medjax.recipes.classes.stage import label_stage
from medjax.recipes.classes.task import (
    LabelFlaws,
    LabelRun,
    label_corpus,
    label_run,
    label_supervised_stage,
)
from medjax.recipes.policy.check_report import data_findings
from medjax.recipes.policy.check_run import (
    Checked,
    examined,
    finish_check,
    load_all,
    stage_findings,
    unread,
)
from medjax.recipes.policy.checking import tell_and_gate
from medjax.recipes.policy.export import (
    export_stage,
    new_folder,
    newest_checkpoint,
)
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.privacy import make_hide
from medjax.recipes.policy.scoring import rows_at_start
from medjax.recipes.policy.setup import Exploration, Setup, Supervised
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section, read_sections
from medjax.runtime.stages import Stage
from medjax.sharding import Rules

BOXES = "boxes_"  # before the names of the localisation stages
ZERO_SHOT = "localisation, zero-shot"


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
    opened = open_run(
        read_section(LabelData, "data", data),
        read_section(LabelPrompt, "prompt", prompt),
        first,
        read_section(Evaluation, "evaluation", evaluation),
        policy=policy,
        seed=seed,
        workdir=workdir,
    )
    doubts = tell_and_gate(opened.run.source.parts)
    if first.use and opened.boxes is not None:
        doubts += tell_and_gate(opened.boxes.parts)
    head, *rest = _whole_chain(opened, first, training)
    start = opened.run.setup.policy.start
    return [head._replace(start=start, doubts=doubts), *rest]


def export(
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
    mesh: Mesh,
    rules: Rules,
    checkpoint: str | None = None,
) -> list[str]:
    """Write the newest checkpoint as WORKDIR/policy, a Hugging Face folder with a card.

    See `medloc.export`.

    Args:
        seed: Of `stages`, like all others.
        workdir: The run's folder.
        policy: Section of the config.
        prompt: Section of the config.
        data: Section of the config.
        localisation: Section of the config.
        warm_start: Section of the config.
        train: Section of the config.
        evaluation: Section of the config.
        mesh: The devices that hold the weights.
        rules: The mesh axes that each logical axis falls on.
        checkpoint: A stage's folder, which may be one of the localisation, or a
            workdir, of which the last stage is taken; None is `workdir`.

    Returns:
        What makes the folder doubtful: that training is not finished.

    Raises:
        FileExistsError: WORKDIR/policy is there.
        FileNotFoundError: There is no checkpoint, or no manifest beside it.
        CheckpointError: The checkpoint is of another config, task or data.
        ValueError: `checkpoint` is the folder of no stage of the config.
    """
    folder = new_folder(workdir)
    training = read_training(warm_start, train)
    first = read_localisation(localisation)
    source = read_section(LabelData, "data", data)
    opened = open_run(
        source,
        read_section(LabelPrompt, "prompt", prompt),
        first,
        read_section(Evaluation, "evaluation", evaluation),
        policy=policy,
        seed=seed,
        workdir=workdir,
    )
    tell_and_gate(opened.run.source.parts)
    where = {"seed": seed, "workdir": workdir}
    chain = _whole_chain(opened, first, training)
    newest = newest_checkpoint(chain, checkpoint, **where)
    setup, about = opened.run.setup, {"system": "vrft_aug", "base": policy["path"]}
    if newest.stage.name.startswith(BOXES) and opened.boxes is not None:
        setup = opened.boxes
        told = box_card(first.data, setup.parts, setup.encoding.style, **about)
    else:
        told = label_card(source, opened.run, **about)
    return export_stage(folder, newest, setup, told, mesh=mesh, rules=rules)


def check(
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
) -> list[str]:
    """Check a run's data, and write what was found: check.html, check.json, pictures.

    Where a run localises first, its boxes are checked too (boxes_check.html).

    Args:
        seed: Of `stages`, like all others.
        workdir: Gets the files.
        policy: Section of the config.
        prompt: Section of the config.
        data: Section of the config.
        localisation: Section of the config.
        warm_start: Section of the config.
        train: Section of the config.
        evaluation: Section of the config.

    Returns:
        What makes a run doubtful, a line a kind.

    Raises:
        ValueError: Something would stop a run; all of it is told.
    """
    training = read_training(warm_start, train)
    source = read_section(LabelData, "data", data)
    first = read_localisation(localisation)
    checked = Checked("check", source.source, source.identify)
    words = read_section(LabelPrompt, "prompt", prompt)
    evaluated = read_section(Evaluation, "evaluation", evaluation)
    boxes_bad = first.data.on_bad
    first = first._replace(data=first.data._replace(on_bad="drop", check="on"))

    def load(changes: Mapping[str, str]) -> Opened:
        chosen = source._replace(check="on", **changes)
        where = {"policy": policy, "seed": seed, "workdir": workdir}
        return open_run(chosen, words, first, evaluated, **where)

    try:
        opened, found = load_all(load, source.readers, source.on_bad)
    except (ValueError, OSError) as error:
        return finish_check(checked, workdir, None, unread(error))
    setup = opened.run.setup
    found += stage_findings(partial(label_chain, opened.run, training, zero_shot=False))
    found += data_findings(setup.parts, on_bad=source.on_bad)
    lines = []
    if first.use and opened.boxes is not None:
        boxes = opened.boxes
        doubts = stage_findings(partial(medloc.chain, boxes, first.training))
        doubts += data_findings(boxes.parts, on_bad=boxes_bad)
        lines = finish_check(
            Checked("boxes_check", first.data.source, first.data.identify),
            workdir,
            boxes.parts,
            examined(examine_boxes, boxes, doubts),
        )
    report = examined(examine_classes, setup, found)
    return lines + finish_check(checked, workdir, setup.parts, report)


class Opened(NamedTuple):
    """A run before its stages: data and policy, of classes and perhaps of boxes."""

    run: LabelRun
    boxes: Setup | None  # of the localisation, if it comes first


def open_run(
    source: LabelData,
    words: LabelPrompt,
    first: Localisation,
    evaluation: Evaluation,
    *,
    policy: Mapping[str, Any],
    seed: int,
    workdir: Path,
) -> Opened:
    """Data and policy of a run; all its words are in one tokenizer.

    Args:
        source: The section `data` of the config.
        words: The section `prompt` of the config.
        first: The section `localisation` of the config.
        evaluation: The section `evaluation` of the config.
        policy: The section `policy` of the config, see `open_policy`.
        seed: Decides splits, and the draws of training and of the baselines.
        workdir: The run's folder.

    Raises:
        ValueError: A source, an option or a checkpoint does not fit.
    """
    opening = open_policy(policy)
    labels = load_labels(source, seed=seed)
    style = label_style(words, labels)
    texts, answers = label_corpus(labels, style)
    boxes = None
    if first.use or (first.words and not policy["path"]):
        boxes = load_box_parts(first.data, opening.geometry, seed=seed)
        box_texts, box_answers = box_words(boxes, localisation_style(first))
        texts, answers = (*texts, *box_texts), (*answers, *box_answers)
    opened = opening.finish(texts, answers, style=style)
    run = label_run(
        labels,
        opened,
        style,
        room=words.room,
        ramps=source.ramps,
        probe=source.probe,
        evaluation=evaluation,
        seed=seed,
        workdir=workdir,
        hide=make_hide(labels.parts, identify=source.identify),
    )
    if not first.use or boxes is None:
        return Opened(run, None)
    style = localisation_style(first)
    opened.check_style(style)
    setup = box_setup(
        boxes,
        opened,
        style,
        ramps=first.data.ramps,
        evaluation=first.evaluation,
        seed=seed,
        workdir=workdir,
    )
    return Opened(run, setup)


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


def localisation_style(first: Localisation) -> Style:
    """The words around a question about boxes.

    Args:
        first: The section `localisation`.
    """
    return box_style(first.prompt, answers=first.data.answers)


def _whole_chain(
    opened: Opened, first: Localisation, training: Training
) -> list[Stage]:
    """All stages of a run: those of the localisation if wanted, then about classes."""
    located = []
    if first.use and opened.boxes is not None:
        located = medloc.chain(opened.boxes, first.training, prefix=BOXES)
    return located + label_chain(opened.run, training, zero_shot=bool(located))


def label_chain(run: LabelRun, training: Training, *, zero_shot: bool) -> list[Stage]:
    """The stages about classes.

    With `zero_shot` the first of them is evaluated before its first step too: that is
    what the policy knows about classes from the stages before. So is the first of a
    policy that begins with weights of its own.

    Args:
        run: What all stages of the run have in common.
        training: The options of the stages; those of the other method are not used.
        zero_shot: Whether there were stages before, about boxes.
    """
    before = rows_before(training, run.setup.workdir, zero_shot=zero_shot)
    chain = []
    options, flaws = training.warm_start
    if options.steps:
        chain.append(
            label_supervised_stage("warm_start", run, options, flaws, before={})
        )
    make = label_stage if training.method == "grpo" else label_supervised_stage
    options, own = training.grpo if training.method == "grpo" else training.sft
    chain.append(make(training.method, run, options, own, before=before))
    if zero_shot or run.setup.policy.load is not None:
        chain[0] = chain[0]._replace(evaluate_first=True)
    return chain


def rows_before(
    training: Training, workdir: Path, *, zero_shot: bool
) -> dict[str, Path]:
    """Earlier evaluations that have rows in the tables of the last stage.

    Args:
        training: The options of the stages about classes.
        workdir: The run's folder.
        zero_shot: Whether there were stages before, about boxes.

    Returns:
        A row's name -> the folder of its answers.
    """
    warm = bool(training.warm_start[0].steps)
    found = {"warm_start": workdir / "warm_start" / "eval"} if warm else {}
    first = workdir / ("warm_start" if warm else training.method)
    if zero_shot:
        return found | {ZERO_SHOT: first / "eval" / "0"}
    return found | rows_at_start(first)
