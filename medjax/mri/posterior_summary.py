"""Mean, sd and quantiles of a density that is known at a few places of a window."""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.mri.posterior_density import Window
from medjax.mri.varpro import square_root

_MIDDLE = 0.5
_POWERS = 8


class Summary(NamedTuple):
    """Of T in s, and the log of the integral of the density over log T."""

    mean: Float[Array, "*N"]
    sd: Float[Array, "*N"]
    quantiles: list[Float[Array, "*N"]]
    log_total: Float[Array, "*N"]


def interpolation(nodes: int, cells: int) -> Float[np.ndarray, "cells nodes"]:
    """The matrix from values at evenly spaced nodes to those at the cells' centres.

    Cubic polynomials through the four nearest nodes; the first node is the first cell's
    left edge and the last node the last cell's right one.

    Args:
        nodes: At least 4.
        cells: At least 1.
    """
    matrix = np.zeros((cells, nodes))
    for row, place in enumerate((np.arange(cells) + 0.5) / cells * (nodes - 1)):
        first = int(np.clip(np.floor(place) - 1, 0, nodes - 4))
        used = np.arange(first, first + 4)
        for node in used:
            others = used[used != node]
            matrix[row, node] = np.prod((place - others) / (node - others))
    return matrix


def summarise(
    log_weights: Float[Array, "D *N"],
    window: Window,
    quantiles: Sequence[float],
    limit: float | None,
) -> Summary:
    """Integrals over cells in each of which the density of log T is constant.

    Args:
        log_weights: At the centres of D even cells of the window, may be -inf, but not
            in all cells of a voxel.
        window: Of log T in s.
        quantiles: Between 0 and 1.
        limit: Longer T count as this one, in s; None for none.
    """
    cells, dtype = len(log_weights), log_weights.dtype
    top = jax.lax.stop_gradient(jnp.max(log_weights, axis=0))
    # What is less than the floor holds no quantile, and 1 / x^2 of it is finite.
    floor = jnp.finfo(dtype).eps ** 1.25
    weights = jnp.maximum(jnp.exp(log_weights - top[None]), floor)
    rows, inverse = list(weights), list(1 / weights)
    total = _sum(rows)
    spacing = (window.last - window.first) / cells
    times = _times(window.first, spacing, cells)
    if limit is not None:
        times = [jnp.minimum(x, limit) for x in times]
    # From the middle, for digits: the window is not much wider than the density.
    middle = times[cells // 2]
    away = [x - middle for x in times]
    share = 1 / total
    shift = _sum([w * x for w, x in zip(rows, away, strict=True)]) * share
    square = _sum([w * x * x for w, x in zip(rows, away, strict=True)]) * share
    log_total = top + jnp.log(total) + jnp.log(jnp.where(spacing > 0, spacing, 1))
    found = []
    for q in quantiles:
        # From the nearer end, for the digits of the tail.
        if q <= _MIDDLE:
            place = _place(rows, inverse, q * total)
        else:
            place = cells - _place(rows[::-1], inverse[::-1], (1 - q) * total)
        x = jnp.exp(window.first + spacing * place)
        found.append(x if limit is None else jnp.minimum(x, limit))
    sd = square_root(square - shift * shift)
    return Summary(middle + shift, sd, found, log_total)


def _times(first: Array, spacing: Array, cells: int) -> list[Array]:
    """T at the centres of cells that are even in log T: few exponentials, by powers."""
    count = -(-cells // _POWERS)
    starts = jnp.arange(count, dtype=first.dtype).reshape(-1, *[1] * first.ndim)
    steps = starts * _POWERS + 0.5
    anchors = list(jnp.exp(first[None] + spacing[None] * steps))
    ratio = jnp.exp(spacing)
    powers = [jnp.ones_like(ratio), ratio]
    while len(powers) < _POWERS:
        powers.append(powers[-1] * ratio)
    return [anchor * power for anchor in anchors for power in powers][:cells]


def _place(rows: list[Array], inverse: list[Array], target: Array) -> Array:
    """How many cells hold the mass `target`, the last of them in part."""
    place, left = jnp.zeros_like(target), target
    for weight, by in zip(rows, inverse, strict=True):
        place = place + jnp.clip(left * by, 0, 1)
        left = left - weight
    return place


def _sum(rows: list[Array]) -> Array:
    return functools.reduce(operator.add, rows)
