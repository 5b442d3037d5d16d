"""States and configs as names and values, so that what differs can be named."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medjax.types import Key, Params, TrainState

PARAMS = "params"
MOST_LISTED = 20  # arrays named in one error


class ArchitectureError(ValueError):
    """Arrays are of another architecture than the one asked for."""


def check_params(found: Params, expected: Params, where: str) -> None:
    """Refuse parameters of another architecture; shapes and dtypes are compared.

    Args:
        found: The parameters at hand, as a tree of arrays or ShapeDtypeStructs.
        expected: The parameters that the system has, as such a tree.
        where: What the error says that `found` comes from, such as a path.

    Raises:
        ArchitectureError: It lists the first 20 arrays that differ.
    """
    check_arrays(named({PARAMS: found}), named({PARAMS: expected}), where)


def check_arrays(
    found: Mapping[str, Any], expected: Mapping[str, Any], where: str
) -> None:
    """Refuse arrays whose names, shapes or dtypes are not the expected ones.

    Args:
        found: Arrays, ShapeDtypeStructs or what else has shape and dtype, by name.
        expected: What they should be, by the same names.
        where: What the error says that `found` comes from, such as a path.

    Raises:
        ArchitectureError: It lists the first 20 arrays that differ.
    """
    wrong = [
        f"{name}: found {_shape(found.get(name))}, "
        f"expected {_shape(expected.get(name))}"
        for name in sorted(found.keys() | expected.keys())
        if _shape(found.get(name)) != _shape(expected.get(name))
    ]
    if wrong:
        more = [f"... and {len(wrong) - MOST_LISTED} more"]
        listed = wrong[:MOST_LISTED] + more * (len(wrong) > MOST_LISTED)
        raise ArchitectureError(
            f"{where} is of another architecture; {len(wrong)} arrays differ:\n  "
            + "\n  ".join(listed)
        )


def _shape(array: Any) -> str:
    if array is None:
        return "nothing"
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def storable(array: Any) -> Any:
    """The array itself, or the words of typed keys, which is what a file can hold.

    Args:
        array: An array or a ShapeDtypeStruct. Words add a last axis of uint32; of a
            ShapeDtypeStruct the sharding stays.
    """
    if not _is_key(array):
        return array
    if isinstance(array, jax.Array):
        return jax.random.key_data(array)
    words = jax.eval_shape(jax.random.key_data, array)
    sharding = array.sharding
    return jax.ShapeDtypeStruct(words.shape, words.dtype, sharding=sharding)


def named(state: Any) -> dict[str, Any]:
    """The arrays of any tree by the dotted path of their place, `storable` each.

    Args:
        state: A TrainState gives names such as "params.text.norm.scale" and "step".
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): storable(array)
        for path, array in jax.tree_util.tree_flatten_with_path(state)[0]
    }


def unnamed(abstract: TrainState, arrays: Mapping[str, Any], root: Key) -> TrainState:
    """A tree from its arrays by name, the reverse of `named`.

    Args:
        abstract: The tree to fill; its dtypes say which arrays are typed keys.
        arrays: What `named` gave; each name of the tree must be there.
        root: Any typed key: those of the state are made of its kind.
    """

    def place(path, like):
        array = arrays[jax.tree_util.keystr(path, simple=True, separator=".")]
        if not _is_key(like):
            return array
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(root))

    return jax.tree_util.tree_map_with_path(place, abstract)


def differences(
    found: Any,
    expected: Any,
    name: str = "",
    *,
    sides: tuple[str, str] = ("the checkpoint", "this run"),
) -> list[str]:
    """Where two JSON values differ: one line each, with both values; [] for none.

    Args:
        found: The checkpoint's value, as it was read from JSON.
        expected: This run's value; tuples in it count as the lists JSON makes of them.
        name: The dotted path of the two values, which each line begins with.
        sides: What a line calls whose the two values are.
    """
    expected = json.loads(json.dumps(expected))
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        lines = []
        for key in sorted(found.keys() | expected.keys()):
            lines += differences(
                found.get(key, "nothing"),
                expected.get(key, "nothing"),
                f"{name}.{key}" if name else key,
                sides=sides,
            )
        return lines
    if found == expected:
        return []
    return [f"{name}: {sides[0]} has {found!r}, {sides[1]} has {expected!r}"]
