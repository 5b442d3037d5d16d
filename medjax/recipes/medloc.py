"""The stages of a `medloc` run: a supervised warm start, then GRPO; or SFT alone."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from medjax.data.batches import Parts
from medjax.data.prompting.chat import Style
from medjax.recipes.boxes.card import box_card
from medjax.recipes.boxes.check import examine_boxes
from medjax.recipes.boxes.data import (
    BoxData,
    BoxPrompt,
    box_style,
    box_words,
    load_box_parts,
)
from medjax.recipes.boxes.stage import BoxRewards, box_stage
from medjax.recipes.boxes.task import (
    BoxFlaws,
    box_setup,
    box_supervised_stage,
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
from medjax.recipes.policy.findings import Finding
from medjax.recipes.policy.opened import Opening
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.scoring import rows_at_start
from medjax.recipes.policy.setup import Exploration, Setup, Supervised
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section, read_sections
from medjax.runtime.stages import Stage
from medjax.sharding import Rules

METHODS = ("grpo", "sft")


class Training(NamedTuple):
    """The stages of a run that a config's sections ask for."""

    warm_start: tuple[Supervised, BoxFlaws]
    method: str  # one of METHODS
    grpo: tuple[Exploration, BoxRewards]
    sft: tuple[Supervised, BoxFlaws]


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
        seed: Decides splits, the order and the draws of training, and the baselines'
            draws.
        workdir: The run's folder, the one that `run_stages` is given.
        policy: Section of the config with the options of the policy, see `open_policy`.
        data: Section of the config with the options of a `BoxData`.
        prompt: Section of the config with the options of a `BoxPrompt`.
        warm_start: Section of the config with the options of a `Supervised` and of
            `BoxFlaws`; `steps` of 0 leave the stage out.
        train: Section of the config with `method`, and a section for each: `sft` like
            `warm_start`, `grpo` with the options of an `Exploration` and of
            `BoxRewards`.
        evaluation: Section of the config with the options of an `Evaluation`.

    Raises:
        ValueError: An option is unknown, missing, or of a value that does not fit.
    """
    training = read_training(warm_start, train)
    setup, doubts = open_run(
        read_section(BoxData, "data", data),
        read_section(BoxPrompt, "prompt", prompt),
        read_section(Evaluation, "evaluation", evaluation),
        policy=policy,
        seed=seed,
        workdir=workdir,
    )
    first, *rest = chain(setup, training)
    return [first._replace(start=setup.policy.start, doubts=doubts), *rest]


def export(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    mesh: Mesh,
    rules: Rules,
    checkpoint: str | None = None,
) -> list[str]:
    """Write the newest checkpoint as WORKDIR/policy, a Hugging Face folder with a card.

    Weights have the dtype that they were trained in, and the card the scores of the
    stage's last evaluation. A folder that is there stays as it is.

    Args:
        seed: Of `stages`, like all others.
        workdir: The run's folder.
        policy: Section of the config.
        data: Section of the config.
        prompt: Section of the config.
        warm_start: Section of the config.
        train: Section of the config.
        evaluation: Section of the config.
        mesh: The devices that hold the weights.
        rules: The mesh axes that each logical axis falls on.
        checkpoint: A stage's folder, or a workdir, of which the last stage is taken;
            None is `workdir`.

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
    source = read_section(BoxData, "data", data)
    where = {"seed": seed, "workdir": workdir}
    setup, _ = open_run(
        source,
        read_section(BoxPrompt, "prompt", prompt),
        read_section(Evaluation, "evaluation", evaluation),
        policy=policy,
        **where,
    )
    newest = newest_checkpoint(chain(setup, training), checkpoint, **where)
    told = box_card(
        source, setup.parts, setup.encoding.style, system="medloc", base=policy["path"]
    )
    return export_stage(folder, newest, setup, told, mesh=mesh, rules=rules)


def check(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> list[str]:
    """Check a run's data, and write what was found: check.html, check.json, pictures.

    Args:
        seed: Of `stages`, like all others.
        workdir: Gets the files.
        policy: Section of the config.
        data: Section of the config.
        prompt: Section of the config.
        warm_start: Section of the config.
        train: Section of the config.
        evaluation: Section of the config.

    Returns:
        What makes a run doubtful, a line a kind.

    Raises:
        ValueError: Something would stop a run; all of it is told.
    """
    training = read_training(warm_start, train)
    source = read_section(BoxData, "data", data)
    words = read_section(BoxPrompt, "prompt", prompt)
    evaluated = read_section(Evaluation, "evaluation", evaluation)
    style = box_style(words, answers=source.answers)
    opening = open_policy(policy)
    checked = Checked("check", source.source, source.identify)
    found: list[Finding] = []
    parts = None
    try:
        parts, found = load_all(
            lambda changes: load_box_parts(
                source._replace(check="on", **changes), opening.geometry, seed=seed
            ),
            source.readers,
            source.on_bad,
        )
        found += data_findings(parts, on_bad=source.on_bad)
        where = {"seed": seed, "workdir": workdir}
        setup = _finish(parts, opening, style, source, evaluated, **where)
    except (ValueError, OSError) as error:
        return finish_check(checked, workdir, parts, unread(error, found))
    found = stage_findings(partial(chain, setup, training)) + found
    report = examined(examine_boxes, setup, found)
    return finish_check(checked, workdir, parts, report)


def open_run(
    source: BoxData,
    words: BoxPrompt,
    evaluation: Evaluation,
    *,
    policy: Mapping[str, Any],
    seed: int,
    workdir: Path,
) -> tuple[Setup, list[str]]:
    """Data that passed the gate and policy of a run, and what makes the data doubtful.

    Args:
        source: The section `data` of the config.
        words: The section `prompt` of the config.
        evaluation: The section `evaluation` of the config.
        policy: The section `policy` of the config, see `open_policy`.
        seed: Decides splits, and the draws of training and of the baselines.
        workdir: The run's folder.

    Raises:
        ValueError: A source, an option or a checkpoint does not fit.
    """
    style = box_style(words, answers=source.answers)
    opening = open_policy(policy)
    parts = load_box_parts(source, opening.geometry, seed=seed)
    doubts = tell_and_gate(parts)
    where = {"seed": seed, "workdir": workdir}
    return _finish(parts, opening, style, source, evaluation, **where), doubts


def _finish(
    parts: Parts,
    opening: Opening,
    style: Style,
    source: BoxData,
    evaluation: Evaluation,
    *,
    seed: int,
    workdir: Path,
) -> Setup:
    """The setup of data that is loaded; a fresh policy learns its words."""
    return box_setup(
        parts,
        opening.finish(*box_words(parts, style), style=style),
        style,
        ramps=source.ramps,
        evaluation=evaluation,
        seed=seed,
        workdir=workdir,
    )


def read_training(
    warm_start: Mapping[str, Any], train: Mapping[str, Any], *, prefix: str = ""
) -> Training:
    """The sections `warm_start` and `train` as records.

    Args:
        warm_start: Section of the config, see `stages`.
        train: Section of the config, see `stages`.
        prefix: What errors put before the sections' names, such as "localisation.".

    Raises:
        ValueError: An option is unknown or missing, or the method is none of `METHODS`.
    """
    supervised = (Supervised, BoxFlaws)
    return Training(
        read_sections(supervised, f"{prefix}warm_start", warm_start),
        check_method(train["method"]),
        read_sections((Exploration, BoxRewards), f"{prefix}train.grpo", train["grpo"]),
        read_sections(supervised, f"{prefix}train.sft", train["sft"]),
    )


def chain(setup: Setup, training: Training, *, prefix: str = "") -> list[Stage]:
    """The stages of a setup: a warm start if it has steps, then that of the method.

    The first of a policy with weights of its own is evaluated before its first step
    too, which gives the others a row.

    Args:
        setup: What both have in common.
        training: The options of the stages; those of the other method are not used.
        prefix: Stands before the stages' names, which are those of their folders.
    """
    found, before = [], rows_before(training, setup.workdir, prefix=prefix)
    options, flaws = training.warm_start
    if options.steps:
        name = f"{prefix}warm_start"
        found.append(box_supervised_stage(name, setup, options, flaws, before={}))
    make = box_stage if training.method == "grpo" else box_supervised_stage
    options, own = training.grpo if training.method == "grpo" else training.sft
    found.append(make(prefix + training.method, setup, options, own, before=before))
    if setup.policy.load is not None and not prefix:
        found[0] = found[0]._replace(evaluate_first=True)
    return found


def rows_before(
    training: Training, workdir: Path, *, prefix: str = ""
) -> dict[str, Path]:
    """Earlier evaluations that have rows in the tables of the last stage.

    Args:
        training: The options of the stages.
        workdir: The run's folder.
        prefix: Stands before the stages' names.

    Returns:
        A row's name -> the folder of its answers.
    """
    name, warm = f"{prefix}warm_start", training.warm_start[0].steps > 0
    found = {name: workdir / name / "eval"} if warm else {}
    first = workdir / (name if warm else training.method)
    return found | ({} if prefix else rows_at_start(first))


def check_method(method: str) -> str:
    """The method as it is, if it is one that a config may name.

    Args:
        method: "grpo" or "sft".

    Raises:
        ValueError: Another one; the known ones are named.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    return method
