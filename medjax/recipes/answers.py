"""--mode=eval --answers=FILE: somebody else's answers, scored as a run's own are.

Neither weights nor a tokenizer are read: of a policy's folder the sizes and the image
processor alone, by which pictures are shown.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medjax.recipes import medloc as medloc_run
from medjax.recipes import vrft_aug as vrft_aug_run
from medjax.recipes.boxes.data import BoxData, BoxPrompt, box_style, load_box_parts
from medjax.recipes.boxes.exam import box_exam
from medjax.recipes.classes.data import LabelData, LabelPrompt, label_style, load_labels
from medjax.recipes.classes.exam import label_exam
from medjax.recipes.policy.answers import score_answers
from medjax.recipes.policy.checking import tell_and_gate
from medjax.recipes.policy.opening import open_geometry
from medjax.recipes.policy.privacy import make_hide
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section


def medloc(
    path: str,
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
    """Score answers to the questions about boxes of a config; see `score_answers`.

    Args:
        path: The file of answers.
        seed: Of `medloc.stages`, like all others.
        workdir: The run's folder, whose earlier stages have rows too.
        policy: Section of the config.
        data: Section of the config.
        prompt: Section of the config.
        warm_start: Section of the config.
        train: Section of the config.
        evaluation: Section of the config.

    Returns:
        What makes the scores doubtful.
    """
    training = medloc_run.read_training(warm_start, train)
    source = read_section(BoxData, "data", data)
    style = box_style(read_section(BoxPrompt, "prompt", prompt), answers=source.answers)
    geometry = open_geometry(policy)
    parts = load_box_parts(source, geometry, seed=seed)
    doubts = tell_and_gate(parts)
    return doubts + score_answers(
        box_exam(parts, geometry, style, seed=seed),
        Path(path),
        source=Path(source.source),
        evaluation=read_section(Evaluation, "evaluation", evaluation),
        before=medloc_run.rows_before(training, workdir),
        workdir=workdir,
    )


def vrft_aug(
    path: str,
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
    """Score answers to the questions about classes of a config; see `score_answers`.

    Args:
        path: The file of answers.
        seed: Of `vrft_aug.stages`, like all others.
        workdir: The run's folder, whose earlier stages have rows too.
        policy: Section of the config.
        prompt: Section of the config.
        data: Section of the config.
        localisation: Section of the config.
        warm_start: Section of the config.
        train: Section of the config.
        evaluation: Section of the config.

    Returns:
        What makes the scores doubtful.
    """
    training = vrft_aug_run.read_training(warm_start, train)
    first = vrft_aug_run.read_localisation(localisation)
    source = read_section(LabelData, "data", data)
    labels = load_labels(source, seed=seed)
    doubts = tell_and_gate(labels.parts)
    exam = label_exam(
        labels,
        label_style(read_section(LabelPrompt, "prompt", prompt), labels),
        open_geometry(policy),
        probe=source.probe,
        seed=seed,
        hide=make_hide(labels.parts, identify=source.identify),
    )
    return doubts + score_answers(
        exam,
        Path(path),
        source=Path(source.source),
        evaluation=read_section(Evaluation, "evaluation", evaluation),
        before=vrft_aug_run.rows_before(training, workdir, zero_shot=first.use),
        workdir=workdir,
    )
