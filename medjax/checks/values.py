"""Checks of plain numbers and of PRNG keys: static, whole, in range, typed."""

import math
import numbers
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def check_static(function: str, /, **values: Any) -> None:  # noqa: ANN401
    """Raise a ValueError for the first value that is traced: Python has to read it.

    Args:
        function: The public function's name, with which the message begins.
        values: By the name of the argument: a number, a flag, or a tuple of them.

    Raises:
        ValueError: naming function and argument, and the two ways to make it static.
    """
    for name, value in values.items():
        for leaf in jax.tree.leaves(value):
            if isinstance(leaf, Tracer):
                raise ValueError(
                    f"{function}: {name}: expected a Python number, which is static; "
                    f"found a traced {describe(leaf)}; name it in static_argnames "
                    "of jax.jit, or bind it by functools.partial"
                )


def check_ranges(
    function: str, /, **numbers: tuple[float | jax.Array | None, float, float]
) -> None:
    """Raise a ValueError for the first plain number that lies outside its range.

    Args:
        function: The public function's name, with which the message begins.
        numbers: By the name of the argument: the number, the least and the largest that
            it may be; NaN is outside, and so is infinity where the largest is
            `sys.float_info.max`. What is None or an array of JAX is let through, as its
            value may not be known, or cost a transfer.

    Raises:
        ValueError: naming function and argument, the range and what was found.
    """
    for name, (value, low, high) in numbers.items():
        if value is None or isinstance(value, jax.Array) or low <= value <= high:
            continue
        bounds = f"from {low} to {high}"
        if high >= sys.float_info.max:
            finite = "a finite number of " if math.isfinite(high) else ""
            bounds = f"{finite}{low} or more"
        raise ValueError(f"{function}: {name}: expected {bounds}; found {value!r}")


def check_positive(
    function: str, /, **numbers: float | jax.Array | np.ndarray | None
) -> None:
    """Raise a ValueError for the first plain number that is not above 0.

    Args:
        function: The public function's name, with which the message begins.
        numbers: By the name of the argument: the number; NaN is not above 0. What is
            None or an array is let through, as its value may not be known.

    Raises:
        ValueError: naming function and argument, and what was found.
    """
    for name, value in numbers.items():
        if value is None or isinstance(value, jax.Array | np.ndarray) or value > 0:
            continue
        raise ValueError(
            f"{function}: {name}: expected a number above 0; found {value!r}"
        )


def check_integers(function: str, /, **values: tuple[int, int, int | None]) -> None:
    """Raise a ValueError for the first number that is not a static integer in range.

    Args:
        function: The public function's name, with which the message begins.
        values: By the name of the argument: the number, the least and the largest that
            it may be; None for the largest sets no limit.

    Raises:
        ValueError: naming function and argument, what was expected and found. A traced
            number is refused here because shapes and loops depend on it.
    """
    for name, (value, least, most) in values.items():
        wanted = f"an integer of at least {least}"
        if most is not None:
            wanted = f"an integer from {least} to {most}"
        if isinstance(value, Tracer):
            raise ValueError(
                f"{function}: {name}: expected {wanted} that is known when the program "
                "is traced, found a traced array: name it in static_argnames of "
                "jax.jit, or bind it by functools.partial"
            )
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            raise ValueError(f"{function}: {name}: expected {wanted}, found {value!r}")


def check_flags(function: str, /, **flags: Any) -> None:  # noqa: ANN401
    """Raise a ValueError for the first flag that is not True or False.

    Python would take every text for True, "no" and "False" among them.

    Args:
        function: The public function's name, with which the message begins.
        flags: By the name of the argument: what stands there. NumPy's bool will do.

    Raises:
        ValueError: naming function and argument, and what was found; of a traced one as
            `check_static` says it.
    """
    check_static(function, **flags)
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise ValueError(
                f"{function}: {name}: expected True or False; found {flag!r}"
            )


def check_key(function: str, /, *, batch: bool = False, **keys: Any) -> None:  # noqa: ANN401
    """Raise a ValueError for the first argument that is no typed PRNG key.

    >>> check_key("rollout_keys", key=key)  # doctest: +SKIP

    Args:
        function: The public function's name, with which the message begins.
        batch: Whether an array of keys is expected, of one axis, and not a single key.
        keys: By the name of the argument: what stands there, traced or not. The old
            keys of `jax.random.PRNGKey`, pairs of
            uint32, are refused: nothing tells them from other arrays of integers.

    Raises:
        ValueError: naming function and argument, what was found, and the way out.
    """
    for name, key in keys.items():
        what = "typed PRNG keys of one axis" if batch else "one typed PRNG key"
        dtype = getattr(key, "dtype", None)
        typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
        if typed and np.ndim(key) == batch:
            continue
        if typed and batch:
            way = (
                "give one key a row, as rollout_keys(key, sample_id, group) or "
                "jax.random.split(key, rows) makes them"
            )
        elif typed:
            way = "take one of them, or map the function over them by jax.vmap"
        else:
            way = (
                "make keys by jax.random.key(seed), or wrap what jax.random.PRNGKey "
                "gave by jax.random.wrap_key_data"
            )
        raise ValueError(
            f"{function}: {name}: expected {what}; found {describe(key)}: {way}"
        )


def describe(value: Any) -> str:  # noqa: ANN401
    """What an error calls a value: its dtype and shape, or else its type.

    Args:
        value: An array, traced or not, or anything else.
    """
    if not hasattr(value, "dtype"):
        return f"a {type(value).__name__}"
    return f"{value.dtype} of shape {tuple(value.shape)}"
