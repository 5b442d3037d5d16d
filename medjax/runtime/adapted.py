"""States of which an adapter alone is trained: what checkpoints hold, and the rest.

A checkpoint has the adapter's part of the parameters; the base is loaded anew, by
whoever opened the policy.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from medjax.runtime import checkpoint
from medjax.runtime.naming import check_params
from medjax.sharding import shard_tree
from medjax.types import Adapter, Params, System, TrainState


def trained_part(adapter: Adapter | None, params: Params) -> Params:
    """What of a tree is trained: all of it, or the adapter's part.

    Args:
        adapter: Of the system; None where it has none.
        params: The whole tree, of anything.
    """
    return params if adapter is None else adapter.split(params)[0]


def held(system: System, state: TrainState) -> TrainState:
    """The state as a checkpoint has it: without the parameters that never change.

    Args:
        system: Its `adapter` decides.
        state: Of arrays, or of ShapeDtypeStructs.
    """
    return state._replace(params=trained_part(system.adapter, state.params))


def whole_state(
    system: System,
    state: TrainState,
    *,
    base: Callable[[Any], Params] | None,
    shardings: TrainState,
) -> TrainState:
    """The state of a checkpoint with the parameters that never change, loaded anew.

    Args:
        system: Without an adapter the state is whole already.
        state: See `held`.
        base: Loads them, see `init_state`.
        shardings: Where each array of the whole state goes.

    Raises:
        ArchitectureError: They are of another architecture; their arrays are named.
        ValueError: The system has an adapter, and there is no `base`.
    """
    if system.adapter is None:
        return state
    loaded = load_base(system, system.adapter, base, shardings.params)
    return state._replace(params=system.adapter.join(loaded, state.params))


def load_base(
    system: System,
    adapter: Adapter,
    base: Callable[[Any], Params] | None,
    shardings: Params,
) -> Params:
    """The parameters that an adapter is beside, on the mesh.

    Args:
        system: Its `init` says which arrays there are.
        adapter: Of the system.
        base: Given the tree of their shardings, loads them.
        shardings: Of the whole tree.

    Raises:
        ArchitectureError: They are of another architecture; their arrays are named.
        ValueError: There is no `base`.
    """
    if base is None:
        raise ValueError(
            "a system with an adapter needs `base`, which loads the parameters that "
            "checkpoints do not hold"
        )
    _, places = adapter.split(shardings)
    params = base(places)
    _, expected = adapter.split(jax.eval_shape(system.init, jax.random.key(0)).params)
    check_params(params, expected, "the base of the adapter")
    return shard_tree(params, places)


def restore_whole(
    system: System,
    folder: pathlib.Path,
    abstract: TrainState,
    shardings: TrainState,
    *,
    base: Callable[[Any], Params] | None,
) -> Params:
    """All parameters of the newest checkpoint in a folder.

    Args:
        system: With an adapter, a checkpoint holds its part alone.
        folder: The folder that `open_checkpoints` was given.
        abstract: From `abstract_state`.
        shardings: Likewise.
        base: Loads the parameters that the checkpoint does not hold.

    Raises:
        ArchitectureError: The parameters are of another architecture.
        ValueError: The system has an adapter, and there is no `base`.
    """
    adapter = system.adapter
    kept = trained_part(adapter, abstract.params)
    params = checkpoint.restore_params(folder, kept)
    if adapter is None:
        return params
    return adapter.join(load_base(system, adapter, base, shardings.params), params)


def load_whole(
    system: System,
    path: pathlib.Path,
    abstract: TrainState,
    shardings: TrainState,
    *,
    load: Callable[[pathlib.Path, Any], Params],
) -> Params:
    """A folder's parameters; an adapter beside them adds nothing.

    Args:
        system: With an adapter, the folder holds the rest.
        path: What `load` reads.
        abstract: From `abstract_state`.
        shardings: Likewise.
        load: A function of a folder and a tree of shardings that reads pretrained
            weights.

    Raises:
        ArchitectureError: The parameters are of another architecture.
    """
    adapter, places, expected = system.adapter, shardings.params, abstract.params
    if adapter is not None:
        _, places = adapter.split(places)
        _, expected = adapter.split(expected)
    params = load(path, places)
    check_params(params, expected, str(path))
    params = shard_tree(params, places)
    if adapter is None:
        return params
    low, _ = adapter.split(shardings.params)
    fresh = jax.jit(adapter.init, out_shardings=low)(jax.random.key(0))
    return adapter.join(params, fresh)
