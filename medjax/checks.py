"""Static checks of the arrays that enter a public function, by chex.

chex says that "input 0 has shape (2, 3)" in an AssertionError; here the error is a
ValueError that names the function and the argument. Only shapes and dtypes are read, so
a check costs nothing in a compiled program, and no value is converted. chex is imported
at the first check: it takes longer than medjax's own modules.
"""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

Kind = type | np.dtype | None  # float, int, complex, bool, or one dtype such as uint8
Axes = tuple[int, ...]
AxisName = str | tuple[str, ...] | None  # of `shard_map` or `vmap`, see `batch_axes`

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
                f"found {_description(value)}{_reshaped(name, value, words, sizes)}"
            ) from None


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
                    f"found a traced {_description(leaf)}; name it in static_argnames "
                    "of jax.jit, or bind it by functools.partial"
                )


def check_ranges(
    function: str, /, **numbers: tuple[float | jax.Array | None, float, float]
) -> None:
    """Raise a ValueError for the first plain number that lies outside its range.

    Args:
        function: The public function's name, with which the message begins.
        numbers: By the name of the argument: the number, the least and the largest that
            it may be; NaN is outside. What is None or an array of JAX is let through,
            as its value may not be known, or cost a transfer.

    Raises:
        ValueError: naming function and argument, the range and what was found.
    """
    for name, (value, low, high) in numbers.items():
        if value is None or isinstance(value, jax.Array) or low <= value <= high:
            continue
        bounds = f"from {low} to {high}" if math.isfinite(high) else f"{low} or more"
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
            f"G = {size}; found {_description(valid)}; {way}"
        )
    check_arrays(function, **arrays, valid=(valid, "B #G", FLAGS))


def batch_axes(
    function: str, axis_name: AxisName, /, **arrays: ArrayLike | None
) -> tuple[str, ...]:
    """The axes that sums over the batch are added up along, as `jax.lax.psum` takes it.

    Inside `shard_map` each device holds a part of the batch, and a mean of that part
    looks like any other number. So an axis along which an input varies has to be named.

    Args:
        function: The public function's name, with which the message begins.
        axis_name: What its caller gave: a name, names, or None for none. The empty
            tuple takes each device for itself, whatever varies.
        arrays: The batch, by the names of the arguments. None stands for an argument
            that was left out.

    Raises:
        ValueError: a name that no `shard_map` or `vmap` around the call binds, or an
            array that varies along an axis of `shard_map` that is not named. Where
            shard_map does not check what varies (check_vma=False), every traced array
            may vary along all of its axes.
    """
    if axis_name is None or isinstance(axis_name, str):
        names = () if axis_name is None else (axis_name,)
    else:
        names = tuple(axis_name)
        if not names:
            return names
    for name in names:
        try:
            jax.lax.axis_size(name)
        except NameError:
            manual = sorted(jax.sharding.get_abstract_mesh().manual_axes, key=str)
            around = f"those of shard_map are {manual}" if manual else "there is none"
            raise ValueError(
                f"{function}: axis_name: expected an axis of the shard_map (or vmap) "
                f"around this call, {around}; found {name!r}; pass None where the "
                "whole batch is at hand"
            ) from None
    for name, value in arrays.items():
        missing = sorted(_varying(value) - set(names), key=str)
        if missing:
            raise ValueError(
                f"{function}: axis_name: expected {missing[0]!r} in it, as {name} "
                "varies along this axis of shard_map and the result is that of the "
                f"whole batch; found {axis_name!r}; pass "
                f"axis_name={(*names, *missing)!r}, or () for each device by itself"
            )
    return names


def _varying(value: ArrayLike | None) -> frozenset[str]:
    """The axes of `shard_map` along which a value differs, or may differ."""
    manual = frozenset(jax.sharding.get_abstract_mesh().manual_axes)
    if not manual or not isinstance(value, Tracer):
        return frozenset()
    unchecked = not _known_to_vary(jax.lax.axis_index(tuple(manual)))
    return manual if unchecked else _known_to_vary(value)


def _known_to_vary(value: jax.Array) -> frozenset[str]:
    kind = jax.typeof(value)
    # jax 0.10.0 and 0.10.1 call it vma, later ones keep it with what is unreduced
    return kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying


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
    value: Any,
    words: list[str],
    sizes: dict[str, tuple[Axes, str]],  # noqa: ANN401
) -> str:
    """The way out for an array with the right numbers in another number of axes."""
    shape: Axes = ()
    for word in words:
        if word.isdecimal():
            shape += (int(word),)
        elif word.lstrip("*#") in sizes:
            shape += sizes[word.lstrip("*#")][0]
        else:
            return ""
    found = np.shape(value) if hasattr(value, "shape") else shape
    if len(found) == len(shape) or math.prod(found) != math.prod(shape) or not shape:
        return ""
    axes = "-1" if len(shape) == 1 else ", ".join(map(str, shape))
    return f"; {name}.reshape({axes}) has this shape"


def _description(value: Any) -> str:  # noqa: ANN401
    if not hasattr(value, "dtype"):
        return f"a {type(value).__name__}"
    return f"{value.dtype} of shape {tuple(value.shape)}"
