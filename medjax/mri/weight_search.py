"""The weight at which a misfit is least, by as few evaluations as a bracket takes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.mri.normal import carry_for


class HeldOutWeight(NamedTuple):
    """The weight of each slice, and how it was found."""

    weight: Float[Array, "*B"]  # where the parabola through the least misfit is least
    interior: Bool[Array, "*B"]  # whether weights on both sides of it predict worse
    weights: Float[Array, "L *B"]  # that were tried last
    misfit: Float[Array, "L *B"]  # of each, see `held_out_misfit`


def least_misfit(
    misfit_fn: Callable[[Array], Float[Array, "*B"]],
    weights: Float[Array, "L *B"],
    *,
    extensions: int,
) -> HeldOutWeight:
    """The weight of each slice with the least misfit, all weights tried one by one.

    Where the least stands at an end, the next weight beyond that end is tried and the
    one at the other end forgotten, until all slices have their least between two
    others.

    Args:
        misfit_fn: From a weight of each slice to its misfit; one that is not finite
            counts as the largest.
        weights: At least 3, ascending, evenly spaced in their logarithm.
        extensions: How often L - 2 more may be tried, at least 0. Static.
    """
    count = weights.shape[0]
    most = count + extensions * (count - 2)
    places = jnp.arange(count, dtype=jnp.int32)
    places = places.reshape(-1, *(1,) * (weights.ndim - 1))

    def unfinished(carry):
        _, misfits, tried = carry
        return (tried < count) | ((tried < most) & jnp.any(_end(misfits) != 0))

    def try_one(carry):
        # The first weights are trials of this loop, too, so that what makes a misfit is
        # compiled once.
        weights, misfits, tried = carry
        first = tried < count
        end = jnp.where(first, 0, _end(misfits))
        factor = (weights[1] / weights[0]) ** end.astype(weights.dtype)
        moved = weights * factor[None]
        up = jnp.roll(misfits, -1, 0)
        down = jnp.roll(misfits, 1, 0)
        kept = jnp.where((end > 0)[None], up, jnp.where((end < 0)[None], down, misfits))
        last = jnp.where(end > 0, jnp.int32(count - 1), jnp.int32(0))
        place = jnp.where(first, tried, last)
        here = places == place[None]
        new = misfit_fn(jnp.sum(jnp.where(here, moved, 0), axis=0))
        new = jnp.where(jnp.isfinite(new), new, jnp.inf).astype(weights.dtype)
        changed = here & (first | (end != 0))[None]
        return moved, jnp.where(changed, new[None], kept), tried + 1

    weights = carry_for(lambda w: w + misfit_fn(w[0])[None].astype(w.dtype), weights)
    carry = (weights, jnp.full_like(weights, jnp.inf), jnp.zeros((), jnp.int32))
    weights, misfits, _ = jax.lax.while_loop(unfinished, try_one, carry)
    interior = (_end(misfits) == 0) & jnp.isfinite(jnp.min(misfits, axis=0))
    return HeldOutWeight(_vertex(weights, misfits), interior, weights, misfits)


def _vertex(
    weights: Float[Array, "L *B"], misfits: Float[Array, "L *B"]
) -> Float[Array, "*B"]:
    """Of the parabola over log weight through the least misfit and its neighbours."""
    least = jnp.argmin(misfits, axis=0)
    middle = jnp.clip(least, 1, misfits.shape[0] - 2)

    def at(x, index):
        return jnp.take_along_axis(x, index[None], axis=0)[0]

    low, mid, high = (at(misfits, middle + i) for i in (-1, 0, 1))
    step = jnp.log(at(weights, middle + 1) / at(weights, middle))
    curvature = low - 2 * mid + high
    bent = jnp.isfinite(curvature) & (curvature > 0) & (least == middle)
    offset = jnp.where(bent, (low - high) / (2 * jnp.where(bent, curvature, 1)), 0)
    weight = at(weights, least) * jnp.exp(offset * step)
    return jnp.where(jnp.isfinite(at(misfits, least)), weight, jnp.nan)


def _end(misfits: Float[Array, "L *B"]) -> Array:
    """-1 or 1 where the least misfit stands at the first or last weight, else 0."""
    least = jnp.argmin(misfits, axis=0)
    known = jnp.isfinite(jnp.min(misfits, axis=0))
    end = jnp.where(least == 0, -1, jnp.where(least == misfits.shape[0] - 1, 1, 0))
    return jnp.where(known, end, 0).astype(jnp.int32)
