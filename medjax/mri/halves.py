"""Do the error bars hold on this scan? Two halves of its lines, without a reference.

The outer lines of every contrast are dealt to two halves, which both have the centre.
Each half makes its own map with its own error bars. Where these hold, the difference of
the two maps is about as large as both together say.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from medjax.checks import FLAGS, check_arrays, check_integers, check_key
from medjax.types import Key

_WITHIN = 1.959964  # deviations: 95 % of a normal distribution


class Halves(NamedTuple):
    """Two masks whose outer lines are disjoint; the union is the mask."""

    first: Bool[Array, "*B E #H #W"]
    second: Bool[Array, "*B E #H #W"]


class HalfScores(NamedTuple):
    """How far two maps differ, in units of what their error bars allow."""

    z: Float[Array, "*B H W"]  # 0 where a voxel does not count
    counted: Bool[Array, "*B H W"]
    count: Float[Array, "*B"]  # voxels that count
    within: Float[Array, "*B"]  # share of them with |z| < 1.96
    spread: Float[Array, "*B"]  # the 68.3 % quantile of |z|: 1 for a standard normal


def half_lines(mask: Bool[Array, "*B E #H #W"], key: Key, *, center: int) -> Halves:
    """Deal the outer lines of every contrast to two halves, at random and evenly.

    Of an odd number of lines contrasts 0, 2, .. give one more to the first half and
    contrasts 1, 3, .. to the second.

    Args:
        mask: bool or integers, not 0 where centred k-space is sampled: whole columns,
            [.., E, 1, W], whole rows, or points, which are dealt one by one.
        key: One typed key; every contrast and slice draws for itself. Do not use it
            again.
        center: How many lines in the middle both halves keep, from (W - center + 1) //
            2 on, at least 0; of points, rows and columns. Static.

    Returns:
        The masks `first` and `second`, bool and of the shape of `mask`: both have the
        middle, each outer line that was sampled is in one of them.

    Raises:
        ValueError: a mask of floats, a negative centre, several keys, or, where the
            mask is not traced, a slice with fewer than 2 outer lines over all
            contrasts. Of a traced mask halves may then be equal, and their maps too.
    """
    name = "half_lines"
    check_arrays(name, mask=(mask, "*B E _ _", FLAGS))
    check_key(name, key=key)
    check_integers(name, center=(center, 0, None))
    inside = np.ones((1, 1), bool)
    for axis, points in enumerate(mask.shape[-2:]):
        if points > 1:
            index = np.arange(points) - (points - center + 1) // 2
            inside = inside & np.expand_dims((index >= 0) & (index < center), 1 - axis)
    if not isinstance(mask, Tracer):
        count = (np.asarray(mask).astype(bool) & ~inside).sum((-3, -2, -1))
        if count.size and count.min() < 2:
            raise ValueError(
                f"{name}: mask: expected at least 2 sampled lines outside the middle "
                f"{center}, over all contrasts; found {int(count.min())}: error bars "
                "cannot be checked without a reference here"
            )
    sampled = jnp.asarray(mask).astype(bool)
    outer = sampled & ~jnp.asarray(inside)[(None,) * (mask.ndim - 2)]
    flat = outer.reshape(*outer.shape[:-2], -1)
    draw = jax.random.uniform(key, flat.shape, jnp.float32)
    order = jnp.argsort(jnp.where(flat, draw, 2), axis=-1)
    rank = jnp.argsort(order, axis=-1)
    contrast = jnp.arange(mask.shape[-3], dtype=rank.dtype)[:, None]
    contrast = contrast.reshape(*[1] * (flat.ndim - 2), -1, 1)
    odd = ((rank + contrast) % 2 == 1).reshape(outer.shape)
    return Halves(sampled & ~(outer & odd), sampled & ~(outer & ~odd))


def half_scores(
    first: Float[Array, "3 *B H W"],
    second: Float[Array, "3 *B H W"],
    where: Bool[Array, "*B H W"],
) -> HalfScores:
    """z = (log a - log b) / sqrt(s_a^2 + s_b^2) of two maps, and how large z is.

    s is the length of the 95 % interval in the logarithm over 2 * 1.96, as posteriors
    of a time constant are close to normal there. Both halves share the centre of
    k-space and what the regulariser takes for granted, so z is smaller than that of
    independent maps: it has to be held against scans whose error bars are known to
    hold.

    Args:
        first: Lower end, median and upper end of the 95 % interval, in seconds, above
            0; a voxel that is NaN or whose ends are equal (u of 0, a bound) does not
            count.
        second: Those of the other half; its voxels too are left out where it has none.
        where: The voxels that count, such as bright ones: bool, for the three maps.

    Returns:
        z, and of the voxels that count their number, the share below 1.96 and the 68.3
        % quantile of |z|; both are NaN where none counts.

    Raises:
        ValueError: shapes that do not fit.
    """
    check_arrays(
        "half_scores",
        where=(where, "*B H W", bool),
        first=(first, "3 *B H W", float),
        second=(second, "3 *B H W", float),
    )
    usable = where
    for ends in (first, second):
        usable = usable & (ends[0] > 0) & (ends[2] > ends[0]) & (ends[2] < jnp.inf)
    logs_a, logs_b = (
        jnp.log(jnp.where(usable[None], ends, 1)) for ends in (first, second)
    )
    variance = jnp.square(logs_a[2] - logs_a[0]) + jnp.square(logs_b[2] - logs_b[0])
    scale = jnp.sqrt(jnp.where(usable, variance, 1)) / (2 * _WITHIN)
    z = (logs_a[1] - logs_b[1]) / scale
    size = jnp.abs(z)
    count = jnp.sum(usable, axis=(-2, -1), dtype=z.dtype)
    inside = jnp.sum(usable & (size < _WITHIN), axis=(-2, -1), dtype=z.dtype)
    return HalfScores(z, usable, count, inside / count, _quantile(size, usable, count))


def _quantile(
    size: Float[Array, "*B H W"],
    usable: Bool[Array, "*B H W"],
    count: Float[Array, "*B"],
) -> Float[Array, "*B"]:
    """The 68.3 % quantile of those that count, between two of them as NumPy has it."""
    flat = jnp.where(usable, size, jnp.inf).reshape(*size.shape[:-2], -1)
    ordered = jnp.sort(flat, axis=-1)
    place = 0.682689 * jnp.maximum(count - 1, 0)
    low = jnp.floor(place).astype(jnp.int32)
    high = jnp.minimum(low + 1, jnp.maximum(count.astype(jnp.int32) - 1, 0))
    below, above = (
        jnp.take_along_axis(ordered, i[..., None], axis=-1)[..., 0] for i in (low, high)
    )
    part = place - low.astype(place.dtype)
    some = jnp.where(count > 0, below, 0) * (1 - part)
    some = some + jnp.where(count > 0, above, 0) * part
    return some * (count / count)
