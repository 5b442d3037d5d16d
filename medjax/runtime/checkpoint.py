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
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from medjax.types import Key, Params, TrainState

ROOT = "root_key"
PARAMS = "params"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or does not belong to this run."""


class Restored(NamedTuple):
    """What a checkpoint held."""

    state: TrainState
    root: Key
    position: Any  # of this process in the data
    counters: dict[str, int]
    step: int


@contextlib.contextmanager
def open_checkpoints(
    folder: str | os.PathLike, *, keep: int
) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints in `folder`, the newest `keep` of them kept.

    Half-written ones of a killed run are removed. Leaving the block waits for the
    save under way.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    manager = _manager(folder, max_to_keep=keep, cleanup_tmp_directories=True)
    try:
        yield manager
        with _explain(manager, "the last step"):
            manager.wait_until_finished()
    finally:
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            manager.close()  # a failed save was reported above


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
    position: Any,
    identity: Mapping[str, Any],
    counters: Mapping[str, int],
) -> None:
    """Write a checkpoint; the arrays are copied before it returns, the rest goes on.

    Args:
        manager: from `open_checkpoints`.
        step: steps done.
        state: the TrainState after them.
        root: the key whose fold_in gives each step's key.
        position: JSON value; where this process's data iterator stands.
        identity: JSON mapping; a run with another one may not resume from here.
        counters: the loop's own counts.

    Raises:
        CheckpointError: this or the previous save failed, such as on a full disk.
            Earlier checkpoints are whole.
    """
    arrays = _named(state) | {ROOT: _storable(root)}
    about = {
        "identity": identity,
        "positions": [json.loads(text) for text in _gather(json.dumps(position))],
        "counters": dict(counters),
    }
    with _explain(manager, f"step {step}"):
        need = sum(x.nbytes for x in arrays.values())
        free = shutil.disk_usage(manager.directory).free
        if need > free and jax.process_count() == 1:
            raise OSError(f"{need / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free")
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(arrays), about=ocp.args.JsonSave(about)
            ),
            force=True,
        )


@contextlib.contextmanager
def _explain(manager: ocp.CheckpointManager, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        steps = ", ".join(str(step) for step in sorted(manager.all_steps()))
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
        manager: from `open_checkpoints`.
        abstract: ShapeDtypeStructs with shardings, on any mesh.
        root: a key, for its shape and type.
        identity: of this run, compared with the checkpoint's.

    Raises:
        CheckpointError: config, data or architecture differ; each difference is named.
    """
    step = manager.latest_step()
    if step is None:
        return None
    where = f"{manager.directory}/{step}"
    about = manager.restore(
        step, args=ocp.args.Composite(about=ocp.args.JsonRestore())
    )["about"]
    changed = differences(about["identity"], identity)
    if changed:
        raise CheckpointError(
            f"{where} belongs to another run:\n  "
            + "\n  ".join(changed)
            + "\nset these back to resume, or choose another workdir"
        )
    positions = about["positions"]
    if len(positions) != jax.process_count() and any(
        other != positions[0] for other in positions
    ):
        raise CheckpointError(
            f"{where} holds data positions of {len(positions)} processes that differ; "
            f"found {jax.process_count()} processes: start as many again"
        )
    wanted = _named(abstract) | {ROOT: _storable(root)}
    arrays = _restore_arrays(manager, step, wanted)
    return Restored(
        state=_unnamed(abstract, arrays, root),
        root=jax.random.wrap_key_data(arrays[ROOT], impl=jax.random.key_impl(root)),
        position=positions[min(jax.process_index(), len(positions) - 1)],
        counters=about["counters"],
        step=step,
    )


def restore_params(folder: str | os.PathLike, abstract: Params) -> Params:
    """The parameters alone of the newest checkpoint in `folder`, placed as `abstract`.

    Raises:
        FileNotFoundError: no checkpoint there.
        CheckpointError: parameters of another architecture, listed.
    """
    folder = pathlib.Path(folder).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of checkpoints at {folder}")
    with _manager(folder, read_only=True) as manager:
        step = manager.latest_step()
        if step is None:
            raise FileNotFoundError(f"no finished checkpoint in {folder}")
        state = TrainState(abstract, (), ())
        wanted = _named(state)
        arrays = _restore_arrays(manager, step, wanted)
    leaves = [arrays[name] for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _restore_arrays(manager, step: int, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Restore the wanted names; names with another head than theirs are left alone."""
    heads = {name.split(".")[0] for name in wanted}
    stored = {
        name: meta
        for name, meta in manager.item_metadata(step)["state"].items()
        if name.split(".")[0] in heads
    }
    wrong = [
        f"{name}: found {_shape(stored.get(name))}, expected {_shape(wanted.get(name))}"
        for name in sorted(stored.keys() | wanted.keys())
        if _shape(stored.get(name)) != _shape(wanted.get(name))
    ]
    if wrong:
        shown = wrong[:20] + [f"... and {len(wrong) - 20} more"] * (len(wrong) > 20)
        raise CheckpointError(
            f"{manager.directory}/{step} is of another architecture; "
            f"{len(wrong)} arrays differ:\n  " + "\n  ".join(shown)
        )
    abstract = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        for name, x in wanted.items()
    }
    args = ocp.args.PyTreeRestore(
        item=abstract,
        restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
        partial_restore=True,
    )
    return manager.restore(step, args=ocp.args.Composite(state=args))["state"]


def _shape(array: Any) -> str:
    if array is None:
        return "nothing"
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def _storable(array: Any) -> Any:
    """An array, or a typed key's words, which is what a file can hold."""
    if not _is_key(array):
        return array
    if isinstance(array, jax.Array):
        return jax.random.key_data(array)
    words = jax.eval_shape(jax.random.key_data, array)
    sharding = array.sharding
    return jax.ShapeDtypeStruct(words.shape, words.dtype, sharding=sharding)


def _named(state: TrainState) -> dict[str, Any]:
    """Arrays by the dotted path of their place in the state."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): _storable(array)
        for path, array in jax.tree_util.tree_flatten_with_path(state)[0]
    }


def _unnamed(abstract: TrainState, arrays: Mapping[str, Any], root: Key) -> TrainState:
    """Undo `_named`; keys in the state are of the root key's kind."""

    def place(path, like):
        array = arrays[jax.tree_util.keystr(path, simple=True, separator=".")]
        if not _is_key(like):
            return array
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(root))

    return jax.tree_util.tree_map_with_path(place, abstract)


def differences(found: Any, expected: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, one line each: name, what was found, what is now."""
    expected = json.loads(json.dumps(expected))
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        lines = []
        for key in sorted(found.keys() | expected.keys()):
            lines += differences(
                found.get(key, "nothing"),
                expected.get(key, "nothing"),
                f"{name}.{key}" if name else key,
            )
        return lines
    if found == expected:
        return []
    return [f"{name}: the checkpoint has {found!r}, this run has {expected!r}"]


def _gather(text: str) -> list[str]:
    """The texts of all processes, in order."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(data.size, np.int32))
    padded = np.pad(data, (0, int(sizes.max()) - data.size))
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]
