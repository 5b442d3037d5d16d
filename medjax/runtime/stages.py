"""A run as stages in order, each starting from the parameters of the one before."""

import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from medjax import masked
from medjax.runtime import checkpoint, loop
from medjax.runtime.adapted import load_whole, restore_whole, trained_part
from medjax.runtime.audit import Audit
from medjax.runtime.live import Live
from medjax.runtime.program import abstract_state
from medjax.runtime.watch import (
    Counters,
    Watch,
    end_line,
    has_converged,
    is_over,
    read_counters,
)
from medjax.runtime.writer import agreed_row, write_manifest
from medjax.sharding import Rules
from medjax.types import Params, System, TrainState

# (predictions, per-example metrics, records) of each batch, as `loop.evaluate` yields.
Results = Iterator[tuple[Any, dict[str, np.ndarray], Any]]


class Stage(NamedTuple):
    """One training phase: what `loop.train` needs that differs between phases."""

    name: str  # its folder in the workdir, and part of its seed
    system: System
    source: loop.Source  # training batches
    steps: int  # updates in all
    identity: Mapping[str, Any]  # see `loop.train`
    show: Sequence[str] = ("loss",)  # metrics on the progress line
    start: Callable[[Any], Params] | None = None  # of a first stage; see `loop.train`
    base: Callable[[Any], Params] | None = None  # of a system with an adapter; likewise
    # before it trains; raises what is wrong, and returns what is strange
    check: Callable[[], Sequence[str] | None] | None = None
    # given the identity that a checkpoint to be evaluated was trained with; likewise
    accepts: Callable[[Mapping[str, Any]], None] | None = None
    # made anew for each evaluation, see `loop.evaluate`; None: never evaluated
    eval_batches: Callable[[], Iterable[tuple[Any, Any]]] | None = None
    # given the results and a folder that it may make and fill; None: `mean_scores`
    score: Callable[[Results, pathlib.Path], Mapping[str, Any]] | None = None
    tokens: int = 0  # of answers in a step at most, where answers are tokens
    eval_total: int = 0  # batches of an evaluation, for its ETA; 0 where not known
    evaluate_every: int = 0  # steps between evaluations; 0: at the end alone
    evaluate_first: bool = False  # before the first step too
    watch: Watch | None = None  # where training may end early; see `loop.train`
    audit: Audit | None = None  # what is written of each completion; likewise
    live: Live | None = None  # how it is shown while it trains; likewise
    facts: Mapping[str, Any] | None = None  # what its manifest says beside the run's
    doubts: Sequence[str] = ()  # what makes its data, and so its result, doubtful


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
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Train the stages that are not finished yet; return the last one's state.

    A finished stage is left alone; the last one is always entered, if only to read its
    state. Each stage but the first begins from the parameters of the one before. A
    stage that ended since no group had a signal, at too small a hit rate, is evaluated
    and is the last one: those after it would be taught by a policy that learnt nothing.

    Args:
        stages: At least one, in the order of training, with names that differ.
        mesh: It must hold all devices of all processes that take part.
        rules: The mesh axes that each logical axis falls on; they must name `batch`.
        seed: An integer, the same for all stages; each folds its name in. A resume with
            another one is refused.
        workdir: Gets one folder per stage with manifest.json and what `loop.train`
            writes; it is made if it does not exist. Stages that stand in it are gone on
            with.
        checkpoint_every: How many steps lie between checkpoints, 1 or more; one is
            written after the last step of a stage in any case.
        keep: How many checkpoints of each stage stay on disk, 1 or more.
        on_nonfinite: What a step does that is not finite, "stop" or "skip"; see
            `loop.train`.
        facts: What each manifest holds beside command, versions and devices, such as
            the whole config; as JSON can hold it.
        profile: Of each stage, the first and the last step of a trace; None: none.

    Returns:
        The state after the last step of the last stage that was entered, sharded by
        `rules`.

    Raises:
        ValueError: There are no stages, or two of one name.
        CheckpointError: A stage in `workdir` is of another config, data or seed.

    Also what a stage's own `check` and `loop.train` raise.
    """
    if not stages:
        raise ValueError("no stages: nothing to train")
    names = [stage.name for stage in stages]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"stages {', '.join(names)}: {', '.join(twice)} comes twice; a stage has "
            "a folder and a seed by its name: give them different ones"
        )
    start = stages[0].start
    state: TrainState
    for stage in stages:
        folder = pathlib.Path(workdir) / stage.name
        # Asked of the last stage too: a config that may not go on leaves no trace.
        finished = _is_finished(stage, folder, seed=seed)
        if stage is stages[-1] or not finished or _gave_up(stage, folder, seed=seed):
            if stage.check is not None:
                for line in stage.check() or ():
                    sys.stderr.write(f"{stage.name}: warning: {line}\n")
            write_manifest(folder, stage=stage.name, **facts, **(stage.facts or {}))
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
                base=stage.base,
                on_nonfinite=on_nonfinite,
                name=stage.name,
                show=stage.show,
                evaluate=_evaluation(stage, folder, mesh=mesh, rules=rules, seed=seed),
                evaluate_every=stage.evaluate_every,
                evaluate_first=stage.evaluate_first,
                watch=stage.watch,
                audit=stage.audit,
                live=stage.live,
                profile=profile,
            )
        if _gave_up(stage, folder, seed=seed):
            break
        start = _params_of(stage, folder, mesh=mesh, rules=rules)
    return state


def _is_finished(stage, folder, *, seed) -> bool:
    """Trained to the end and evaluated there; another config is refused."""
    newest = _newest(stage, folder, seed=seed)
    if newest is None:
        return False
    step, counters = newest
    row = agreed_row(folder / "eval.jsonl") or {"step": None}
    trained = step >= stage.steps or is_over(stage.watch, counters)
    evaluated = row["step"] == min(step, stage.steps)
    return trained and (stage.eval_batches is None or evaluated)


def _gave_up(stage, folder, *, seed) -> bool:
    """Ended for want of a signal, with much left to learn."""
    newest = _newest(stage, folder, seed=seed)
    if newest is None or not is_over(stage.watch, newest[1]):
        return False
    return not has_converged(stage.watch, newest[1])


def _newest(stage, folder, *, seed) -> tuple[int, Counters] | None:
    identity = {**stage.identity, "seed": seed}
    found = checkpoint.newest(folder / "checkpoints", identity=identity)
    return found and (found[0], read_counters(found[1]))


def _params_of(stage, folder, *, mesh, rules) -> Callable[[Any], Params]:
    """A function that reads a finished stage's parameters into given shardings.

    Of a system with an adapter they are the adapter's.
    """

    def load(shardings: Any) -> Params:
        abstract, _ = abstract_state(stage.system, mesh=mesh, rules=rules)
        placed = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            trained_part(stage.system.adapter, abstract.params),
            shardings,
        )
        return checkpoint.restore_params(folder / "checkpoints", placed)

    return load


def _evaluation(
    stage, folder, *, mesh, rules, seed
) -> Callable[[TrainState], Mapping[str, Any]] | None:
    batches = stage.eval_batches
    if batches is None:
        return None
    score = mean_scores if stage.score is None else stage.score

    def evaluate(state: TrainState) -> Mapping[str, Any]:
        results = loop.evaluate(
            stage.system,
            state,
            batches(),
            mesh=mesh,
            rules=rules,
            seed=seed,
            name=f"{stage.name} eval",
            total=stage.eval_total,
        )
        return score(results, folder / "eval" / str(jax.device_get(state.step)))

    return evaluate


def doubts(
    stages: Sequence[Stage], *, seed: int, workdir: str | os.PathLike
) -> list[str]:
    """What makes the result of a run doubtful, a line each; see `run_stages`.

    What its stages say of their data comes first. A stage that ended since no group had
    a signal, unless it had converged, gives a line, and one that skipped steps because
    they were not finite (where `on_nonfinite` is "skip"), those before a resume
    included.

    Args:
        stages: The stages of the run; one that has not begun gives no line.
        seed: The one that `run_stages` was given.
        workdir: The folder that `run_stages` was given; it may be empty, or missing.

    Returns:
        Sentences that name their stage, first all of the data; [] for a run that
        nothing speaks against.

    Raises:
        CheckpointError: A stage in `workdir` is of another config, data or seed.
    """
    lines = [line for stage in stages for line in stage.doubts]
    for stage in stages:
        folder = pathlib.Path(workdir) / stage.name
        row = agreed_row(folder / "metrics.jsonl") or {}
        newest = _newest(stage, folder, seed=seed)
        if newest and stage.watch and _gave_up(stage, folder, seed=seed):
            step, counters = newest
            lines.append(f"{stage.name}: {end_line(stage.watch, counters, step, row)}")
        if row.get("skipped"):
            lines.append(
                f"{stage.name}: {row['skipped']} of {row['step']} steps were not "
                "finite and skipped, see nonfinite in metrics.jsonl; is the learning "
                "rate too high?"
            )
    return lines


def mean_scores(results: Results, folder: pathlib.Path) -> dict[str, float]:
    """The mean of each per-example metric over all examples; {} without batches.

    Args:
        results: (predictions, metrics, records) of each batch; metrics are arrays with
            one entry an example, numbers or flags, of which True counts as 1. Not every
            batch has to have the same metrics.
        folder: It is not read, and nothing is written.

    Returns:
        By name, in the metric's unit; NaN where one entry is, and of a metric without
        entries.
    """
    del folder
    means: dict[str, masked.Mean] = {}
    for _, values, _ in results:
        for name, value in values.items():
            part = masked.mean_of(value, np.ones(value.shape, bool))
            means[name] = masked.merge(means[name], part) if name in means else part
    return {name: float(masked.compute(mean)) for name, mean in means.items()}


def evaluate_checkpoint(
    stage: Stage,
    path: str | os.PathLike,
    *,
    load: Callable[[pathlib.Path, Any], Params],
    mesh: Mesh,
    rules: Rules,
    seed: int,
    workdir: str | os.PathLike,
    describe: Callable[[pathlib.Path], Mapping[str, Any]] | None = None,
) -> Mapping[str, Any]:
    """Score one set of parameters on a stage's evaluation batches.

    Args:
        stage: Its system, evaluation batches and score are used.
        path: A stage's folder in a workdir; or a workdir, whose folder of that stage's
            name is taken; or else whatever `load` reads, which counts as step 0.
        load: A function of a folder and a tree of shardings that reads pretrained
            weights.
        mesh: It must hold all devices of all processes that take part.
        rules: The mesh axes that each logical axis falls on; they must name `batch`.
        seed: Decides the evaluation's key, see `loop.evaluate`.
        workdir: The folder in which the stage's score may write NAME/eval/STEP/, NAME
            being the stage's.
        describe: What a folder that `load` reads says of its training, for the stage's
            `accepts`, as parts of an identity; None asks nothing of it.

    Returns:
        What the stage's `score` returns, `mean_scores` where it has none.

    Raises:
        FileNotFoundError: `path` is no folder, or holds no whole checkpoint.
        ArchitectureError: The parameters are of another architecture.
        ValueError: The stage has nothing to evaluate on, or what its `accepts` raises.
    """
    state = read_state(
        stage.system,
        path,
        name=stage.name,
        accepts=stage.accepts,
        load=load,
        base=stage.base,
        describe=describe,
        mesh=mesh,
        rules=rules,
    )
    evaluate = _evaluation(
        stage, pathlib.Path(workdir) / stage.name, mesh=mesh, rules=rules, seed=seed
    )
    if evaluate is None:
        raise ValueError(f"stage {stage.name} has nothing to evaluate on")
    return evaluate(state)


def read_state(
    system: System,
    path: str | os.PathLike,
    *,
    name: str,
    accepts: Callable[[Mapping[str, Any]], None] | None,
    load: Callable[[pathlib.Path, Any], Params],
    mesh: Mesh,
    rules: Rules,
    base: Callable[[Any], Params] | None = None,
    describe: Callable[[pathlib.Path], Mapping[str, Any]] | None = None,
) -> TrainState:
    """Parameters and step of a checkpoint or a folder, on the mesh; no optimiser.

    Args:
        system: Its `init` and `axes` say what the parameters are.
        path: A stage's folder in a workdir; or a workdir, whose folder `name` is taken;
            or else whatever `load` reads, which counts as step 0.
        name: Of the stage: its folder in a workdir.
        accepts: Given the identity that the parameters were trained with; raises where
            it does not fit. None asks nothing of it.
        load: A function of a folder and a tree of shardings that reads pretrained
            weights.
        mesh: It must hold all devices of all processes that take part.
        rules: The mesh axes that each logical axis falls on; they must name `batch`.
        base: Of a system with an adapter, loads the parameters that checkpoints do not
            hold. What `load` reads is a whole policy: it gets an adapter that adds
            nothing.
        describe: What a folder that `load` reads says of its training, for `accepts`,
            as parts of an identity; None asks nothing of it.

    Returns:
        The parameters, sharded by `rules`, and the number of the newest checkpoint's
        step, int32; the optimiser's state is ().

    Raises:
        FileNotFoundError: `path` is no folder, or holds no whole checkpoint.
        ArchitectureError: The parameters are of another architecture.
        ValueError: What `accepts` raises.
    """
    path = pathlib.Path(path)
    abstract, shardings = abstract_state(system, mesh=mesh, rules=rules)
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint at {path}: no such folder")
    folders = (path / "checkpoints", path / name / "checkpoints")
    present = [folder for folder in folders if folder.is_dir()]
    if present:
        if accepts is not None:
            accepts(checkpoint.stored_identity(present[0]))
        params = restore_whole(system, present[0], abstract, shardings, base=base)
        step = checkpoint.newest_step(present[0])
    else:
        if accepts is not None and describe is not None:
            accepts(describe(path))
        params, step = load_whole(system, path, abstract, shardings, load=load), 0
    return TrainState(params, (), jax.device_put(np.int32(step), shardings.step))
