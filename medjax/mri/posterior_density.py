"""log p(y | T) of one rate with its amplitudes eliminated, and where it is not small.

Contrasts are lists and voxels have whatever shape, as in `varpro`; a leading axis holds
the rates at which the density is taken.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.mri.model import SignalModel
from medjax.mri.polarity import restore_sign
from medjax.mri.posterior_noise import Noisy, Triangle, whiten
from medjax.mri.varpro import (
    Column,
    Weighted,
    dot,
    invert,
    orthogonalise,
    project,
    weighted_basis,
)

_AGAIN = 9  # places of the second grid
_EQUAL = 0.01  # difference of log densities without a meaning
_UNSURE = 0.25  # of the distance of places: more than a parabola's vertex is wrong by


class Amplitude(NamedTuple):
    """What is known of the amplitudes, and what becomes of them. Static."""

    marginal: bool  # integrated over, else at its best value
    positive: bool  # of one amplitude of real samples
    hidden: bool  # the sign of the earliest samples is lost


class Window(NamedTuple):
    """Part of the range of log T that holds the posterior."""

    first: Float[Array, "*N"]
    last: Float[Array, "*N"]
    height: Float[Array, "*N"]  # the largest value that was seen, of the last grid


def patterns(
    data: Weighted, amplitude: Amplitude
) -> list[tuple[int, Bool[Array, "*#N"]]]:
    """How many of the earliest samples may be negative, and whether that is new.

    Samples of one time go together, and one that is not read makes no difference. All
    negative is the curve of all positive with another sign of the amplitude.

    Args:
        data: Its times and roots of weights are read.
        amplitude: Without a lost sign there is one pattern.
    """
    found = [(0, jnp.ones((), bool))]
    if not amplitude.hidden:
        return found
    count = len(data.times)
    earlier = [
        sum((other < time).astype(jnp.int32) for other in data.times)
        for time in data.times
    ]
    for negative in range(1, count + amplitude.positive):
        new = jnp.zeros((), bool)
        for before, root in zip(earlier, data.roots, strict=True):
            new = new | ((before == negative - 1) & (root > 0))
        found.append((negative, new))
    return found


def explained_part(
    model: SignalModel, log_rate: Float[Array, "D"], noisy: Noisy, how: Amplitude
) -> Float[Array, "D *N"]:
    """log p(y | T) but for terms that do not depend on T: fast, for finding a window.

    Half of what the basis explains of |W y|^2, over the noise's variance; of the best
    pattern of signs. Rounding is that of |W y|^2.

    Args:
        model: As `signal_model` gives it.
        log_rate: log R, R in 1/s.
        noisy: Of `prepare_noise`.
        how: A marginal amplitude is taken at its best value.
    """
    shared = noisy.factor is None and not any(
        x.ndim for x in (*noisy.data.roots, *noisy.data.times)
    )
    ones = () if shared else (1,) * noisy.level.ndim
    over = noisy if shared else _over_grid(noisy)
    log_rate = log_rate.reshape(-1, *ones)
    basis = orthogonalise(_columns(model, log_rate, over.data, over.factor))
    found = []
    for negative, new in patterns(over.data, how):
        total = None
        for channel in _channels(over, negative):
            for q, inverse in zip(basis.columns, basis.inverse, strict=True):
                root = jnp.sqrt(inverse)
                if shared:  # one product of matrices, which is not made again
                    matrix = jnp.stack([root * x for x in q], axis=-1)
                    part = once(jnp.stack(channel), matrix)
                else:
                    part = root * dot(q, channel)
                part = jnp.maximum(part, 0) if how.positive else part
                total = part**2 if total is None else total + part**2
        found.append(jnp.where(new, total, 0))
    best = functools.reduce(jnp.maximum, found)
    return best / (2 * jnp.square(noisy.level))[None]


def log_density(
    model: SignalModel, log_rate: Float[Array, "D *N"], noisy: Noisy, how: Amplitude
) -> Float[Array, "D *N"]:
    """log p(y | T) but for terms without T, by residuals: at any signal-to-noise.

    Args:
        model: As `signal_model` gives it.
        log_rate: log R, R in 1/s.
        noisy: Of `prepare_noise`.
        how: What becomes of the amplitudes.
    """
    over = _over_grid(noisy)
    basis = orthogonalise(_columns(model, log_rate, over.data, over.factor))
    variance = jnp.square(over.level)
    volume = jnp.zeros_like(log_rate)
    if how.marginal:
        # The integral over the coefficient of q_k is that of a Gaussian.
        for inverse in basis.inverse:
            log_size = jnp.log(jnp.where(inverse > 0, inverse, 1)) / 2
            volume = volume + len(noisy.data.channels) * log_size
    kept = []
    for negative, new in patterns(over.data, how):
        cost = jnp.zeros_like(log_rate)
        part = jnp.zeros_like(log_rate)
        for channel in _channels(over, negative):
            if how.positive:
                (q,), (inverse,) = basis.columns, basis.inverse
                part = dot(q, channel) * inverse
                best = jax.lax.optimization_barrier(jnp.maximum(part, 0))
                left = [y - best * x for y, x in zip(channel, q, strict=True)]
            else:
                left = project(basis, channel)[1]
            cost = cost + dot(left, left)
        value = volume - cost / (2 * variance)
        if how.positive and how.marginal:
            value = value + _share_above_zero(part, basis.inverse[0], over.level)
        kept.append(jnp.where(new, value, -jnp.inf))
    if len(kept) == 1:
        return kept[0]
    return jax.nn.logsumexp(jnp.stack(kept), axis=0)


def _share_above_zero(part: Array, inverse: Array, level: Array) -> Array:
    """log of the integral of N(a; part, ..) over a > 0 to that at max(part, 0)."""
    size = invert(jnp.sqrt(jnp.where(inverse > 0, inverse, 1)), inverse > 0)
    z = part * size / level
    return jax.scipy.special.log_ndtr(z) + jnp.square(jnp.minimum(z, 0)) / 2


def find_window(
    model: SignalModel,
    noisy: Noisy,
    log_prior: Callable[[Array], Array],
    nodes: Float[Array, "D"],
    how: Amplitude,
    *,
    depth: float,
    smooth: bool,
) -> tuple[Window, Bool[Array, "*N"]]:
    """Where the log posterior is less than `depth` below its largest value.

    By a grid over the whole range, and one over what is left.

    Args:
        model: As `signal_model` gives it.
        noisy: Of `prepare_noise`.
        log_prior: Of edges [D + 1, ..], its log mean between them, which may be -inf.
        nodes: log T in s, ascending, evenly spaced, the ends of the range among them.
        how: What becomes of the amplitudes.
        depth: Above 0.
        smooth: Whether the prior is: a peak beside its steps is no parabola.

    Returns:
        The window, and whether the density at an end of the range is above exp(-2) of
        the largest.
    """
    shape = (len(nodes),) + (1,) * noisy.level.ndim
    values = explained_part(model, -nodes, noisy, how)
    values = values + log_prior(_edges(nodes)).reshape(shape)
    ends = jnp.maximum(values[0], values[-1]) > jnp.max(values, axis=0) - 2
    ones = jnp.ones_like(noisy.level)
    window = _narrowed(
        values, Window(nodes[0] * ones, nodes[-1] * ones, ones), depth, smooth
    )
    share = jnp.linspace(0, 1, _AGAIN, dtype=nodes.dtype)
    share = share.reshape((_AGAIN,) + shape[1:])
    places = window.first[None] + (window.last - window.first)[None] * share
    values = once(log_density(model, -places, noisy, how)) + log_prior(_edges(places))
    return _narrowed(values, window, depth, smooth), ends


def once(
    values: Float[Array, "D *N"], matrix: Float[Array, "C D"] | None = None
) -> Float[Array, "C *N"]:
    """matrix @ values: a product is computed once, not again for each of its readers.

    Args:
        values: Finite.
        matrix: None = the identity.
    """
    if matrix is None:
        matrix = jnp.eye(len(values), dtype=values.dtype)
    flat = values.reshape(len(values), -1)
    found = jnp.matmul(matrix, flat, precision=jax.lax.Precision.HIGHEST)
    return found.reshape(-1, *values.shape[1:])


def _edges(places: Float[Array, "D *N"]) -> Float[Array, "D+1 *N"]:
    """Half way between the places, and the first and last of them."""
    between = (places[1:] + places[:-1]) / 2
    return jnp.concatenate([places[:1], between, places[-1:]])


def _narrowed(
    values: Float[Array, "D *N"], window: Window, depth: float, smooth: bool
) -> Window:
    """From the last of D places in the window that is too low to the next that is so.

    A peak of a few places is a parabola through the highest three: its vertex is right
    to a part of their distance that is of the order of this distance in log T.
    """
    count = len(values)
    shape = (count,) + (1,) * (values.ndim - 1)
    index = jnp.arange(count, dtype=jnp.int32).reshape(shape)
    top = jnp.max(values, axis=0)
    # XLA makes the values again for each comparison, but for their last digits.
    digits = 32 * jnp.finfo(values.dtype).eps * jnp.abs(top)
    highest = values >= (top - digits - _EQUAL)[None]
    at = jnp.min(jnp.where(highest, index, count - 1), axis=0)

    def beside(step: int) -> Array:
        """The value next to the highest one."""
        there = index == (at + step)[None]
        return jnp.max(jnp.where(there, values, -jnp.inf), axis=0)

    left, right = beside(-1), beside(1)
    inside = jnp.isfinite(left) & jnp.isfinite(right)
    left, right = jnp.where(inside, left, top), jnp.where(inside, right, top)
    bend = 2 * top - left - right
    inside = inside & (bend > 0)
    inverse = invert(bend, inside)
    height = top + (right - left) ** 2 / 8 * inverse
    high = values >= (height - depth)[None]
    first = jnp.min(jnp.where(high, index, at[None]), axis=0)
    last = jnp.max(jnp.where(high, index, at[None]), axis=0)
    narrow = inside & (last - first <= 2) & smooth
    first, last, at = (x.astype(values.dtype) for x in (first - 1, last + 1, at))
    centre = at + (right - left) / 2 * inverse
    spacing = (window.last - window.first) / (count - 1)
    reach = jnp.sqrt(2 * depth * inverse) + jnp.minimum(_UNSURE, 4 * spacing)
    first = jnp.maximum(first, jnp.where(narrow, centre - reach, 0))
    last = jnp.minimum(last, jnp.where(narrow, centre + reach, count - 1))
    return Window(
        window.first + spacing * jnp.maximum(first, 0),
        window.first + spacing * jnp.minimum(last, count - 1),
        top,
    )


def _columns(
    model: SignalModel, log_rate: Array, data: Weighted, factor: Triangle | None
) -> list[Column]:
    columns = weighted_basis(model, log_rate, data)[0]
    if factor is None:
        return columns
    return [whiten(factor, column) for column in columns]


def _over_grid(noisy: Noisy) -> Noisy:
    """With an axis of rates before those of the voxels."""
    return jax.tree.map(lambda x: x[None] if x.ndim else x, noisy)


def _channels(noisy: Noisy, negative: int) -> list[Column]:
    channels = (
        restore_sign(noisy.data, negative).channels
        if negative
        else (noisy.data.channels)
    )
    if noisy.factor is None:
        return channels
    return [whiten(noisy.factor, channel) for channel in channels]
