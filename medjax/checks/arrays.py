"""Checks of arrays, by chex: their axes, and the kind of their dtype.

chex says that "input 0 has shape (2, 3)" in an AssertionError; here function and
argument are named. chex is imported at the first check: it takes longer than medjax's
own modules.
"""

import math
import numbers
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from medjax.checks.values import describe

Kind = type | np.dtype | None  # float, int, complex, bool, or one dtype such as uint8
Axes = tuple[int, ...]

FLAGS = (bool, int)  # masks and marks: 0 is False, any other number True
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
    import chex

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
            if len({*words}) < len(words):  # "N N" asks for a square: once more
                chex.assert_shape([value], [_shape_matcher(words, sizes)])
        except AssertionError:
            raise ValueError(
                f"{function}: {name}: expected {_expected(words, sizes, kinds)}; "
                f"found {describe(value)}{_reshaped(name, value, words, sizes)}"
            ) from None


def check_groups(
    function: str,
    valid: ArrayLike | None,
    /,
    **arrays: tuple[ArrayLike | None, str, Kind | tuple[Kind, ...]],
) -> None:
    """`check_arrays`, and of `valid` that it marks places of [B, G], or whole groups.

    Args:
        function: The public function's name, with which the message begins.
        valid: Flags [B, G] or [B, 1], or None.
        arrays: As for `check_arrays`; the first of them sets B and G.

    Raises:
        ValueError: naming the array and what was expected. For a vector of flags it
            says how to reshape it: as [B, G] where it has B G entries, else as [B, 1].
    """
    check_arrays(function, **arrays)
    if valid is not None and jnp.ndim(valid) == 1:
        groups, size = jnp.shape(next(iter(arrays.values()))[0])[-2:]
        way = "valid[:, None] marks whole groups"
        if np.shape(valid) == (groups * size,) and size != 1:
            way = f"valid.reshape({groups}, {size}) marks the completions of each group"
        raise ValueError(
            f"{function}: valid: expected shape [B, G] or [B, 1], B = {groups} and "
            f"G = {size}; found {describe(valid)}; {way}"
        )
    check_arrays(function, **arrays, valid=(valid, "B #G", FLAGS))


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
    import chex

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
    if kinds[0] is not None:  # and not "!=": NumPy takes None for float64
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


def _reshaped(
    name: str,
    value: Any,  # noqa: ANN401
    words: list[str],
    sizes: dict[str, tuple[Axes, str]],
) -> str:
    """The way out for an array whose numbers stand in other axes than are expected."""
    if not hasattr(value, "shape"):
        return ""
    sizes = {axis.lstrip("#"): size for axis, size in sizes.items()}
    found, known = np.shape(value), [w for w in words if w.lstrip("*#") in sizes]
    if all(w in known or w.isdecimal() for w in words):
        return _known_shape(name, found, words, sizes)
    last = int(words[-1]) if words and words[-1].isdecimal() else 0
    if last and len(words) == 2 and found[-1:] != (last,):
        if len(found) == 1 and found[0] % last == 0:
            return f"; {name}.reshape(-1, {last}) has this shape"
        if found[:1] == (last,):
            return f"; jnp.moveaxis({name}, 0, -1) has this shape"
    if last and len(words) == 2 == len(found) + 1 and words[0].isidentifier():
        return f"; {name}[None] has this shape"
    if known or last or len(found) != len(words) - 1 or not found:
        return ""
    if not all(word.isidentifier() for word in words):
        return ""
    if len(words) > 2:
        return f"; {name}[None] has this shape, with {words[0]} = 1"
    flat = f"{name}.reshape(-1, {words[1]})"
    return f"; {flat} has this shape, and {name}[None] with {words[0]} = 1"


def _known_shape(
    name: str, found: Axes, words: list[str], sizes: dict[str, tuple[Axes, str]]
) -> str:
    """The way out where earlier arguments have set the size of every axis."""
    shape: Axes = ()
    free: list[int] = []  # axes that may be of length 1
    for word in words:
        size = (int(word),) if word.isdecimal() else sizes[word.lstrip("*#")][0]
        free += range(len(shape), len(shape) + len(size)) if "#" in word else ()
        shape += size
    if len(found) == len(shape) or not shape:
        return ""
    if math.prod(found) == math.prod(shape):
        axes = "-1" if len(shape) == 1 else ", ".join(map(str, shape))
        return f"; {name}.reshape({axes}) has this shape"
    for axis in free:
        wide = (*shape[:axis], 1, *shape[axis + 1 :])
        if found == (*shape[:axis], *shape[axis + 1 :]):
            return f"; {name}.reshape({', '.join(map(str, wide))}) goes with it"
    return ""
