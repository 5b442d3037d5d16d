"""Data and policy of a pretraining run, from the records of its config."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from medjax.data.boxes.slices import Look
from medjax.data.pretraining.looks import Changes
from medjax.data.pretraining.sources import Wanted, load_sources
from medjax.data.pretraining.words import class_questions
from medjax.data.prompting.chat import Style
from medjax.recipes.boxes.data import box_words
from medjax.recipes.boxes.task import box_setup
from medjax.recipes.policy.opened import Opening
from medjax.recipes.policy.setup import Setup
from medjax.recipes.policy.task import Evaluation


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
    plain: tuple[str, ...]  # sources of the first stage, whose pictures are moved alone


def pretrain_setup(
    data: PretrainData,
    style: Style,
    opening: Opening,
    evaluation: Evaluation,
    *,
    seed: int,
    workdir: Path,
) -> Setup:
    """Data and policy as the stage takes them.

    Args:
        data: The section of the config.
        style: The words around a question, and the form of its answer.
        opening: Of the policy.
        evaluation: How the stage is evaluated.
        seed: Decides the order and the draws of training.
        workdir: The run's folder.

    Raises:
        ValueError: An option is of a value that does not fit, or a structure is held
            out.
    """
    parts = load_sources(data.shares, wanted_pictures(data))
    texts, answers = box_words(parts, style)
    return box_setup(
        parts,
        opening.finish((*texts, *class_questions()), answers, style=style),
        style,
        ramps=data.ramps,
        evaluation=evaluation,
        seed=seed,
        workdir=workdir,
    )


def plain_setup(setup: Setup, data: PretrainData) -> Setup:
    """The setup of the first stage: fewer sources, pictures moved and scaled alone.

    A policy that has not yet seen a structure in its usual look learns little from
    changed ones.

    Args:
        setup: Of the run; its words and its validation part stay.
        data: The section of the config.

    Raises:
        ValueError: A source of `plain` has no share.
    """
    unknown = [name for name in data.plain if name not in data.shares]
    if unknown or not data.plain:
        raise ValueError(
            f"data.plain={data.plain}: expected some of the sources that have shares, "
            f"{', '.join(data.shares)}"
        )
    still = data.changes._replace(turn=0.0, invert=0.0, gamma=0.0, contrast=0.0)
    changed = data._replace(
        shares={name: data.shares[name] for name in data.plain},
        changes=still._replace(noise=0.0),
    )
    parts = load_sources(changed.shares, wanted_pictures(changed))
    return setup._replace(parts=parts._replace(test=setup.parts.test))


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
