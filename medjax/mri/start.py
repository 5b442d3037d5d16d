"""Where a fit starts, and the few Newton steps from there."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.mri.model import SignalModel
from medjax.mri.newton import newton_move
from medjax.mri.varpro import Weighted, add, dot, explained, invert

Bounds = tuple[Float[Array, ""], Float[Array, ""]]  # of log R


def search_rate(
    model: SignalModel, data: Weighted, bounds: Bounds, *, points: int
) -> Float[Array, "*N"]:
    """log R near the global minimum: the best of a grid, moved to a parabola's vertex.

    A sum of exponentials changes over an e-fold of R, so the minimum beside the best of
    `points` rates, evenly spaced in log R, is the global one if the spacing is well
    below that. At an end of the range the start is that end.

    Args:
        model: As `signal_model` gives it.
        data: Of `prepare_samples`, finite in every voxel.
        bounds: Smallest and largest log R, R in 1/s.
        points: Rates on the grid, the bounds among them; at least 3.
    """
    first, last = bounds
    spacing = (last - first) / (points - 1)
    grid = first + spacing * jnp.arange(points, dtype=first.dtype)

    def over_grid(x):
        return x[None] if x.ndim else x

    voxels = data.channels[0][0].ndim
    scores = explained(
        model,
        grid.reshape((points,) + (1,) * voxels),
        jax.tree.map(over_grid, data),
    )
    best, left, right = scores[0], scores[0], scores[0]
    at = jnp.zeros_like(best)
    for i in range(1, points):  # one fused loop; argmax and gather are ten times slower
        better = scores[i] > best
        right = jnp.where(better | (at == i - 1), scores[i], right)
        left = jnp.where(better, scores[i - 1], left)
        at = jnp.where(better, i, at)
        best = jnp.where(better, scores[i], best)
    bend = 2 * best - left - right
    inside = (at > 0) & (at < points - 1) & (bend > 0)
    shift = jnp.where(inside, (right - left) / (2 * jnp.where(inside, bend, 1)), 0)
    start = jnp.clip(first + spacing * (at + shift), first, last)
    # XLA would repeat the search for each limit of the steps from here.
    return jax.lax.optimization_barrier(start)


def log_linear_rate(data: Weighted, bounds: Bounds) -> Float[Array, "*N"]:
    """log R of a straight line through log |y|, for one decaying exponential.

    Weights w |y|^2, the inverse variance of log |y| at a high signal-to-noise ratio; a
    line that does not fall gives the lower bound. Cheap, but no global minimum: noise
    around zero bends it.

    Args:
        data: Of `prepare_samples`; samples of 0 or of weight 0 do not count, and fewer
            than two others give the lower bound.
        bounds: Smallest and largest log R, R in 1/s; the result lies between them.
    """
    channels = zip(*data.channels, strict=True)
    powers = [sum(y**2 for y in parts) for parts in channels]
    logs = [
        0.5 * jnp.log(jnp.where(p > 0, p * invert(r**2, r > 0), 1))
        for p, r in zip(powers, data.roots, strict=True)
    ]
    total = invert(sum(powers), sum(powers) > 0)
    ones = [jnp.ones_like(p) for p in powers]
    lines = []
    for line in (data.times, logs):
        mean = dot(powers, line) * total
        lines.append(add(line, -mean, ones))
    times, logs = lines
    spread = dot(powers, [t**2 for t in times])
    rate = -dot([p * t for p, t in zip(powers, times, strict=True)], logs)
    rate = rate * invert(spread, spread > 0)
    first, last = bounds
    return jnp.log(jnp.clip(rate, jnp.exp(first), jnp.exp(last)))


def refine_rate(
    model: SignalModel,
    data: Weighted,
    start: Float[Array, "*N"],
    bounds: Bounds,
    *,
    radius: Float[Array, ""],
    iterations: int,
) -> Float[Array, "*N"]:
    """Newton steps on log R, kept within `radius` of the start and inside the bounds.

    A step that would leave goes half the way to the limit instead. The number of steps
    is fixed: no voxel waits for another or depends on one.

    Args:
        model: As `signal_model` gives it.
        data: Of `prepare_samples`, finite in every voxel.
        start: log R to start from, between the bounds.
        bounds: Smallest and largest log R, R in 1/s.
        radius: The largest distance from the start, in log R, above 0.
        iterations: Newton steps; 0 returns the start.
    """
    low = jnp.maximum(start - radius, bounds[0])
    high = jnp.minimum(start + radius, bounds[1])

    def step(_, u):
        target = u + newton_move(model, u, data)
        target = jnp.where(target < low, (u + low) / 2, target)
        return jnp.where(target > high, (u + high) / 2, target)

    return jax.lax.fori_loop(0, iterations, step, start)
