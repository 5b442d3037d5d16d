"""The lost sign of magnitude inversion recovery."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from medjax.mri.model import SignalModel
from medjax.mri.start import Bounds, refine_rate, search_rate
from medjax.mri.varpro import Weighted, explained


def restore_sign(data: Weighted, negative: Int[Array, "*N"] | int) -> Weighted:
    """Negate the `negative` earliest contrasts; equal times go together.

    Args:
        data: Magnitudes: one channel, real, scaled and weighted by `prepare_samples`.
        negative: How many contrasts, 0 (none) to E, for all voxels or for each. Where
            contrasts share a time, one more or less changes nothing.
    """

    def earlier(time):
        return sum((other < time).astype(jnp.int32) for other in data.times)

    signs = [jnp.where(earlier(time) < negative, -1, 1) for time in data.times]
    (channel,) = data.channels
    signed = [s.astype(y.dtype) * y for s, y in zip(signs, channel, strict=True)]
    return data._replace(channels=[signed])


def search_polarity(
    model: SignalModel,
    data: Weighted,
    bounds: Bounds,
    *,
    points: int,
    radius: Float[Array, ""],
    iterations: int,
) -> tuple[Float[Array, "*N"], Int[Array, "*N"]]:
    """Fit every null index and keep the best: log R and how many samples are negative.

    The signal rises through zero once, so the negative samples are the earliest. Each
    candidate is refined before it is compared, which makes this the global minimum (the
    two samples next to the null are often ambiguous on a grid). All negative is the
    same curve as all positive with the sign of the amplitudes changed: no candidate.

    Args:
        model: One that crosses zero: t1_ir or t1_ir3.
        data: Magnitudes of `prepare_samples`, finite in every voxel.
        bounds: Smallest and largest log R, R in 1/s.
        points: Rates on the grid, at least 3.
        radius: How far, in log R, a step may lead away from the grid's best point.
        iterations: Newton steps of each candidate, at least 0.
    """
    channel = data.channels[0]

    def step(negative, best):
        signed = restore_sign(data, negative)
        u = search_rate(model, signed, bounds, points=points)
        u = refine_rate(model, signed, u, bounds, radius=radius, iterations=iterations)
        score = explained(model, u, signed)
        better = score > best[0]
        new = (score, u, jnp.full_like(best[2], negative))
        return tuple(jnp.where(better, x, y) for x, y in zip(new, best, strict=True))

    zero = jnp.zeros_like(channel[0])
    start = (zero - 1, zero, zero.astype(jnp.int32))
    _, u, negative = jax.lax.fori_loop(0, len(channel), step, start)
    return u, negative
