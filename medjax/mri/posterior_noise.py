"""The uncertainty that a posterior is given, as what its samples are weighted by."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from medjax.mri.model import SignalModel
from medjax.mri.samples import FitStatus, prepare_samples
from medjax.mri.start import Bounds
from medjax.mri.varpro import Column, Weighted

Triangle = list[list[Array]]  # row e has e + 1 entries, each [*N]


class Noisy(NamedTuple):
    """Samples of noise `level` in every contrast, once they are whitened."""

    data: Weighted  # scaled to largest sample 1 and weighted, not yet whitened
    factor: Triangle | None  # of the covariance of the samples, in units of level^2
    level: Float[Array, "*N"]  # sd of a weighted sample


class Prepared(NamedTuple):
    """What is known of the voxels before any T is looked at."""

    noisy: Noisy
    offset: Float[Array, "*N"]  # log density of the samples less -cost / 2
    log_unit: Float[Array, "*N"]  # log of `level` in the unit of the images
    status: Int[Array, "*N"]  # by samples and noise alone; 0 = there is a posterior


def prepare_noise(
    images: Inexact[Array, "E *N"],
    times: Float[Array, "E *#N"],
    u: Float[Array, "..."],
    limits: Bounds,
    *,
    model: SignalModel,
    magnitude: bool,
) -> Prepared:
    """Scale and whiten the samples, and judge each voxel's u.

    A voxel without a posterior gets a curve and a noise that have one, for NaN to be
    written over it: nothing non-finite arises.

    Args:
        images: In any unit.
        times: Seconds, in the dtype to compute in.
        u: A standard deviation a voxel [*N], one a contrast and voxel [E, *N], where
            inf leaves the sample out, or a covariance [E, E, *N]. What is not above 0,
            or no positive definite symmetric matrix, makes its voxel INVALID.
        limits: Smallest and largest log R, R in 1/s.
        model: As `signal_model` gives it.
        magnitude: A sample below 0 makes its voxel INVALID.
    """
    count, rank = len(images), images.ndim - 1
    weights = factor = None
    if u.ndim == rank:
        sound = (u > 0) & (u < jnp.inf)
        base = jnp.where(sound, u, 1)
    elif u.ndim == rank + 1:
        sound = jnp.all(u > 0, axis=0) & jnp.any(u < jnp.inf, axis=0)
        u = jnp.where(sound[None], u, 1)
        base = jax.lax.stop_gradient(jnp.min(u, axis=0))
        weights = jnp.square(base[None] / u)
    else:
        sound = _factor(jax.lax.stop_gradient(u))[2]
        unit = jnp.eye(count, dtype=u.dtype).reshape(count, count, *[1] * rank)
        base, factor, _ = _factor(jnp.where(sound[None, None], u, unit))
    sound = jnp.broadcast_to(sound, images.shape[1:])
    samples = prepare_samples(
        images, times, weights, limits, model=model, magnitude=magnitude
    )
    status = jnp.where(sound, samples.status, FitStatus.INVALID)
    good = status == 0
    level = jnp.where(good, base / samples.scale, 1)
    sound_level = (level > 0) & (level < jnp.inf)  # over- and underflow
    status = jnp.where(sound_level, status, FitStatus.INVALID)
    level = jnp.where(sound_level, level, 1)
    logs = [jnp.log(jnp.where(r > 0, r, 1)) for r in samples.data.roots]
    spread = -sum(logs)
    if factor is not None:
        spread = sum(jnp.log(factor[e][e]) for e in range(count))
    log_level = jnp.log(level) + jnp.log(samples.scale)
    used = samples.count.astype(level.dtype)
    half = 0.5 * jnp.log(jnp.asarray(2 * jnp.pi, level.dtype))
    offset = -len(samples.data.channels) * (used * (half + log_level) + spread)
    noisy = Noisy(samples.data, factor, level)
    return Prepared(noisy, offset, log_level, status)


def _factor(
    covariance: Float[Array, "E E *#N"],
) -> tuple[Float[Array, "*#N"], Triangle, Bool[Array, "*#N"]]:
    """Root of the largest variance, Cholesky factor in its unit, whether it is one."""
    count = len(covariance)
    diagonal = [covariance[e, e] for e in range(count)]
    largest = jnp.max(jnp.stack(diagonal), axis=0)
    sound = (largest > 0) & (largest < jnp.inf)
    one = jax.lax.stop_gradient(jnp.where(sound, largest, 1))
    slack = 1e-3  # of an entry's own sd: rounding, not another matrix
    lower: Triangle = []
    for i in range(count):
        row: list[Array] = []
        for j in range(i + 1):
            entry = covariance[i, j] / one
            bound = slack * jnp.sqrt(jnp.abs(diagonal[i] * diagonal[j])) / one
            sound = sound & (jnp.abs(entry - covariance[j, i] / one) <= bound)
            entry = (entry + covariance[j, i] / one) / 2
            other = row if i == j else lower[j]
            for k in range(j):
                entry = entry - row[k] * other[k]
            if i > j:
                row.append(entry / lower[j][j])
                continue
            floor = 8 * jnp.finfo(entry.dtype).eps
            sound = sound & (entry > floor * diagonal[i] / one)
            row.append(jnp.sqrt(jnp.where(sound, entry, 1)))
        lower.append(row)
    return jnp.sqrt(one), lower, sound


def whiten(factor: Triangle, column: Column) -> Column:
    """Solve L x = column by forward substitution, voxel by voxel.

    Args:
        factor: L, lower triangular, with a diagonal above 0.
        column: One entry a contrast.
    """
    solved: Column = []
    for row, entry in zip(factor, column, strict=True):
        for weight, x in zip(row, solved, strict=False):
            entry = entry - weight * x
        solved.append(entry / row[-1])
    return solved
