"""The one host loop: it feeds compiled steps, and never waits for the device.

A step's metrics are fetched while the next step runs, so what is printed is one step
old; checkpoints, evaluations and the end wait for their own.
"""

import contextlib
import json
import os
import pathlib
import signal
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from medjax.runtime import checkpoint
from medjax.runtime.adapted import held, whole_state
from medjax.runtime.agreement import require_alike
from medjax.runtime.audit import Audit, audit_writer
from medjax.runtime.errors import NonFiniteReward, NonFiniteStep
from medjax.runtime.live import Live, live_pages
from medjax.runtime.program import (
    abstract_state,
    compile_by_shape,
    describe,
    init_state,
    judged,
    place_key,
    shapes_of,
)
from medjax.runtime.progress import progress
from medjax.runtime.signals import Interrupted, deferred_signals
from medjax.runtime.speed import profiler, speed_writer
from medjax.runtime.watch import (
    FAULT,
    Counters,
    Watch,
    count_step,
    end_line,
    find_fault,
    is_over,
    read_counters,
)
from medjax.runtime.watchdogs import (
    Watched,
    observe,
    observe_all,
    read_rows,
    summary_lines,
)
from medjax.runtime.writer import agreed_row, metrics_writer
from medjax.sharding import Rules, batch_sharding, place_batch, shard_tree
from medjax.types import Params, System, TrainState

MAX_SKIPS_IN_A_ROW = 20  # a run that skips every step has to stop all the same


class Batches(Protocol):
    """An iterator of host batches that knows where it stands, as grain's do."""

    def __next__(self) -> Any:
        """The next batch: a tree of NumPy arrays, this process's rows of it."""

    def get_state(self) -> Any:
        """Where it stands after the last batch, as JSON can hold it."""

    def set_state(self, state: Any, /) -> None:
        """Make the next batch the one that followed when `state` was got."""


class Source(Protocol):
    """Gives a new iterator from the start each time."""

    def __iter__(self) -> Batches:
        """Batches from the first on."""
        ...


def train(
    system: System,
    source: Source,
    *,
    mesh: Mesh,
    rules: Rules,
    steps: int,
    seed: int,
    workdir: str | os.PathLike,
    checkpoint_every: int,
    keep: int,
    identity: Mapping[str, Any],
    start: Params | Callable[[Any], Params] | None = None,
    base: Callable[[Any], Params] | None = None,
    on_nonfinite: Literal["stop", "skip"] = "stop",
    name: str = "train",
    show: Sequence[str] = ("loss",),
    evaluate: Callable[[TrainState], Mapping[str, Any]] | None = None,
    evaluate_every: int = 0,
    evaluate_first: bool = False,
    watch: Watch | None = None,
    audit: Audit | None = None,
    live: Live | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Run `steps` updates, or what is left of them, and return the last state.

    Args:
        system: Pure functions. Its `init` is called as init(key), or as init(key,
            params) where `start` gives parameters.
        source: Gives iterators of host batches, as a grain IterDataset does; at least
            `steps` batches must come.
        mesh: It must hold all devices of all processes that take part.
        rules: The mesh axes that each logical axis of `system.axes` falls on; they must
            name `batch` too.
        steps: How many updates there are in all, those before a resume included. When
            so many are done already, nothing is trained; 0 returns the start.
        seed: An integer. Step i uses fold_in(root, i), where root = fold_in(key(seed),
            crc32(name)). A resume with another seed is refused.
        workdir: The folder that gets checkpoints/, metrics.jsonl, eval.jsonl,
            speed.jsonl and tensorboard/. It is made if it does not exist; a checkpoint
            in it is resumed.
        checkpoint_every: A checkpoint is written after each so many steps, 1 or more,
            and after the last step in any case.
        keep: How many checkpoints stay on disk, the newest, 1 or more.
        identity: What must not change on a resume, as JSON can hold it: the config's
            sections that bear on numbers, and the data's fingerprint.
        start: Parameters to begin from (donated), or a function that loads them given
            the tree of their shardings; used when there is nothing to resume. None
            begins from random ones. Of a system with an adapter they are the adapter's.
        base: Of a system with an adapter, a function of the tree of their shardings
            that loads the parameters that never change. Checkpoints do not hold them,
            so a resume loads them too; `identity` has to say which they are.
        on_nonfinite: What a step does whose loss, gradient norm or parameters are not
            finite. "stop" raises; "skip" keeps the old state but for its number and
            counts the step, and raises after 20 in a row. Skipping holds two states in
            memory during a step.
        name: What the progress lines call the run or stage; it also enters the seed.
        show: Names of the metrics on the progress line, in this order.
        evaluate: Called with the state after the last step, and as the next two say;
            the scores it returns become a row of eval.jsonl. None evaluates nothing.
        evaluate_every: Steps between evaluations; 0 leaves only the one at the end.
        evaluate_first: Whether the state before the first step is evaluated too.
            Neither is a part of the identity.
        watch: Ends the training where no group of completions has had a signal for its
            `patience`: the state is saved, evaluated and returned as after a last step.
            Not a part of the identity: a resume with more patience goes on. What its
            `dogs` find is told while it happens, and once more at the end. None, for
            systems without groups, never ends it.
        audit: What is written of `metrics["trace"]`, which a system hands out for it,
            into audit/; see `audit_writer`. A trace is fetched as metrics are, one step
            late, and is no part of them. Not a part of the identity.
        live: Writes a page of the training while it goes on, from the files in
            `workdir` alone; see `live_pages`. None writes none.
        profile: The first and the last step of a trace that is written into profile/;
            see `profiler`. None writes none.

    Returns:
        The state after the last step, sharded by `rules`: parameters, optimiser, number
        of the step and what the system carries.

    Raises:
        NonFiniteReward: A reward is not finite, whatever `on_nonfinite` says; reward
            and sample are named, and nothing of that step is saved.
        NonFiniteStep: `on_nonfinite` gave up; nothing of that step is saved.
        CheckpointError: A checkpoint cannot be written, or that in `workdir` is of
            another run.
        ArchitectureError: The checkpoint, `start` or `base` is of another architecture.
        Interrupted: SIGTERM or SIGINT came, and a checkpoint was written since.
        ValueError: The source ran out of batches.
    """
    folder = pathlib.Path(workdir)
    whole = NamedSharding(mesh, PartitionSpec())
    root = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    if jax.process_count() > 1:  # where a checkpoint's is read to
        root = place_key(root, whole)
    abstract, shardings = abstract_state(system, mesh=mesh, rules=rules)
    identity = {**identity, "seed": seed}
    require_alike(f"config or data of {name}", identity)
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(
            checkpoint.open_checkpoints(folder / "checkpoints", keep=keep)
        )
        restored = checkpoint.restore(
            manager, held(system, abstract), root=root, identity=identity
        )
        first = restored.step if restored else 0
        # Over several processes jax's preemption service keeps SIGTERM for itself.
        alone = jax.process_count() == 1
        stopped = stack.enter_context(deferred_signals()) if alone else lambda: None
        report = stack.enter_context(
            progress(name, first=first, total=steps, show=show)
        )
        write = stack.enter_context(
            metrics_writer(folder, name="metrics", restored_step=first)
        )
        write_eval = stack.enter_context(
            metrics_writer(folder, name="eval", restored_step=first)
        )
        speed = stack.enter_context(
            speed_writer(folder, list(mesh.devices.flat), restored_step=first)
        )
        profiled = stack.enter_context(profiler(folder, profile))
        batches = iter(source)
        if restored:
            report.note(f"resumed from step {first} in {manager.directory}")
            batches.set_state(restored.position)
            state = whole_state(system, restored.state, base=base, shardings=shardings)
            root, counters = restored.root, read_counters(restored.counters)
        else:
            with report.busy("initialising"):
                state = init_state(
                    system, root, start=start, base=base, shardings=shardings
                )
            counters = Counters()
        if jax.process_count() == 1:
            root = jax.device_put(root, whole)
        fold = jax.jit(jax.random.fold_in, out_shardings=whole)
        update = compile_by_shape(
            judged(system.update, skip=on_nonfinite == "skip", adapter=system.adapter),
            out_shardings=(shardings, whole),
            report=report,
            traced=speed.traced,
        )

        write_trace = stack.enter_context(
            audit_writer(folder, audit, restored_step=first)
        )
        pages = live_pages(live, folder, steps=steps, tell=report.note)
        stack.push(pages.leave)
        pending: list[tuple[int, Mapping[str, jax.Array], Any]] = []
        dogs = None if watch is None else watch.dogs
        seen = Watched()
        if dogs is not None and restored:
            seen = observe_all(dogs, read_rows(folder / "metrics.jsonl"))

        def finish_step() -> None:
            """Fetch, judge, count and write the metrics that are on their way."""
            nonlocal counters, seen
            if not pending:
                return
            step, metrics, trace = pending.pop()
            values, trace = jax.device_get((metrics, trace))
            counters, fault = count_step(counters, values), find_fault(watch, values)
            values = {k: x for k, x in values.items() if not k.startswith(FAULT)}
            values["skipped"] = counters.skipped
            if watch is not None:
                values["idle"] = counters.idle
            write(step, values)
            if audit is not None:
                write_trace(step, trace, values)
            report.step(step, values | speed.finished(step, values))
            if dogs is not None:
                seen, lines = observe(dogs, seen, step, values)
                for line in lines:
                    report.note(line)
            if fault:
                raise NonFiniteReward(f"step {step}: {fault}. {_unsaved(manager)}")
            too_many = counters.skipped_in_a_row >= MAX_SKIPS_IN_A_ROW
            if values["nonfinite"] and (on_nonfinite == "stop" or too_many):
                raise NonFiniteStep(_nonfinite_message(step, values, manager))
            pages.step(step)

        def evaluate_after(step: int) -> None:
            """Evaluate where it is due."""
            every = evaluate_every and step % evaluate_every == 0
            due = step == steps or every or not step or is_over(watch, counters)
            if evaluate is not None and due:
                finish_step()
                write_eval(step, evaluate(state))
                speed.interrupted()
                if step != steps and not is_over(watch, counters):
                    pages.mark(step)

        last = agreed_row(folder / "eval.jsonl")
        if (restored or evaluate_first) and (last is None or last["step"] != first):
            evaluate_after(first)  # killed between this checkpoint and its evaluation

        batch, last_step = None, first if is_over(watch, counters) else steps
        if first < last_step:
            batch = _next_batch(batches, mesh, rules, done=first, steps=steps)
            pages.mark(first)  # a page of before a resume
        for step in range(first + 1, last_step + 1):
            if system.prepare is not None:
                ready = system.prepare(state, batch, fold(root, state.step))
                batch = place_batch(ready, mesh, rules)
            if profile is not None and step in (profile[0], profile[1] + 1):
                finish_step()  # a trace holds whole steps
                speed.interrupted()
            profiled(step)
            state, metrics = update(state, batch, root)
            trace = metrics.pop("trace", None)
            position = json.dumps(batches.get_state())
            if step < steps:
                batch = _next_batch(batches, mesh, rules, done=step, steps=steps)
            finish_step()
            pending.append((step, metrics, trace))

            if is_over(watch, counters, ahead=1):
                finish_step()  # it may be the last
            over = is_over(watch, counters)
            stop = _agree(stopped(), step)
            if stop or over or step == steps or step % checkpoint_every == 0:
                finish_step()
                checkpoint.save(
                    manager,
                    step,
                    held(system, state),
                    root=root,
                    position=position,
                    identity=identity,
                    counters=counters._asdict(),
                )
                speed.interrupted()
            if stop:
                with report.busy("writing a checkpoint"):
                    checkpoint.wait(manager)
                report.note(
                    f"{stop.name}: stopped after step {step}, which is saved; the same "
                    "command goes on from there"
                )
                raise Interrupted(128 + stop)
            evaluate_after(step)
            if over:
                break
        if evaluate is None:
            pages.finish()
        for line in () if dogs is None else summary_lines(dogs, seen):
            report.note(line)
        if watch is not None and is_over(watch, counters):
            report.note(end_line(watch, counters, int(jax.device_get(state.step)), {}))
    return state


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

    A batch is computed when it is asked for; each shape of batch compiles once.

    Args:
        system: Its `evaluate` gets one key for all batches: a system keys noise by
            sample id, so that the batch layout changes nothing.
        state: Only its parameters and step need to be there, on the mesh. It is not
            donated.
        batches: Pairs of a host batch, a tree of NumPy arrays with the rows first, and
            whatever describes its rows, which is passed on. Over several processes each
            holds the same whole batches. No batch yields nothing.
        mesh: It must hold all devices of all processes that take part.
        rules: The mesh axes that each logical axis falls on. They must name `batch`,
            and its devices must divide the rows of each batch.
        seed: An integer: the key of all batches is fold_in(key(seed), state.step).
        name: The progress line begins with it.
        total: The number of batches, from which the time left is estimated; 0 when it
            is not known, which changes nothing else.

    Yields:
        What `system.evaluate` returned, as NumPy arrays with all rows of the batch, in
        its order, and the batch's records as they came. Numbers that are not finite are
        handed on.

    Raises:
        ValueError: At the batch concerned: the rules do not name `batch`, the mesh
            lacks an axis of theirs, or the rows are not divided by the devices.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    run = jax.jit(system.evaluate, out_shardings=whole)
    root = place_key(jax.random.key(seed), whole)
    key = jax.jit(jax.random.fold_in, out_shardings=whole)(root, state.step)
    known = set()
    with progress(name, first=0, total=total, show=()) as report:
        for index, (batch, records) in enumerate(batches):
            placed = shard_tree(batch, batch_sharding(batch, mesh, rules))
            shapes = shapes_of(batch)
            wait = contextlib.nullcontext()
            if shapes not in known:
                known.add(shapes)
                wait = report.busy(f"batch shape {len(known)}: {describe(shapes)}")
            with wait, jax.transfer_guard("disallow"):
                predictions, metrics = jax.device_get(run(state, placed, key))
            report.step(index + 1, {})
            yield predictions, metrics, records


def _next_batch(batches, mesh: Mesh, rules: Rules, *, done: int, steps: int) -> Any:
    """The next batch, on the mesh."""
    batch = next(batches, None)
    if batch is None:
        raise ValueError(
            f"the data ended after {done} batches, {steps} steps were asked for; "
            "repeat the source or ask for fewer steps"
        )
    return place_batch(batch, mesh, rules)


def _agree(stop: signal.Signals | None, step: int) -> signal.Signals | None:
    """The stop signal, seen by all processes at the same step.

    Over several processes jax's preemption service, not this one's signal, decides.
    """
    if jax.process_count() == 1:
        return stop
    reached = multihost_utils.reached_preemption_sync_point(step)
    return signal.SIGTERM if reached else None


def _nonfinite_message(step: int, values: Mapping[str, Any], manager) -> str:
    names = [
        name
        for name, value in values.items()
        if np.issubdtype(np.asarray(value).dtype, np.inexact)
        and not np.isfinite(value).all()
    ]
    return (
        f"step {step} is not finite ({', '.join(names) or 'a parameter'}); "
        f"{values['skipped']} such steps so far. {_unsaved(manager)}"
    )


def _unsaved(manager) -> str:
    newest = manager.latest_step()
    return (
        "Nothing of it was saved; newest checkpoint: "
        f"{'none' if newest is None else f'step {newest}'} in {manager.directory}"
    )
