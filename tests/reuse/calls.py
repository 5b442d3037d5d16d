"""A small call of every public function, and how its arrays lie on devices.

The rooms' files (`rl_calls.py`, `mri_calls.py`, ...) hold a list `CALLS` each; the
tests of this folder make all of them under one condition after another.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

DEVICES = 8  # what `tests/conftest.py` forces


class Call(NamedTuple):
    """A public function on arrays.

    `function` takes `arrays` alone, everything else is bound. `batch` gives an axis of
    length 8 (or a multiple) of each array, along which it is cut over devices, or None
    where all devices hold it. Where `batch` is given, `local` says whether the parts
    can be computed apart (`shard_map`, results along `out` of every leaf); a function
    that takes statistics over the batch is bound to `axis_name="d"` in `gathered`.
    """

    name: str  # of the public function, then what is special: "fit_map[t1_ir3]"
    function: Callable[..., Any]
    arrays: tuple[Any, ...]  # NumPy; pytrees will do
    batch: tuple[Any, ...] | None = None  # of a record: a record of axes
    out: Any = 0  # axis of every result that follows the batch; None: replicated
    gathered: Callable[..., Any] | None = None  # in shard_map, with the axis's name
    rtol: float = 1e-5
    atol: float = 1e-6


def run(call: Call, *arrays: Any) -> Any:
    """The result as NumPy, from `arrays` or the call's own."""
    return jax.tree.map(np.asarray, call.function(*(arrays or call.arrays)))


def expected(call: Call) -> Any:
    """`run` without any switch and on one device, computed once for all tests."""
    if call.name not in _EXPECTED:
        _EXPECTED[call.name] = run(call)
    return _EXPECTED[call.name]


_EXPECTED: dict[str, Any] = {}


def assert_same(call: Call, found: Any, expected: Any) -> None:
    """Equal to the call's tolerance, NaN where NaN is expected, same dtypes."""
    leaves, tree = jax.tree.flatten(expected)
    others, other_tree = jax.tree.flatten(found)
    assert tree == other_tree, (tree, other_tree)
    for left, right in zip(others, leaves, strict=True):
        np.testing.assert_allclose(
            np.asarray(left),
            np.asarray(right),
            rtol=call.rtol,
            atol=call.atol,
            err_msg=call.name,
        )
