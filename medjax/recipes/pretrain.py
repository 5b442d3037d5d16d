"""The stage of a `pretrain` run: written answers about several sources."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.boxes.slices import Look
from medjax.data.pretraining.looks import Changes
from medjax.data.pretraining.sources import Wanted, load_sources
from medjax.recipes.boxes.data import BoxPrompt, box_style, box_words
from medjax.recipes.boxes.task import BoxFlaws, box_setup, box_supervised_stage
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.setup import Setup, Supervised
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section, read_sections
from medjax.runtime.stages import Stage

STAGE = "pretrain"


class PretrainData(NamedTuple):
    """The section `data` of a config: fields of `Wanted` and of its records."""

    shares: Mapping[str, float]  # by source
    structures: Mapping[str, str | tuple[str, ...]]  # by volume
    size: tuple[int, int]
    fields: Mapping[str, float]  # mm, by volume
    crop: float  # pixels
    min_side: int
    phrasings: int
    changes: Changes
    ramps: bool  # draw where a pixel lies into the picture, see `add_ramps`


def stages(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> list[Stage]:
    """What `run_stages` runs for the sections of `configs/pretrain.py`.

    Args:
        seed: Decides the order and the draws of training.
        workdir: The run's folder, the one that `run_stages` is given.
        policy: Section of the config with the options of the policy, see `open_policy`.
        data: Section of the config with the options of a `PretrainData`.
        prompt: Section of the config with the options of a `BoxPrompt`.
        train: Section of the config with the options of a `Supervised` and of
            `BoxFlaws`.
        evaluation: Section of the config with the options of an `Evaluation`.

    Raises:
        ValueError: An option is unknown, missing, or of a value that does not fit; or
            a structure is held out.
    """
    setup = pretrain_setup(
        seed=seed,
        workdir=workdir,
        policy=policy,
        data=data,
        prompt=prompt,
        evaluation=evaluation,
    )
    options, flaws = read_sections((Supervised, BoxFlaws), "train", train)
    stage = box_supervised_stage(STAGE, setup, options, flaws, before={})
    return [stage._replace(start=setup.policy.load)]


def pretrain_setup(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> Setup:
    """Data and policy as the stage takes them.

    Args:
        seed: Decides the order and the draws of training.
        workdir: The run's folder.
        policy: Section of the config.
        data: Section of the config.
        prompt: Section of the config.
        evaluation: Section of the config.

    Raises:
        ValueError: An option is unknown, missing, or of a value that does not fit; or
            a structure is held out.
    """
    source = read_section(PretrainData, "data", data)
    style = box_style(read_section(BoxPrompt, "prompt", prompt), answers="one")
    opening = open_policy(policy)
    parts = load_sources(source.shares, wanted_pictures(source))
    return box_setup(
        parts,
        opening.finish(*box_words(parts, style), style=style),
        style,
        ramps=source.ramps,
        evaluation=read_section(Evaluation, "evaluation", evaluation),
        seed=seed,
        workdir=workdir,
    )


def wanted_pictures(data: PretrainData) -> Wanted:
    """What is shown and asked for, as `load_sources` takes it.

    Args:
        data: The section of the config.
    """
    look = Look(
        size=data.size,
        field=0.0,  # each volume has its own
        min_side=data.min_side,
        phrasings=data.phrasings,
        shift=data.changes.shift,
        scale=data.changes.scale,
        tested="val",
    )
    return Wanted(data.structures, look, data.fields, data.changes, data.crop)
