"""Mean, sd and quantiles of a density that is known at a few places of a window."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.mri.posterior_density import Window
from medjax.mri.varpro import invert, square_root


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
    cells = len(log_weights)
    dtype = log_weights.dtype
    shape = (cells,) + (1,) * window.first.ndim
    top = jax.lax.stop_gradient(jnp.max(log_weights, axis=0))
    weights = jnp.exp(log_weights - top[None])
    total = jnp.sum(weights, axis=0)
    spacing = (window.last - window.first) / cells
    steps = jnp.arange(cells, dtype=dtype).reshape(shape) + 0.5
    time = jnp.exp(window.first[None] + spacing[None] * steps)
    if limit is not None:
        time = jnp.minimum(time, limit)
    share = 1 / total
    mean = jnp.sum(weights * time, axis=0) * share
    square = jnp.sum(weights * jnp.square(time - mean[None]), axis=0) * share
    log_total = top + jnp.log(total) + jnp.log(jnp.where(spacing > 0, spacing, 1))
    places = _places(weights, total, quantiles)
    found = [jnp.exp(window.first + spacing * place) for place in places]
    if limit is not None:
        found = [jnp.minimum(x, limit) for x in found]
    return Summary(mean, square_root(square), found, log_total)


def _places(
    weights: Float[Array, "D *N"], total: Float[Array, "*N"], quantiles: Sequence[float]
) -> list[Float[Array, "*N"]]:
    """Cells from the window's left edge to each quantile, by sums of clipped cells.

    A quantile above the median is counted from the right, for the digits of its tail.
    """
    if not quantiles:
        return []
    cells = len(weights)
    flat = weights.reshape(cells, -1)
    ones = np.tril(np.ones((cells, cells)), -1)
    solid = weights > 1e-10  # of the highest cell: what is less holds no quantile
    inverse = invert(weights, solid)
    places = []
    for low in (True, False):
        sides = [q for q in quantiles if (q <= 0.5) == low]
        if not sides:
            continue
        below = jnp.asarray(ones if low else ones.T, weights.dtype)
        before = jnp.matmul(below, flat, precision=jax.lax.Precision.HIGHEST)
        before = before.reshape(weights.shape)
        for q in quantiles:
            if (q <= 0.5) != low:
                continue
            part = (q if low else 1 - q) * total[None] - before
            inside = jnp.clip(part * inverse, 0, 1)
            whole = (part > 0).astype(inside.dtype)
            count = jnp.sum(jnp.where(solid, inside, whole), axis=0)
            places.append((q, count if low else cells - count))
    return [next(x for p, x in places if p == q) for q in quantiles]
