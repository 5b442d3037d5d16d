"""Where the fit of an echo train begins: a grid over both rates, then steps from it.

One start is enough for a train from its first echo on. Without it, or with gaps, the
cost has several minima over x = cos^2(a/2): a start at every level of x, and the best.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.mri.epg_steps import WIDEST, train_curve, train_step
from medjax.mri.model import SignalModel
from medjax.mri.start import Bounds
from medjax.mri.varpro import Weighted, dot, invert, orthogonalise, project

_LEVELS = 9  # of x on the grid


class Place(NamedTuple):
    """Where steps have come to; `before` and `plain` are what `train_step` keeps."""

    u: Float[Array, "*N"]
    x: Float[Array, "*N"]
    before: Float[Array, "*N"]
    plain: Float[Array, "*N"]


def find_place(
    model: SignalModel,
    data: Weighted,
    given: Float[Array, "*N"] | None,
    limits: Bounds,
    *,
    points: int,
    steps: int,
) -> Place:
    """The best point of the grid, or of the starts that a train with gaps needs.

    Args:
        model: One with a train and with its `echoes`.
        data: Of `prepare_samples`.
        given: x where it is known; then the grid is over u alone.
        limits: Smallest and largest u = log R, R in 1/s.
        points: Of the grid in u, static.
        steps: Of Gauss and Newton from every start, static.
    """

    def refined(first: int | Array, levels: int | Array) -> Place:
        u, x = _search(model, data, given, limits, first, levels, points=points)
        radius = 1.5 * (limits[1] - limits[0]) / (points - 1)
        near = jnp.maximum(u - radius, limits[0]), jnp.minimum(u + radius, limits[1])

        def step(_: Array, last: Place) -> Place:
            kept = [last.before, last.plain]
            move, turn, plain = train_step(model, last.u, last.x, kept, data, given)
            return Place(jnp.clip(last.u + move, *near), last.x + turn, last.x, plain)

        return jax.lax.fori_loop(0, steps, step, Place(u, x, x, jnp.zeros_like(u)))

    whole = model.echoes == tuple(range(1, len(model.echoes) + 1))
    if given is not None or whole:
        return refined(0, _LEVELS if given is None else 1)

    def better(level: Array, best: tuple[Place, Array]) -> tuple[Place, Array]:
        place = refined(level, level + 1)
        left = _left(model, place, data)
        lower = left < best[1]
        return jax.tree.map(lambda a, b: jnp.where(lower, a, b), (place, left), best)

    first = refined(0, 1)
    return jax.lax.fori_loop(1, _LEVELS, better, (first, _left(model, first, data)))[0]


def _left(model: SignalModel, place: Place, data: Weighted) -> Float[Array, "*N"]:
    """The sum of squares that is left."""
    basis = orthogonalise([train_curve(model, place.u, place.x, data)])
    residuals = [project(basis, channel)[1] for channel in data.channels]
    return sum((dot(r, r) for r in residuals), jnp.zeros_like(place.u))


def _search(
    model: SignalModel,
    data: Weighted,
    given: Float[Array, "*N"] | None,
    limits: Bounds,
    first: int | Array,
    levels: int | Array,
    *,
    points: int,
) -> tuple[Float[Array, "*N"], Float[Array, "*N"]]:
    """u and x at the best point of some levels of the grid, or u at a given x."""
    spacing = (limits[1] - limits[0]) / (points - 1)
    zero = jnp.zeros_like(data.channels[0][0])
    # The ends of the range are no starts: steps from there may not lead inside.
    places = jnp.clip(jnp.arange(points, dtype=zero.dtype), 0.5, points - 1.5)
    rates = (limits[0] + spacing * places).reshape(points, *[1] * zero.ndim)
    grid = jax.tree.map(lambda a: a[None] if jnp.ndim(a) else a, data)

    def level(index: int | Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        x = _level(index, zero) if given is None else given[None]
        # Once for all voxels: XLA would make the curves again in each.
        curve = jax.lax.optimization_barrier(train_curve(model, rates, x, grid))
        inverse = invert(size := dot(curve, curve), size > 0)
        parts = [dot(curve, channel) ** 2 * inverse for channel in grid.channels]
        scores = jnp.broadcast_to(sum(parts), (points, *zero.shape))
        score, at = best
        for i in range(points):  # argmax and gather are ten times slower
            better = scores[i] > score
            score = jnp.where(better, scores[i], score)
            at = jnp.where(better, index * points + i, at)
        return score, at

    start = (zero - 1, zero.astype(jnp.int32))
    _, at = jax.lax.fori_loop(first, levels, level, start)
    place = jnp.clip((at % points).astype(zero.dtype), 0.5, points - 1.5)
    x = _level(at // points, zero) if given is None else given
    return jax.lax.optimization_barrier((limits[0] + spacing * place, x))


def _level(index: int | Array, like: Array) -> Array:
    return WIDEST / (_LEVELS - 1) * jnp.asarray(index, like.dtype)
