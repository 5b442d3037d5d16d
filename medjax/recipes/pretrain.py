"""The stage of a `pretrain` run: written answers about several sources; its export."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from medjax.data.pretraining.held_out import HELD_OUT, held_in_words
from medjax.data.pretraining.sources import source_packs
from medjax.recipes.boxes.card import CardFacts, pretrained_card
from medjax.recipes.boxes.data import BoxPrompt, box_style
from medjax.recipes.boxes.domains import DomainRow, blinded, score_domains
from medjax.recipes.boxes.pretraining import (
    PretrainData,
    plain_setup,
    pretrain_setup,
)
from medjax.recipes.boxes.task import BoxFlaws, box_supervised_stage
from medjax.recipes.policy.card import run_facts
from medjax.recipes.policy.export import (
    Newest,
    new_folder,
    newest_checkpoint,
    newest_params,
    write_folder,
)
from medjax.recipes.policy.opening import READERS, open_policy
from medjax.recipes.policy.setup import Setup, Supervised
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section, read_sections
from medjax.runtime.stages import Stage, evaluate_checkpoint
from medjax.sharding import Rules
from medjax.types import Params

FIRST, STAGE = "plain", "pretrain"  # their folders in the workdir


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
    """What `run_stages` runs for the sections of `configs/pretrain.py`.

    Args:
        seed: Decides the order and the draws of training.
        workdir: The run's folder, the one that `run_stages` is given.
        policy: Section of the config with the options of the policy, see `open_policy`.
        data: Section of the config with the options of a `PretrainData`.
        prompt: Section of the config with the options of a `BoxPrompt`.
        warm_start: Section of the config like `train`: the stage on plain pictures, see
            `plain_setup`; `steps` of 0 leave it out.
        train: Section of the config with the options of a `Supervised` and of
            `BoxFlaws`.
        evaluation: Section of the config with the options of an `Evaluation`.

    Raises:
        ValueError: An option is unknown, missing, or of a value that does not fit; or
            a structure is held out.
    """
    setup = _read_setup(policy, data, prompt, evaluation, seed=seed, workdir=workdir)
    found = [pretrain_stage(setup, train)]
    options, flaws = read_sections((Supervised, BoxFlaws), "warm_start", warm_start)
    if options.steps:
        plain = plain_setup(setup, read_section(PretrainData, "data", data))
        first = box_supervised_stage(FIRST, plain, options, flaws, before={})
        found.insert(0, first._replace(eval_batches=None))
    found[0] = found[0]._replace(start=setup.policy.start)
    return found


def pretrain_stage(setup: Setup, train: Mapping[str, Any]) -> Stage:
    """The stage whose policy is exported.

    Args:
        setup: Data and policy.
        train: Section of the config.

    Raises:
        ValueError: An option is unknown or missing.
    """
    options, flaws = read_sections((Supervised, BoxFlaws), "train", train)
    return box_supervised_stage(STAGE, setup, options, flaws, before={})


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
    """Write the run's newest checkpoint as WORKDIR/policy, float16, with its card.

    The weights are read back from the folder and scored as they are there, with the
    pictures and without. A folder that is there stays as it is: somebody may have
    changed its card.

    Args:
        seed: Of `stages`, like all others.
        workdir: The run's folder.
        policy: Section of the config.
        data: Section of the config.
        prompt: Section of the config.
        warm_start: Section of the config; only its steps are read, for the card.
        train: Section of the config.
        evaluation: Section of the config.
        mesh: The devices that score.
        rules: The mesh axes that each logical axis falls on.
        checkpoint: The folder of the stage, or of another workdir of this config; None
            is `workdir`.

    Returns:
        What makes the folder doubtful: that training is not finished.

    Raises:
        FileExistsError: WORKDIR/policy is there.
        FileNotFoundError: There is no checkpoint in `workdir`.
        CheckpointError: The checkpoint is of another config or data.
        ValueError: A weight is not finite in float16.
    """
    folder, where = new_folder(workdir), {"seed": seed, "workdir": workdir}
    setup = _read_setup(policy, data, prompt, evaluation, **where)
    stage = pretrain_stage(setup, train)
    newest = newest_checkpoint([stage], checkpoint, **where)
    half = halved(newest_params(newest, mesh=mesh, rules=rules))
    source = read_section(PretrainData, "data", data)
    first = warm_start if warm_start["steps"] else None
    facts = _card_facts(setup, source, half, newest, train, first)

    def card(new: Path) -> str:
        rows: list[DomainRow] = []
        for contender, shown in (
            ("the policy", setup),
            (
                "the policy without the picture",
                setup._replace(parts=blinded(setup.parts)),
            ),
        ):
            scored = pretrain_stage(shown, train)._replace(
                score=partial(score_domains, setup, contender, shown is setup)
            )
            devices = {"mesh": mesh, "rules": rules}
            found = evaluate_checkpoint(scored, new, **READERS, **devices, **where)
            rows += found["rows"]
        return pretrained_card(facts, rows)

    write_folder(folder, setup, half, card)
    return newest.doubts


def halved(params: Params) -> Params:
    """The parameters in float16.

    Args:
        params: The whole tree.

    Raises:
        ValueError: One is not finite there: its magnitude is above 65504, or it was
            not finite before.
    """
    largest = float(jnp.finfo(jnp.float16).max)
    named = jax.tree_util.tree_leaves_with_path(params)
    broken = [
        jax.tree_util.keystr(path)
        for path, x in named
        if not (np.abs(np.asarray(x, np.float32)) <= largest).all()
    ]
    if broken:
        raise ValueError(
            f"weights that are not finite in float16: {', '.join(broken)}; expected "
            "magnitudes of at most 65504. Did training diverge?"
        )
    return jax.tree.map(lambda x: np.asarray(x).astype(jnp.float16), params)


def _card_facts(
    setup: Setup,
    source: PretrainData,
    params: Params,
    newest: Newest,
    train: Mapping[str, Any],
    first: Mapping[str, Any] | None,
) -> CardFacts:
    """What the card tells of a run; `first` is the section of the plain stage."""
    plain = 0 if first is None else first["steps"]
    asked = 0 if first is None else plain * first["batch"] * first["questions"]
    geometry, steps = setup.policy.geometry, (newest.step, newest.whole)
    return CardFacts(
        run=run_facts(newest.folder, seed=setup.seed, steps=steps),
        plain=plain,
        examples=asked + newest.step * train["batch"] * train["questions"],
        parameters=sum(x.size for x in jax.tree.leaves(params)),
        packs=source_packs(source.shares),
        shares=source.shares,
        held_out=held_in_words(HELD_OUT),
        size=source.size,
        bounds=(geometry.min_pixels, geometry.max_pixels),
        ramps=source.ramps,
        level=setup.evaluation.level,
    )


def _read_setup(
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    *,
    seed: int,
    workdir: Path,
) -> Setup:
    """The setup of a config's sections."""
    if policy["lora"]["rank"] is not None:
        raise ValueError(
            "pretrain teaches all parameters of a policy: set policy.lora.rank=None"
        )
    return pretrain_setup(
        read_section(PretrainData, "data", data),
        box_style(read_section(BoxPrompt, "prompt", prompt), answers="one"),
        open_policy(policy),
        read_section(Evaluation, "evaluation", evaluation),
        seed=seed,
        workdir=workdir,
    )
