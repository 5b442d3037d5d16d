"""A stage's newest checkpoint as a Hugging Face folder with its card."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from medjax.recipes.policy.card import Exported, card_text, run_facts
from medjax.recipes.policy.qwen25vl_folder import seal_folder
from medjax.recipes.policy.scoring import tell
from medjax.recipes.policy.setup import Setup
from medjax.runtime import checkpoint
from medjax.runtime.adapted import restore_whole
from medjax.runtime.program import abstract_state
from medjax.runtime.stages import Stage
from medjax.runtime.watch import has_converged, is_over, read_counters
from medjax.runtime.writer import write_atomic
from medjax.sharding import Rules
from medjax.types import Params

EXPORTED = "policy"  # the folder in the workdir
ADAPTER = "adapter"  # likewise, of an adapted policy
HALF_MERGED = (
    "{1}: merged in {0}, in which less than 1/512 of a weight is lost when it is "
    "rounded: compare its scores by --mode=eval; the adapter beside it is exact, and "
    "load_qwen25vl(BASE, adapter=ADAPTER) merges it in float32"
)


class Newest(NamedTuple):
    """A stage of a run, and its newest checkpoint."""

    stage: Stage
    folder: Path  # of the stage
    step: int
    whole: int  # steps that its training was to have; `step` where it converged before

    @property
    def doubts(self) -> list[str]:
        """That training is not finished, where it is not."""
        if self.step >= self.whole:
            return []
        return [
            f"{self.folder}: exported at step {self.step} of {self.whole} of "
            f"{self.stage.name}"
        ]


def new_folder(workdir: Path) -> Path:
    """Where a policy is exported to.

    Args:
        workdir: The run's folder.

    Raises:
        FileExistsError: It is there: somebody may have changed its card.
    """
    folder = workdir / EXPORTED
    _refuse_existing(folder)
    return folder


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise FileExistsError(
            f"{folder} is there, from an earlier export perhaps: move or remove it, "
            "then export again"
        )


def newest_checkpoint(
    stages: Sequence[Stage], path: str | None, *, seed: int, workdir: Path
) -> Newest:
    """The checkpoint that is exported.

    Args:
        stages: Those of the config, in the order of training.
        path: A stage's folder, or a workdir, of which the last stage is taken; None is
            `workdir`.
        seed: Of the run.
        workdir: The run's folder.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: The folder is that of no stage of the config.
        CheckpointError: The checkpoint is of another config, task or data.
    """
    place = Path(path) if path else workdir
    named = {stage.name: stage for stage in stages}
    stage, folder = stages[-1], place / stages[-1].name
    if (place / "checkpoints").is_dir():
        folder = place
        if place.resolve().name not in named:
            raise ValueError(
                f"--checkpoint={path}: {place.resolve().name} is no stage of the "
                f"config; expected {', '.join(named)}, or the workdir above them"
            )
        stage = named[place.resolve().name]
    identity = {**stage.identity, "seed": seed}
    found = checkpoint.newest(folder / "checkpoints", identity=identity)
    if found is None:
        others = [
            str(place / name)
            for name in named
            if (place / name / "checkpoints").is_dir() and name != stage.name
        ]
        raise FileNotFoundError(
            f"{folder / 'checkpoints'}: no checkpoint to export; train first, with the "
            "same config and workdir"
            + (f", or choose --checkpoint={' or '.join(others)}" if others else "")
        )
    step, counters = found[0], read_counters(found[1])
    watch, whole = stage.watch, stage.steps
    if watch is not None and is_over(watch, counters):
        whole = step if has_converged(watch, counters) else whole
    return Newest(stage, folder, step, whole)


def newest_params(newest: Newest, *, mesh: Mesh, rules: Rules) -> Params:
    """The weights of a checkpoint, as they were trained, beside their adapter if any.

    Args:
        newest: Which.
        mesh: The devices that hold them.
        rules: The mesh axes that each logical axis falls on.

    Raises:
        ArchitectureError: They are of another architecture.
    """
    stage, folder = newest.stage, newest.folder / "checkpoints"
    abstract, shardings = abstract_state(stage.system, mesh=mesh, rules=rules)
    return restore_whole(stage.system, folder, abstract, shardings, base=stage.base)


def write_folder(
    folder: Path, setup: Setup, params: Params, card: Callable[[Path], str]
) -> None:
    """Write weights, tokenizer, processor, checksums and card: all, or nothing.

    Args:
        folder: One that does not exist; it gets its name when it is whole.
        setup: Of the stage.
        params: The whole tree.
        card: Given the folder under its temporary name, makes the card.
    """
    new = folder.with_name(f"{folder.name}.part")
    first = jax.process_index() == 0
    if first:
        shutil.rmtree(new, ignore_errors=True)
    setup.policy.save(new, params)
    if first:
        seal_folder(new, setup.policy.geometry, ramps=setup.encoding.ramps)
    text = card(new)
    if first:
        write_atomic(new / "README.md", text)
        new.rename(folder)
    tell([f"policy written to {folder}"])


def export_stage(
    folder: Path,
    newest: Newest,
    setup: Setup,
    told: Exported,
    *,
    mesh: Mesh,
    rules: Rules,
) -> list[str]:
    """Write a stage's newest checkpoint, its scores being those of its evaluation.

    Of an adapted policy the adapter is written beside `folder`, and then, if wanted,
    the policy that it is merged into.

    Args:
        folder: From `new_folder`.
        newest: Which checkpoint.
        setup: Of its stage.
        told: What the card says of it.
        mesh: The devices that hold the weights.
        rules: The mesh axes that each logical axis falls on.

    Returns:
        What makes the folder doubtful: that training is not finished.

    Raises:
        FileExistsError: The adapter's folder is there.
        FileNotFoundError: The stage has no manifest.
    """
    steps, adapted = (newest.step, newest.whole), setup.policy.adapted
    if adapted is not None:
        _refuse_existing(folder.with_name(ADAPTER))
    facts = run_facts(newest.folder, seed=setup.seed, steps=steps)
    params = newest_params(newest, mesh=mesh, rules=rules)
    if adapted is not None:
        adapted.save(folder.with_name(ADAPTER), params)
        tell([f"adapter written to {folder.with_name(ADAPTER)}"])
        if not adapted.merged:
            return newest.doubts
        params = jax.jit(adapted.merge)(params)
        kinds = sorted({str(x.dtype) for x in jax.tree.leaves(params)})
        if kinds[0] in ("bfloat16", "float16"):
            tell([HALF_MERGED.format(kinds[0], folder)])
        words = f"- trained as {adapted.words}, which is merged into these weights"
        told = told._replace(about=(*told.about, words))
    text = card_text(told, setup, facts, params, newest.folder)
    write_folder(folder, setup, params, lambda _: text)
    return newest.doubts
