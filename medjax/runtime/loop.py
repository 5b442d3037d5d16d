"""The one host loop: it feeds compiled steps, and never waits for the device.

A step's metrics are fetched while the next step runs, so what is printed is one step
old; checkpoints, and the end, wait for their own.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from medjax.runtime import checkpoint
from medjax.runtime.progress import Progress, progress
from medjax.runtime.signals import Interrupted, deferred_signals
from medjax.runtime.writer import metrics_writer
from medjax.sharding import Rules, place_batch, shard_tree, to_named_sharding
from medjax.types import Key, Params, System, TrainState

# A run whose every step is skipped has to stop all the same.
MAX_SKIPS_IN_A_ROW = 20
Evaluate = Callable[[TrainState], Mapping[str, Any]]


class NonFiniteStep(FloatingPointError):
    """A step gave a loss, gradient norm or parameter that is not finite."""


class _Pending(NamedTuple):
    """Metrics of a step on their way to the host."""

    step: int
    metrics: dict[str, jax.Array]


def train(
    system: System,
    source: Iterable[Any],
    *,
    mesh: Mesh,
    rules: Rules,
    steps: int,
    seed: int,
    workdir: str | os.PathLike,
    checkpoint_every: int,
    keep: int,
    identity: Mapping[str, Any],
    start: Params | Callable[[], Params] | None = None,
    on_nonfinite: Literal["stop", "skip"] = "stop",
    name: str = "train",
    show: Sequence[str] = ("loss",),
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
) -> TrainState:
    """Run `steps` updates, or what is left of them, and return the last state.

    Args:
        system: pure functions; `init` takes (key) or, with `start`, (key, params).
        source: gives iterators of host batches with get_state/set_state (grain).
        mesh: devices.
        rules: logical axis -> mesh axes; must name `batch`.
        steps: updates in all, counting those done before a resume.
        seed: step i uses fold_in(key(seed), i).
        workdir: gets checkpoints/, metrics.jsonl, eval.jsonl and tensorboard/.
        checkpoint_every: steps between checkpoints; the last step always has one.
        keep: checkpoints kept.
        identity: JSON mapping of what must not change on a resume: the config's
            sections that bear on numbers, and the data's fingerprint.
        start: parameters to begin from, or a function that loads them, called only
            when there is no checkpoint to resume. Donated.
        on_nonfinite: "stop" raises; "skip" keeps the old state (all but the step
            number) and counts. Skipping holds two states in memory during a step.
        name: head of the progress line.
        show: metrics on the progress line.
        evaluate: called with the state every `evaluate_every` steps and at the end;
            returns scalars for eval.jsonl.
        evaluate_every: 0 for the end only.

    Raises:
        NonFiniteStep: see `on_nonfinite`; nothing of that step is saved.
        CheckpointError: cannot be written, or is of another run or architecture.
        Interrupted: SIGTERM or SIGINT, after a checkpoint was written.
        ValueError: the source ran out of batches.
    """
    folder = pathlib.Path(workdir)
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(
            checkpoint.open_checkpoints(folder / "checkpoints", keep=keep)
        )
        root = _replicate(jax.random.key(seed), mesh)
        abstract, shardings = abstract_state(system, mesh=mesh, rules=rules)
        restored = checkpoint.restore(manager, abstract, root=root, identity=identity)
        first = restored.step if restored else 0
        if restored and first >= steps:
            return restored.state
        stopped = stack.enter_context(deferred_signals())
        report = stack.enter_context(
            progress(name, first=first, total=steps, show=show)
        )
        write = stack.enter_context(
            metrics_writer(folder, name="metrics", restored_step=first)
        )
        write_eval = stack.enter_context(
            metrics_writer(folder, name="eval", restored_step=first)
        )
        batches = iter(source)
        if restored:
            batches.set_state(restored.position)
            state, root = restored.state, _replicate(restored.root, mesh)
            counters = restored.counters
            report.note(f"resumed from step {first} in {manager.directory}")
        else:
            with report.busy("initialising"):
                state = init_state(
                    system, root, start=start, shardings=shardings, mesh=mesh
                )
            counters = {"skipped": 0, "in_a_row": 0}
        update = compile_by_shape(
            _guarded(
                system, split=system.prepare is not None, skip=on_nonfinite == "skip"
            ),
            name="update",
            out_shardings=(shardings, NamedSharding(mesh, PartitionSpec())),
            report=report,
        )
        fold = jax.jit(jax.random.fold_in)

        def finish(pending: _Pending | None) -> None:
            if pending is None:
                return
            values = jax.device_get(pending.metrics)
            bad = bool(values["nonfinite"])
            counters["skipped"] += bad
            counters["in_a_row"] = counters["in_a_row"] + 1 if bad else 0
            values["skipped"] = counters["skipped"]
            write(pending.step, values)
            report.step(pending.step, values)
            if bad and (
                on_nonfinite == "stop" or counters["in_a_row"] >= MAX_SKIPS_IN_A_ROW
            ):
                raise NonFiniteStep(_nonfinite_message(pending.step, values, manager))

        pending = None
        position = batches.get_state()
        batch = _next_batch(batches, mesh, rules, step=first, steps=steps)
        for step in range(first + 1, steps + 1):
            if system.prepare is not None:
                batch = system.prepare(state, batch, fold(root, state.step))
                batch = place_batch(batch, mesh, rules)
            state, metrics = update(state, batch, root)
            if step < steps:
                position = batches.get_state()
                batch = _next_batch(batches, mesh, rules, step=step, steps=steps)
            finish(pending)
            pending = _Pending(step, metrics)

            signal = _agree(stopped(), step)
            due = step == steps or step % checkpoint_every == 0 or signal
            if due:
                finish(pending)
                pending = None
                checkpoint.save(
                    manager,
                    step,
                    state,
                    root=root,
                    position=position if step < steps else batches.get_state(),
                    identity=identity,
                    counters=counters,
                )
            if signal:
                with report.busy("writing a checkpoint"):
                    manager.wait_until_finished()
                report.note(
                    f"stopped by {signal.name} after step {step}; the same command "
                    "goes on from there"
                )
                raise Interrupted(128 + signal)
            if evaluate and (
                step == steps or (evaluate_every and step % evaluate_every == 0)
            ):
                finish(pending)
                pending = None
                write_eval(step, evaluate(state))
    return state


def _guarded(
    system: System, *, split: bool, skip: bool
) -> Callable[[TrainState, Any, Key], tuple[TrainState, dict[str, jax.Array]]]:
    """`system.update` with its key folded inside and its result judged.

    metrics["nonfinite"] is 1 where loss, grad_norm or a parameter is not finite; with
    `skip` such a step leaves the state as it was but for its number.
    """

    def update(state, batch, root):
        key = jax.random.fold_in(root, state.step)
        new, metrics = system.update(state, batch, key)
        judged = [metrics[n] for n in ("loss", "grad_norm") if n in metrics]
        judged += [
            x
            for x in jax.tree.leaves(new.params)
            if jnp.issubdtype(x.dtype, jnp.inexact)
        ]
        finite = jnp.stack([jnp.isfinite(x).all() for x in judged]).all()
        if skip:
            kept = state._replace(step=new.step)
            new = jax.tree.map(lambda a, b: jax.lax.select(finite, a, b), new, kept)
        return new, metrics | {"nonfinite": (~finite).astype(jnp.int32)}

    return update


def compile_by_shape(
    function: Callable[..., Any],
    *,
    name: str,
    out_shardings: Any,
    report: Progress,
) -> Callable[..., Any]:
    """A function of (state, batch, key), compiled once per shape of its batch.

    Each compilation is announced with the shapes that asked for it, and a call can
    never compile by surprise: other types or shardings are an error. The state is
    donated; nothing is transferred implicitly.
    """
    jitted = jax.jit(function, donate_argnums=0, out_shardings=out_shardings)
    programs = {}

    def call(state, batch, key):
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batch))
        if shapes not in programs:
            largest = sorted({s for s, _ in shapes}, key=np.prod)[-3:]
            what = f"compiling {name} for batch shape {len(programs) + 1} {largest}"
            with report.busy(what):
                programs[shapes] = jitted.lower(state, batch, key).compile()
        with jax.transfer_guard("disallow"):
            return programs[shapes](state, batch, key)

    return call


def abstract_state(
    system: System, *, mesh: Mesh, rules: Rules
) -> tuple[TrainState, TrainState]:
    """A state's ShapeDtypeStructs (with shardings) and its shardings."""
    shapes = jax.eval_shape(system.init, jax.random.key(0))
    shardings = to_named_sharding(system.axes, mesh, rules, shapes)
    placed = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        shardings,
    )
    return placed, shardings


def init_state(
    system: System,
    key: Key,
    *,
    start: Params | Callable[[], Params] | None,
    shardings: TrainState,
    mesh: Mesh,
) -> TrainState:
    """`system.init` on the mesh, from `start` where given."""
    if start is None:
        return jax.jit(system.init, out_shardings=shardings)(key)
    params = shard_tree(start() if callable(start) else start, shardings.params)
    init = jax.jit(system.init, donate_argnums=1, out_shardings=shardings)
    return init(key, params)


def evaluate(
    system: System,
    state: TrainState,
    batches: Iterable[tuple[Any, Any]],
    *,
    mesh: Mesh,
    rules: Rules,
    seed: int,
    name: str = "eval",
    total: int = 0,
) -> Iterator[tuple[Any, dict[str, np.ndarray], Any]]:
    """Yield (predictions, per-example metrics, records) of each batch, on the host.

    Args:
        system: only `evaluate` is called, with one key for all batches: a system keys
            noise by sample id, so that the batch layout changes nothing.
        state: not donated.
        batches: (host batch, whatever describes its rows); the second is passed on.
        mesh: devices.
        rules: logical axis -> mesh axes.
        seed: the key is fold_in(key(seed), state.step).
        name: head of the progress line.
        total: number of batches, for the ETA; 0 when unknown.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    run = jax.jit(system.evaluate, out_shardings=whole)
    root = _replicate(jax.random.key(seed), mesh)
    key = jax.jit(jax.random.fold_in, out_shardings=whole)(root, state.step)
    with progress(name, first=0, total=total, show=()) as report:
        for index, (batch, records) in enumerate(batches):
            placed = place_batch(batch, mesh, rules)
            with jax.transfer_guard("disallow"):
                outputs = run(state, placed, key)
            predictions, metrics = jax.device_get(outputs)
            report.step(index + 1, {})
            yield predictions, metrics, records


def _replicate(key: Key, mesh: Mesh) -> Key:
    return jax.device_put(key, NamedSharding(mesh, PartitionSpec()))


def _next_batch(batches, mesh: Mesh, rules: Rules, *, step: int, steps: int) -> Any:
    """The next batch, on the mesh."""
    batch = next(batches, None)
    if batch is None:
        raise ValueError(
            f"the data ended after {step} batches, {steps} steps were asked for; "
            "repeat the source or ask for fewer steps"
        )
    return place_batch(batch, mesh, rules)


def _agree(signal, step: int):
    """The stop signal, seen by all processes at the same step."""
    if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
        import signal as signals

        return signals.SIGTERM
    return signal


def _nonfinite_message(step: int, values: Mapping[str, Any], manager) -> str:
    names = [
        name
        for name, value in values.items()
        if np.issubdtype(np.asarray(value).dtype, np.inexact)
        and not np.isfinite(value).all()
    ]
    return (
        f"step {step} is not finite ({', '.join(names) or 'a parameter'}); "
        f"{values['skipped']} such steps so far. Nothing of it was saved; the newest "
        f"checkpoint is step {manager.latest_step()} in {manager.directory}"
    )
