"""Times of a series: seconds (flip angles: radians), which nothing else looks like."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from medjax.mri.model import SignalModel, check_contrasts, check_model

Times = Float[Array | np.ndarray, "E *#N"] | Sequence[float]


def check_times(times: Times, *, model: SignalModel, count: int | None = None) -> None:
    """Refuse times that cannot be the model's: unit, sign, number.

    Of traced times only the shape and the dtype are checked, as they have no values:
    `fit_map` gives such voxels the status INVALID, `cramer_rao_bound` inf.

    Args:
        times: Seconds, or radians for t1_vfa: finite, at least 0, at most
            `model.longest` (more looks like milliseconds or degrees), and as many
            different ones as the model has parameters, at least; constants of the model
            that differ by contrast tell equal times apart. One list [E] for all voxels,
            or [E, *N] with one for each; real.
        model: As `signal_model` gives it, or a `SignalModel` of your own.
        count: How many contrasts the images have; None = not compared.

    Raises:
        ValueError: times of another kind than these, a scalar, another number of them
            than `count` or than the constants of the model, or something else than a
            SignalModel. The message says what was expected, what was found and the way
            out.
    """
    check_model("check_times", model)
    angles = model.name == "t1_vfa"
    what, unit = ("flip angles", "radians") if angles else ("times", "seconds")
    traced = any(isinstance(t, Tracer) for t in jax.tree.leaves(times))
    values: Any = jnp.asarray(times) if traced else np.asarray(times)
    if not values.shape:
        raise ValueError(f"{what}: expected one a contrast, found a scalar")
    if count is not None and values.shape[0] != count:
        raise ValueError(
            f"{what}: expected {count}, one a contrast; found {values.shape[0]}"
        )
    if values.dtype.kind not in "fiuV":  # V: bfloat16
        raise ValueError(
            f"{what}: expected real {unit}; found {values.dtype} of shape "
            f"{values.shape}"
        )
    check_contrasts("check_times", model, len(values))
    values = values if traced else values.astype(float)
    if traced or not values.size:
        different = len(values)
    else:
        _check_values(values, model, what, unit)
        own = np.array([model.constants_of(e) for e in range(len(values))])
        rows = np.concatenate([values.reshape(len(values), -1), own], axis=1)
        different = len(np.unique(rows, axis=0))
    needed = len(model.parameters)
    if different < needed:
        raise ValueError(
            f"{what}: {model.name} has {needed} parameters and needs as many different "
            f"{what}; found {different}"
        )


def _check_values(
    values: Float[np.ndarray, "E *N"], model: SignalModel, what: str, unit: str
) -> None:
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError(
            f"{what}: expected finite {unit}, none negative; found {values.tolist()}"
        )
    if values.max() > model.longest:
        small = (
            "degrees: use numpy.deg2rad"
            if unit == "radians"
            else "milliseconds: divide by 1000"
        )
        raise ValueError(
            f"{what}: expected {unit}, at most {model.longest:.3g} for {model.name}; "
            f"found {values.max():.6g}, which looks like {small} (or `longest` of a "
            "model of your own is too small)"
        )


def plausible(model: SignalModel, time: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a time is one that `check_times` lets pass: 0 to `model.longest`, finite.

    For times that are traced; NaN gives False.
    """
    return (time >= 0) & (time <= jnp.asarray(model.longest, time.dtype))
