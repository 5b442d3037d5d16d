"""Checkpoints of everything a run needs to go on as if it had never stopped.

One folder per step, written by orbax under a temporary name and renamed when whole:

state  every array of the TrainState and the root key, under its path as a name
       (`params.text.norm.scale`), so that trees are compared and refused by name
about  JSON: what must not change (config, data), position in the data, counters
"""

import contextlib
import json
import logging
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from medjax.runtime.errors import CheckpointError
from medjax.runtime.naming import (
    PARAMS,
    ArchitectureError,
    check_arrays,
    differences,
    named,
    storable,
    unnamed,
)
from medjax.runtime.processes import from_first, gather_texts
from medjax.runtime.writer import other_maker
from medjax.types import Key, Params, TrainState

ROOT = "root_key"


class Restored(NamedTuple):
    """What a checkpoint held."""

    state: TrainState  # placed as `restore` was told
    root: Key  # the key whose fold_in gives each step's key
    position: Any  # where this process's data iterator stood, as JSON holds it
    counters: dict[str, float]  # the loop's own counts
    step: int  # steps done, 1 or more


@contextlib.contextmanager
def open_checkpoints(
    folder: str | os.PathLike, *, keep: int
) -> Iterator[ocp.CheckpointManager]:
    """A manager of the checkpoints in `folder`, open within the block.

    Half-written ones of a killed run are removed. Leaving the block waits for the
    save under way.

    Args:
        folder: It is made, with its parents, if it does not exist.
        keep: After a save all but the newest `keep` checkpoints are deleted; 1 or more.

    Raises:
        CheckpointError: The save under way failed; raised on leaving.
    """
    manager = _manager(folder, max_to_keep=keep, cleanup_tmp_directories=True)
    with _quiet():
        try:
            yield manager
            wait(manager)
        finally:
            # after an error of one of several processes it would wait for the others
            if jax.process_count() == 1 or not isinstance(sys.exception(), Exception):
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    manager.close()  # a failed save was reported by `wait` or `save`


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax's tracebacks of a failed save off the screen: `_explain` speaks."""

    def others(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    def not_late(unraisable: Any) -> None:
        # tensorstore's other writes fail after orbax has closed their event loop
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    logger.addFilter(others)
    sys.unraisablehook = not_late
    try:
        yield
    finally:
        sys.unraisablehook = hook
        logger.removeFilter(others)


def wait(manager: ocp.CheckpointManager) -> None:
    """Return when the save under way is on disk, at once if there is none.

    Args:
        manager: From `open_checkpoints`.

    Raises:
        CheckpointError: The save failed, such as on a full disk.
    """
    with _explain(manager, "the newest step"):
        manager.wait_until_finished()


def _manager(folder: str | os.PathLike, **options: Any) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        pathlib.Path(folder).absolute(),
        options=ocp.CheckpointManagerOptions(**options),
        item_handlers={
            "state": ocp.PyTreeCheckpointHandler(),
            "about": ocp.JsonCheckpointHandler(),
        },
    )


def save(
    manager: ocp.CheckpointManager,
    step: int,
    state: TrainState,
    *,
    root: Key,
    position: str,
    identity: Mapping[str, Any],
    counters: Mapping[str, float],
) -> None:
    """Write a checkpoint; the arrays are copied before it returns, the rest goes on.

    Args:
        manager: From `open_checkpoints`; every process must call this.
        step: How many steps are done, which names the checkpoint's folder.
        state: The TrainState after these steps. It may be donated to the next step as
            soon as this returns.
        root: The typed key whose fold_in gives each step's key.
        position: JSON text that says where this process's data iterator stands. Where
            it is the same on all processes, any number of them may go on from it.
        identity: What of config and data a resume must find unchanged, as JSON can hold
            it.
        counters: Numbers that the loop goes on counting after a resume.

    Raises:
        CheckpointError: This or the previous save failed, such as on a full disk.
            Earlier checkpoints are whole.
    """
    arrays = named(state) | {ROOT: storable(root)}
    # a process that failed alone would leave the others waiting for its part
    told = gather_texts(json.dumps([position, _missing_room(manager, arrays)]))
    positions = [json.loads(json.loads(text)[0]) for text in told]
    if all(other == positions[0] for other in positions):
        positions = positions[:1]  # any number of processes may go on from it
    about = {
        "identity": identity,
        "positions": positions,
        "counters": dict(counters),
    }
    with _explain(manager, f"step {step}"):
        for missing in filter(None, (json.loads(text)[1] for text in told)):
            raise OSError(missing)
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(arrays), about=ocp.args.JsonSave(about)
            ),
            force=True,
        )


def _missing_room(manager, arrays: Mapping[str, Any]) -> str:
    """What is wrong with the disk's room for these arrays; "" where it is enough."""
    need = sum(x.nbytes for x in arrays.values())
    free = shutil.disk_usage(str(manager.directory)).free
    if need <= free:
        return ""
    return f"{need / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free"


def _whole_steps(manager: ocp.CheckpointManager) -> list[int]:
    """The steps on disk; one of several processes does not wait for the others."""
    if jax.process_count() == 1:
        return sorted(manager.all_steps(read=True))
    names = (path.name for path in pathlib.Path(manager.directory).iterdir())
    return sorted(int(name) for name in names if name.isdecimal())


@contextlib.contextmanager
def _explain(manager: ocp.CheckpointManager, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        # the save's other writes would report themselves when they are collected
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        steps = ", ".join(map(str, _whole_steps(manager)))
        raise CheckpointError(
            f"the checkpoint of {what} could not be written to {manager.directory}: "
            f"{error}. Earlier checkpoints are whole (steps {steps or 'none'}); make "
            "room and start the same command again to go on from the newest"
        ) from error


def restore(
    manager: ocp.CheckpointManager,
    abstract: TrainState,
    *,
    root: Key,
    identity: Mapping[str, Any],
) -> Restored | None:
    """The newest checkpoint, placed as `abstract` says; None when there is none.

    Args:
        manager: From `open_checkpoints`; every process must call this.
        abstract: ShapeDtypeStructs with shardings, which may be on another mesh than
            the one that the checkpoint was written from.
        root: Any typed key of the kind that was saved; its numbers do not count.
        identity: What this run was given for `save`; the checkpoint must have the same.

    Raises:
        CheckpointError: Config or data differ (each difference is named), or the number
            of processes does where their positions in the data differed; or a file is
            missing or cut short, and the checkpoint before it is named.
        ArchitectureError: The arrays differ; each is named.
    """
    step = manager.latest_step()
    if step is None:
        return None
    about = _about(manager, step, identity)
    where = f"{manager.directory}/{step}"
    positions = about["positions"]
    alike = all(other == positions[0] for other in positions)
    if len(positions) != jax.process_count() and not alike:
        raise CheckpointError(
            f"{where} holds data positions of {len(positions)} processes that differ; "
            f"found {jax.process_count()} processes: start as many again"
        )
    wanted = named(abstract) | {ROOT: storable(root)}
    try:
        arrays = _restore_arrays(manager, step, wanted)
    except ArchitectureError as error:
        raise ArchitectureError(f"{error}{_maker(manager)}") from error
    return Restored(
        state=unnamed(abstract, arrays, root),
        root=jax.random.wrap_key_data(arrays[ROOT], impl=jax.random.key_impl(root)),
        position=positions[min(jax.process_index(), len(positions) - 1)],
        counters=about["counters"],
        step=step,
    )


def _about(manager, step: int, identity: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's JSON part, refused where it is of another config or data."""
    with _explain_reading(manager, step):
        about = manager.restore(
            step, args=ocp.args.Composite(about=ocp.args.JsonRestore())
        )["about"]
    changed = differences(about["identity"], identity)
    if changed:
        raise CheckpointError(
            f"{manager.directory}/{step} belongs to another run:\n  "
            + "\n  ".join(changed)
            + "\nset these back to resume, or choose another workdir"
            + _maker(manager)
        )
    return about


def _maker(manager: ocp.CheckpointManager) -> str:
    """A line for a refusal, where another version of medjax was here last."""
    sentence = other_maker(pathlib.Path(manager.directory).parent)
    return f"\n{sentence}" if sentence else ""


def newest(
    folder: str | os.PathLike, *, identity: Mapping[str, Any]
) -> tuple[int, dict[str, float]] | None:
    """Steps done and counters of the newest checkpoint in `folder`; reads no arrays.

    Args:
        folder: None comes back if it does not exist or holds no whole checkpoint.
        identity: What this run gives to `save`, the seed included.

    Raises:
        CheckpointError: The checkpoint is of another config or data, finished or not.
    """
    # one process may just have made it, and managers meet when they are opened
    if not from_first(lambda: "there" if pathlib.Path(folder).is_dir() else ""):
        return None
    with _manager(folder, read_only=True) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        return step, _about(manager, step, identity)["counters"]


def stored_identity(folder: str | os.PathLike) -> Mapping[str, Any]:
    """What the newest checkpoint in `folder` was trained with: config and data.

    Args:
        folder: The folder that `open_checkpoints` was given.

    Raises:
        FileNotFoundError: The folder holds no whole checkpoint.
    """
    with _manager(folder, read_only=True) as manager:
        step = manager.latest_step()
        if step is None:
            raise FileNotFoundError(f"no finished checkpoint in {folder}")
        part = ocp.args.Composite(about=ocp.args.JsonRestore())
        with _explain_reading(manager, step):
            return manager.restore(step, args=part)["about"]["identity"]


def newest_step(folder: str | os.PathLike) -> int | None:
    """Steps done at the newest checkpoint in a folder; None without one.

    Args:
        folder: The folder that `open_checkpoints` was given; it exists.
    """
    with _manager(folder, read_only=True) as manager:
        return manager.latest_step()


def restore_params(
    folder: str | os.PathLike, abstract: Params, *, part: bool = False
) -> Params:
    """The parameters alone of the newest checkpoint in `folder`, whatever its config.

    Args:
        folder: The folder that `open_checkpoints` was given.
        abstract: The tree of parameters as ShapeDtypeStructs; their shardings say
            where each array goes.
        part: Whether the checkpoint may have more parameters, which are not read.

    Raises:
        FileNotFoundError: There is no whole checkpoint.
        ArchitectureError: The parameters are of another architecture; all are listed.
    """
    folder = pathlib.Path(folder).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of checkpoints at {folder}")
    with _manager(folder, read_only=True) as manager:
        step = manager.latest_step()
        if step is None:
            raise FileNotFoundError(f"no finished checkpoint in {folder}")
        wanted = named({PARAMS: abstract})
        arrays = _restore_arrays(manager, step, wanted, part=part)
    leaves = [arrays[name] for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _restore_arrays(
    manager, step: int, wanted: Mapping[str, Any], *, part: bool = False
) -> dict[str, Any]:
    """Restore the wanted names; names with another head than theirs are left alone."""
    heads = {name.split(".")[0] for name in wanted}
    with _explain_reading(manager, step):
        metadata = manager.item_metadata(step)["state"]
        if metadata is None:
            raise FileNotFoundError("what says which arrays it has is missing")
    stored = {
        name: meta
        for name, meta in metadata.items()
        if (name in wanted if part else name.split(".")[0] in heads)
    }
    check_arrays(stored, wanted, f"{manager.directory}/{step}")
    abstract = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        for name, x in wanted.items()
    }
    args = ocp.args.PyTreeRestore(
        item=abstract,
        restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
        partial_restore=True,
    )
    with _explain_reading(manager, step):
        return manager.restore(step, args=ocp.args.Composite(state=args))["state"]


@contextlib.contextmanager
def _explain_reading(manager, step: int) -> Iterator[None]:
    """Name the checkpoint whose files are missing or damaged, and those before it."""
    try:
        yield
    except (OSError, ValueError, LookupError) as error:
        where = pathlib.Path(manager.directory)
        before = [n for n in sorted(manager.all_steps()) if n < step]
        way = (
            f"the one before it is of step {before[-1]}: to go on from there, move "
            f"{where / str(step)} away and start the same command again"
            if before
            else "there is none before it: fetch it anew, or begin another workdir"
        )
        said = str(error).partition(" [tensorstore_spec")[0].strip()
        raise CheckpointError(
            f"the checkpoint {where / str(step)} cannot be read, a file of it is "
            f"missing or cut short ({said}); {way}"
        ) from error
