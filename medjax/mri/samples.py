"""Samples as a fit takes them: scaled, weighted, and judged voxel by voxel."""

import enum
import functools
import operator
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from medjax.mri.model import SignalModel, smooth_at_zero
from medjax.mri.start import Bounds
from medjax.mri.times import plausible
from medjax.mri.varpro import Column, Weighted


class FitStatus(enum.IntEnum):
    """What became of a voxel; from NOT_CONVERGED on its maps hold NaN."""

    CONVERGED = 0
    EXACT = 1  # as many samples as parameters: nothing is left to judge the fit by
    AT_BOUND = 2  # the time constant is the bound, sigma is NaN
    NOT_CONVERGED = 3
    UNDETERMINED = 4  # the samples do not determine the rate: a constant, equal times
    TOO_FEW = 5  # fewer samples with a weight than parameters
    NO_SIGNAL = 6  # all samples are zero
    INVALID = 7  # NaN, Inf or a negative number where there must be none, or a traced
    # time that is too long to be in seconds

    @classmethod
    def _missing_(cls, value: object) -> "FitStatus | None":
        # A number of JAX has no hash, by which Python looks from 3.12 on.
        return cls(operator.index(value)) if isinstance(value, jax.Array) else None


class Samples(NamedTuple):
    """Scaled to largest sample 1 and largest weight 1: float32 has room then."""

    data: Weighted
    scale: Float[Array, "*N"]
    root_scale: Float[Array, "*#N"]  # root of the largest weight
    freedom: Int[Array, "*#N"]  # samples less parameters, complex ones count twice
    count: Int[Array, "*#N"]
    status: Int[Array, "*N"]  # by the samples alone; 0 = can be fitted


def prepare_samples(
    images: Inexact[Array, "E *N"],
    times: Float[Array, "E *#N"],
    weights: Float[Array, "E *#N"] | None,
    limits: Bounds,
    *,
    model: SignalModel,
    magnitude: bool,
) -> Samples:
    """Split complex samples, leave out those of weight 0, scale the rest.

    A voxel that cannot be fitted gets a curve that can, for NaN to be written over it
    afterwards: nothing non-finite arises, so derivatives stay finite everywhere.

    Args:
        images: In any unit, real or complex. A sample with a weight above 0 that is not
            finite makes its voxel INVALID, zeros alone make it NO_SIGNAL.
        times: Seconds (flip angles: radians) in the dtype to compute in. One that
            `check_times` would refuse makes the voxel INVALID; it has not seen the
            values of traced ones.
        weights: At least 0 and finite, or the voxel is INVALID; a sample of weight 0 is
            not read. None = 1.
        limits: Smallest and largest log R, R in 1/s; a voxel that cannot be fitted gets
            the curve of their middle.
        model: As `signal_model` gives it.
        magnitude: A sample below 0 makes its voxel INVALID.
    """
    dtype = times.dtype
    parts = [images.real, images.imag] if jnp.iscomplexobj(images) else [images]
    channels = [list(part.astype(dtype)) for part in parts]
    given = list(jnp.ones((len(images),), dtype) if weights is None else weights)
    finite = [(w >= 0) & (w < jnp.inf) for w in given]
    used = [ok & (w > 0) for ok, w in zip(finite, given, strict=True)]
    # NaN and Inf pass through maximum.
    sizes = [_maximum(map(jnp.abs, part)) for part in zip(*channels, strict=True)]
    scale = _maximum(_where(used, sizes))
    timed = _all(plausible(model, t) for t in times)
    valid = _all(finite) & (scale < jnp.inf) & timed
    if magnitude:
        valid = valid & _all([y >= 0 for y in _where(used, channels[0])])
    count = sum(on.astype(jnp.int32) for on in used)
    amplitudes = 1 if model.train else len(model.parameters) - 1
    unknowns = len(channels) * amplitudes + len(model.parameters) - amplitudes
    freedom = len(channels) * count - unknowns
    status = jnp.where(scale == 0, FitStatus.NO_SIGNAL, 0)
    status = jnp.where(freedom < 0, FitStatus.TOO_FEW, status)
    status = jnp.where(valid, status, FitStatus.INVALID)
    good = status == 0
    # No derivative: what comes out does not depend on how it is scaled.
    scale = jax.lax.stop_gradient(jnp.where(good, scale, 1))
    largest = jax.lax.stop_gradient(_maximum(_where(used, given)))
    largest = jnp.where(largest > 0, largest, 1)
    roots = [
        jnp.where(on, jnp.sqrt(jnp.where(on, w, 1) / largest), 0)
        for on, w in zip(used, given, strict=True)
    ]
    middle = jnp.exp((limits[0] + limits[1]) / 2)
    even = [2 * (e + 1) / (len(images) * middle) for e in range(len(images))]
    # Times by voxel make the grid search twice as long where one list would do.
    every = weights is None or smooth_at_zero(model)
    read = [timed if every else timed & on for on in used]
    clocks = [jnp.where(r, t, e) for r, t, e in zip(read, times, even, strict=True)]
    curve = [
        sum(model.basis(middle, t, *model.constants_of(e)))
        for e, t in enumerate(clocks)
    ]

    def weighted(channel: Column) -> Column:
        return [
            root * jnp.where(on, jnp.where(good, y / scale, s), 0)
            for root, on, y, s in zip(roots, used, channel, curve, strict=True)
        ]

    data = Weighted([weighted(channel) for channel in channels], roots, clocks)
    return Samples(data, scale, jnp.sqrt(largest), freedom, count, status)


def _where(used: list[Bool[Array, "*#N"]], values: Column) -> Column:
    return [jnp.where(on, v, 0) for on, v in zip(used, values, strict=True)]


def _maximum(values: Iterable[Array]) -> Array:
    return functools.reduce(jnp.maximum, values)


def _all(values: Iterable[Array]) -> Array:
    return functools.reduce(operator.and_, values)
