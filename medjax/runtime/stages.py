"""A run as stages in order, each starting from the parameters of the one before."""

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from medjax import metrics
from medjax.runtime import checkpoint, loop
from medjax.runtime.program import abstract_state, init_state
from medjax.runtime.writer import write_manifest
from medjax.sharding import Rules
from medjax.types import Params, System, TrainState

# (predictions, per-example metrics, records) of each batch, as `loop.evaluate` yields.
Results = Iterator[tuple[Any, dict[str, np.ndarray], Any]]


class Stage(NamedTuple):
    """One training phase: what `loop.train` needs that differs between phases."""

    name: str  # its folder in the workdir
    system: System
    source: Iterable[Any]  # training batches (grain)
    steps: int
    identity: Mapping[str, Any]  # JSON; see `loop.train`
    show: Sequence[str] = ("loss",)  # metrics on the progress line
    start: Callable[[], Params] | None = None  # of a first stage: pretrained weights
    eval_batches: Callable[[], Iterable[tuple[Any, Any]]] | None = None
    score: Callable[[Results, pathlib.Path], Mapping[str, Any]] | None = None
    evaluate_every: int = 0


def run_stages(
    stages: Sequence[Stage],
    *,
    mesh: Mesh,
    rules: Rules,
    seed: int,
    workdir: str | os.PathLike,
    checkpoint_every: int,
    keep: int,
    on_nonfinite: Literal["stop", "skip"],
    facts: Mapping[str, Any],
) -> TrainState:
    """Train the stages that are not finished yet; return the last one's state.

    Args:
        stages: in order; names are unique.
        mesh: devices.
        rules: logical axis -> mesh axes.
        seed: of all stages; each folds its name in.
        workdir: gets one folder per stage: manifest.json and what `loop.train` writes.
        checkpoint_every: see `loop.train`; so are the other options.
        keep: checkpoints kept per stage.
        on_nonfinite: what a non-finite step does.
        facts: for the manifests: the whole config.
    """
    start, state = stages[0].start, None
    for stage in stages:
        folder = pathlib.Path(workdir) / stage.name
        finished = checkpoint.is_finished(
            folder / "checkpoints",
            steps=stage.steps,
            identity={**stage.identity, "seed": seed},
        )
        if not finished or stage is stages[-1]:
            write_manifest(folder, stage=stage.name, **facts)
            state = loop.train(
                stage.system,
                stage.source,
                mesh=mesh,
                rules=rules,
                steps=stage.steps,
                seed=seed,
                workdir=folder,
                checkpoint_every=checkpoint_every,
                keep=keep,
                identity=stage.identity,
                start=start,
                on_nonfinite=on_nonfinite,
                name=stage.name,
                show=stage.show,
                evaluate=_evaluation(stage, folder, mesh=mesh, rules=rules, seed=seed),
                evaluate_every=stage.evaluate_every,
            )
        start = _params_of(stage, folder, mesh=mesh, rules=rules)
    return state


def _params_of(stage: Stage, folder: pathlib.Path, *, mesh, rules):
    """A function that reads a finished stage's parameters, sharded as it had them."""

    def load() -> Params:
        abstract, _ = abstract_state(stage.system, mesh=mesh, rules=rules)
        return checkpoint.restore_params(folder / "checkpoints", abstract.params)

    return load


def _evaluation(stage: Stage, folder: pathlib.Path, *, mesh, rules, seed):
    if stage.eval_batches is None:
        return None

    def evaluate(state: TrainState) -> Mapping[str, Any]:
        results = loop.evaluate(
            stage.system,
            state,
            stage.eval_batches(),
            mesh=mesh,
            rules=rules,
            seed=seed,
            name=f"{stage.name} eval",
        )
        score = stage.score or mean_scores
        return score(results, folder / "eval" / str(int(state.step)))

    return evaluate


def mean_scores(results: Results, folder: pathlib.Path) -> dict[str, float]:
    """The mean of each per-example metric over all examples; writes nothing."""
    del folder
    means: dict[str, metrics.Mean] = {}
    for _, values, _ in results:
        for name, value in values.items():
            part = metrics.mean_of(value, np.ones(value.shape, bool))
            means[name] = metrics.merge(means[name], part) if name in means else part
    return {name: float(metrics.compute(mean)) for name, mean in means.items()}


def evaluate_checkpoint(
    stage: Stage,
    path: str | os.PathLike,
    *,
    load: Callable[[pathlib.Path], Params],
    mesh: Mesh,
    rules: Rules,
    seed: int,
    workdir: str | os.PathLike,
) -> Mapping[str, Any]:
    """Score one set of parameters on a stage's evaluation batches.

    Args:
        stage: gives system, batches and score.
        path: a stage's folder in a workdir, or a workdir, whose folder of that stage's
            name is taken, or whatever `load` reads.
        load: reads pretrained weights from a folder.
        mesh: devices.
        rules: logical axis -> mesh axes.
        seed: key of the evaluation.
        workdir: gets <name>/eval/<step>/.
    """
    path = pathlib.Path(path)
    abstract, shardings = abstract_state(stage.system, mesh=mesh, rules=rules)
    found = [
        folder
        for folder in (path / "checkpoints", path / stage.name / "checkpoints")
        if folder.is_dir()
    ]
    if found:
        params = checkpoint.restore_params(found[0], abstract.params)
    else:
        params = load(path)
    state = init_state(
        stage.system, jax.random.key(seed), start=params, shardings=shardings
    )
    evaluate = _evaluation(
        stage, pathlib.Path(workdir) / stage.name, mesh=mesh, rules=rules, seed=seed
    )
    return evaluate(state)
