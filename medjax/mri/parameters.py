"""Values of a model's parameters: by name, of one dtype, broadcast to the voxels."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from medjax.mri.model import SignalModel, Value


def ordered_parameters(
    function: str, model: SignalModel, parameters: dict[str, Value]
) -> list[Any]:
    """The values in the model's order.

    Args:
        function: The public function's name, with which a message begins.
        model: One that has passed `check_model`.
        parameters: By name.

    Raises:
        ValueError: other names than the model's, or a complex one without the unit of
            the image.
    """
    if set(parameters) != set(model.parameters):
        raise ValueError(
            f"{function}: model {model.name} has the parameters "
            f"{', '.join(model.parameters)}; found {', '.join(parameters)}"
        )
    for name, unit in zip(model.parameters, model.units, strict=True):
        if unit != "image" and jnp.iscomplexobj(parameters[name]):
            raise ValueError(
                f"{function}: {name}: expected real numbers; found complex"
            )
    return [parameters[name] for name in model.parameters]


def voxel_shape(function: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """What shapes of voxels broadcast to: of one rank, or () of a number.

    Args:
        function: The public function's name, with which a message begins.
        shapes: By the name of the argument or parameter.

    Raises:
        ValueError: naming all, where they do not broadcast.
    """
    try:
        shape = jnp.broadcast_shapes(*shapes.values())
    except ValueError:
        shape = None
    if shape is None or not {len(s) for s in shapes.values()} <= {0, len(shape)}:
        found = ", ".join(f"{name} {s}" for name, s in shapes.items())
        raise ValueError(
            f"{function}: expected numbers, or arrays of voxels of as many axes that "
            f"broadcast with each other; found {found}"
        )
    return shape


def series(values: Array, rank: int) -> Array:
    """Values [E] or [E, *N], with axes of length 1 after E until N has `rank` axes."""
    ones = (1,) * (rank + 1 - values.ndim)
    return values.reshape(values.shape[:1] + ones + values.shape[1:])


def real_dtype(*values: Any) -> Any:  # noqa: ANN401
    """The floating-point dtype to which JAX promotes all of them.

    Args:
        values: Arrays; Python numbers (and NumPy's, which are some) have no say.
    """
    strong = [
        v if hasattr(v, "dtype") else jnp.asarray(v)  # no copy: each costs a dispatch
        for v in values
        if not isinstance(v, int | float | complex)
    ]
    with jax.numpy_dtype_promotion("standard"):
        return jnp.finfo(jnp.result_type(*strong, float)).dtype


def as_dtype(value: Any, dtype: Any) -> Array:  # noqa: ANN401
    """An array of that floating-point dtype, or of the complex one of its width.

    Args:
        value: An array or a number.
        dtype: float16 and bfloat16 have no complex one, and get complex64.
    """
    if jnp.iscomplexobj(value):
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.promote_types(dtype, jnp.complex64)
    return jnp.asarray(value).astype(dtype)
