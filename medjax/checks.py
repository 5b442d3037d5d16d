"""Static checks of the arrays that enter a public function, by chex.

chex says that "input 0 has shape (2, 3)" in an AssertionError; here the error is a
ValueError that names the function and the argument. Only shapes and dtypes are read, so
a check costs nothing in a compiled program, and no value is converted.
"""

import numbers
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

Kind = type | np.dtype | None  # float, int, complex, bool, or one dtype such as uint8
Axes = tuple[int, ...]

NUMBERS = (float, int, bool)  # whatever becomes a float before it is counted with


def check_arrays(
    function: str,
    /,
    **arrays: tuple[ArrayLike | None, str, Kind | tuple[Kind, ...]],
) -> None:
    """Raise a ValueError for the first array whose shape or dtype does not fit.

    >>> check_arrays(
    ...     "grpo_loss",
    ...     logp=(logp, "N T", float),
    ...     advantages=(advantages, "N", float),
    ...     mask=(mask, "N T", bool),
    ...     weights=(weights, "N #T", float),
    ... )  # doctest: +SKIP

    Args:
        function: The public function's name, with which the message begins.
        arrays: By the name of the argument: the array, its axes and its kind of dtype.
            None stands for an argument that was left out and fits everything; a Python
            number has shape (); a list fits nothing, as no list is converted.

            The axes are words with a space between them. A name such as `N` takes its
            size from the first array that has it and asks the others for the same; an
            integer is that size; `_` is any size; `*N` is any number of leading axes,
            the same ones in every array; `...` is any number of axes that nothing
            compares. `#T` and `*#N` may also be 1 where the others are not, as arrays
            of one rank are broadcast; `#T` is held against a `T` before it, if there is
            one. The empty text is a scalar.

            The kind is float, int or complex for any width of it, bool, one dtype such
            as `jnp.uint8`, a tuple of kinds of which one must fit, or None for any.

    Raises:
        ValueError: naming function and argument, what was expected (with the sizes that
            earlier arguments set, and which argument set them) and what was found.
    """
    sizes: dict[str, tuple[Axes, str]] = {}  # by axis name: the size, who set it
    for name, (value, axes, kinds) in arrays.items():
        if value is None:
            continue
        words = axes.split()
        try:
            _check_array(value)
            _check_kind(value, kinds)
            chex.assert_shape([value], [_shape_matcher(words, sizes)])
            sizes = _bind(words, np.shape(value), name, sizes)
            # again with what this array has set: "N N" asks for a square
            chex.assert_shape([value], [_shape_matcher(words, sizes)])
        except AssertionError:
            raise ValueError(
                f"{function}: {name}: expected {_expected(words, sizes, kinds)}; "
                f"found {_description(value)}"
            ) from None


def check_static(function: str, /, **values: Any) -> None:  # noqa: ANN401
    """Raise a ValueError for the first value that is traced: Python has to read it.

    Args:
        function: The public function's name, with which the message begins.
        values: By the name of the argument: a number, a flag, or a tuple of them.
    """
    for name, value in values.items():
        for leaf in jax.tree.leaves(value):
            if isinstance(leaf, Tracer):
                raise ValueError(
                    f"{function}: {name}: expected a Python number, which is static; "
                    f"found a traced {_description(leaf)}; name it in static_argnames "
                    "of jax.jit, or bind it by functools.partial"
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
            way = "give one key a row"
        elif typed:
            way = "take one of them, or map the function over them by jax.vmap"
        else:
            way = (
                "make keys by jax.random.key(seed), or wrap what jax.random.PRNGKey "
                "gave by jax.random.wrap_key_data"
            )
        raise ValueError(
            f"{function}: {name}: expected {what}; found {_description(key)}: {way}"
        )


def _check_array(value: Any) -> None:  # noqa: ANN401
    if not (hasattr(value, "shape") or isinstance(value, numbers.Number)):
        raise AssertionError("neither an array nor a number")


def _shape_matcher(words: list[str], sizes: dict[str, tuple[Axes, str]]) -> tuple:
    """The shape as `chex.assert_shape` takes it: None any size, ... any axes."""
    matcher = []
    for word in words:
        name = word.lstrip("*")
        if name in sizes:
            known = sizes[name][0]
            matcher += [_wide(n) for n in known] if name.startswith("#") else known
        elif name.lstrip("#") in sizes:
            matcher += [{1, n} for n in sizes[name.lstrip("#")][0]]
        elif word.isdecimal():
            matcher.append(int(word))
        else:
            matcher.append(... if word.startswith((".", "*")) else None)
    return tuple(matcher)


def _wide(size: int) -> set[int] | None:
    """What can be broadcast with an axis of this size."""
    return None if size == 1 else {1, size}


def _check_kind(value: ArrayLike, kinds: Kind | tuple[Kind, ...]) -> None:
    *others, last = kinds if isinstance(kinds, tuple) else (kinds,)
    for kind in others:
        try:
            return _check_kind(value, kind)
        except AssertionError:
            continue
    if last is complex:  # chex knows complex numbers by their width only
        dtype = jnp.result_type(value)
        wide = jnp.issubdtype(dtype, jnp.complexfloating)
        last = dtype if wide else np.dtype(np.complex64)
    if last is not None:
        chex.assert_type([value], [last])


def _bind(
    words: list[str], shape: Axes, name: str, sizes: dict[str, tuple[Axes, str]]
) -> dict[str, tuple[Axes, str]]:
    """The sizes, with those of the axis names that stand here for the first time."""
    bound, before = dict(sizes), 0
    for word in words:
        many = word.startswith((".", "*"))
        after = before + (len(shape) - len(words) + 1 if many else 1)
        axis, here = word.lstrip("*"), shape[before:after]
        if axis.startswith("#") and axis[1:] not in sizes:
            known, source = sizes.get(axis, (here, name))
            bound[axis] = tuple(map(max, known, here)), source
        elif axis.isidentifier() and axis != "_":
            bound.setdefault(axis, (here, name))
        before = after
    return bound


def _expected(
    words: list[str],
    sizes: dict[str, tuple[Axes, str]],
    kinds: Kind | tuple[Kind, ...],
) -> str:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    text = f"shape [{', '.join(words)}]"
    if kinds != (None,):
        dtypes = [k.__name__ if isinstance(k, type) else str(k) for k in kinds]
        text = f"{' or '.join(dtypes)} of {text}"
    names = {word.lstrip("*") for word in words}
    names |= {name.lstrip("#") for name in names}
    known = [
        f"{name.lstrip('#')} = {size[0] if len(size) == 1 else size} from {source}"
        for name, (size, source) in sizes.items()
        if name in names
    ]
    return f"{text} with {', '.join(known)}" if known else text


def _description(value: Any) -> str:  # noqa: ANN401
    if not hasattr(value, "dtype"):
        return f"a {type(value).__name__}"
    return f"{value.dtype} of shape {tuple(value.shape)}"
