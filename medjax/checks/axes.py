"""The axes of a mesh that a sum over the batch has to be added up along."""

import jax
from jax.core import Tracer
from jax.typing import ArrayLike

AxisName = str | tuple[str, ...] | None  # of `shard_map` or `vmap`, see `batch_axes`


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
