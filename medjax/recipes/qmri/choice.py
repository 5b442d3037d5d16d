"""The signal model of a scan, why it is that one, and what of its fit is shown."""

from typing import NamedTuple

import jax.numpy as jnp

from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.model import SignalModel


class Choice(NamedTuple):
    """A signal model, the reason in words, and what makes its maps doubtful, if any."""

    model: SignalModel
    reason: str
    doubt: str = ""


def shown_parameter(model: SignalModel) -> str:
    """What the map is of: T1 where it follows from the time constant T1*, else that."""
    return "t1" if "t1" in model.parameters else model.time_constant


def shown_kind(model: SignalModel) -> str:
    """The shown parameter as BIDS writes it: "T1", "T2" or "T2star"."""
    return shown_parameter(model).replace("t", "T", 1)


def without_excess(maps: FitResult, model: SignalModel) -> FitResult:
    """Maps in which a T1 that no tissue has, computed from T1*, is undetermined.

    T1 = T1* (B/A - 1) is negative, or without a limit, where the curve does not rise to
    an A of its own sign. Other models give their maps back as they are.

    Args:
        maps: Of `fit_map`.
        model: The one that was fitted; its upper bound is that of T1 too.
    """
    name = shown_parameter(model)
    if name == model.time_constant:
        return maps
    value = maps.params[name]
    bad = ~((value > 0) & (value <= model.bounds[1])) & ~jnp.isnan(value)
    hidden = {n: jnp.where(bad, jnp.nan, x) for n, x in maps.params.items()}
    sigma = {n: jnp.where(bad, jnp.nan, x) for n, x in maps.sigma.items()}
    status = jnp.where(bad, jnp.int8(FitStatus.UNDETERMINED), maps.status)
    residual = jnp.where(bad, jnp.nan, maps.residual)
    r_squared = jnp.where(bad, jnp.nan, maps.r_squared)
    return FitResult(hidden, sigma, residual, r_squared, status)
