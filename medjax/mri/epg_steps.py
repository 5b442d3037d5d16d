"""Steps to the least cost of an echo train, and the root as a function of the data."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.mri.epg import echo_train, spacing_of
from medjax.mri.model import SignalModel
from medjax.mri.varpro import (
    Column,
    Weighted,
    dot,
    gate,
    invert,
    orthogonalise,
    project,
)

WIDEST = math.cos(math.radians(30)) ** 2  # x of the smallest angle, 60 degrees
_WRITTEN = 8  # echoes of a kernel without a loop: more take minutes to compile


class Point(NamedTuple):
    """Where the fit of a voxel is."""

    log_rate: Float[Array, "*N"]
    x: Float[Array, "*N"]
    free: Bool[Array, "*N"]  # whether x is fitted, and inside its bounds


def train_curve(
    model: SignalModel, u: Array, x: Array, data: Weighted, *, rolled: bool = True
) -> Column:
    """W S of amplitude 1.

    Args:
        model: One with a train and with its `echoes`.
        u: log R, R in 1/s; voxels, or whatever broadcasts with them.
        x: cos^2(a/2).
        data: Its times and roots of weights are read.
        rolled: Whether the pulses are a loop, as they are of many echoes in any case.
    """
    spacing = spacing_of(data.times, model.echoes)[0]
    rolled = rolled or max(model.echoes) > _WRITTEN
    echoes = echo_train(
        jnp.exp(u), x, spacing, max(model.echoes), *model.constants, rolled=rolled
    )
    pairs = zip(model.echoes, data.roots, strict=True)
    return [root * echoes[n - 1] for n, root in pairs]


def train_columns(
    model: SignalModel, u: Array, x: Array, data: Weighted, *, rolled: bool = True
) -> tuple[Column, Column, Column]:
    """W S of amplitude 1, and its derivatives by u and by x.

    Args:
        model: As in `train_curve`, like all others.
        u: log R.
        x: cos^2(a/2).
        data: Its times and roots of weights are read.
        rolled: Whether the pulses are a loop.
    """
    make = partial(train_curve, model, data=data, rolled=rolled)
    one = jnp.ones_like(u)
    curve, by_u = jax.jvp(lambda u: make(u, x), (u,), (one,))
    return curve, by_u, jax.jvp(lambda x: make(u, x), (x,), (one,))[1]


def train_step(
    model: SignalModel,
    u: Float[Array, "*N"],
    x: Float[Array, "*N"],
    before: list[Array],
    data: Weighted,
    given: Float[Array, "*N"] | None,
) -> tuple[Float[Array, "*N"], Float[Array, "*N"], Float[Array, "*N"]]:
    """A Gauss-Newton step in u and x that keeps x within its bounds.

    The step in x is that of both together, by a secant through the one before (alone it
    would swing to and fro for ever where the residual is large), and cut at the bound;
    the one in u is the best for it.

    Args:
        model: One with a train and with its `echoes`.
        u: log R.
        x: cos^2(a/2).
        before: x before this one, and the third result there; x itself and 0 at first.
        data: Of `prepare_samples`.
        given: x where it is known.

    Returns:
        The steps in u and in x, and that of Gauss and Newton in x.
    """
    curve, by_u, by_x = train_columns(model, u, x, data, rolled=False)
    inverse = invert(size := dot(curve, curve), size > 0)
    tilt_u, tilt_x = dot(curve, by_u) * inverse, dot(curve, by_x) * inverse
    uu = dot(by_u, by_u) - size * tilt_u**2
    ux = dot(by_u, by_x) - size * tilt_u * tilt_x
    xx = dot(by_x, by_x) - size * tilt_x**2
    energy = down_u = down_x = jnp.zeros_like(u)
    for channel in data.channels:
        amplitude = dot(curve, channel) * inverse
        energy = energy + amplitude**2
        down_u = down_u + amplitude * (dot(by_u, channel) - size * tilt_u * amplitude)
        down_x = down_x + amplitude * (dot(by_x, channel) - size * tilt_x * amplitude)
    scale = invert(energy, energy > 0)
    floor = 8 * jnp.finfo(u.dtype).eps
    steep = invert(uu, uu > floor * dot(by_u, by_u))
    if given is not None:
        return scale * steep * down_u, jnp.zeros_like(u), jnp.zeros_like(u)
    left = xx - ux**2 * steep
    plain = scale * (down_x - ux * steep * down_u) * invert(left, left > floor * xx)
    way = x - before[0]  # 1 = (turn before - turn) / way for a parabola
    bend = (before[1] - plain) * invert(way, jnp.abs(way) > floor)
    turn = plain / jnp.where(bend == 0, 1, jnp.clip(bend, 0.5, 4))
    turn = jnp.clip(x + turn, 0, WIDEST) - x
    return steep * (scale * down_u - ux * turn), turn, plain


def train_gradient(
    model: SignalModel, u: Array, x: Array, data: Weighted
) -> tuple[Array, Array]:
    """Of half the cost, by u and by x: -<a W S', r>.

    Args:
        model: One with a train and with its `echoes`.
        u: log R, R in 1/s.
        x: cos^2(a/2).
        data: Of `prepare_samples`.
    """
    curve, by_u, by_x = train_columns(model, u, x, data)
    basis = orthogonalise([curve])
    gradient_u = gradient_x = jnp.zeros_like(u)
    for channel in data.channels:
        (amplitude,), left = project(basis, channel)
        gradient_u = gradient_u - amplitude * dot(by_u, left)
        gradient_x = gradient_x - amplitude * dot(by_x, left)
    return gradient_u, gradient_x


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def implicit_point(
    model: SignalModel,  # noqa: ARG001
    found: Bool[Array, "*N"],  # noqa: ARG001
    point: Point,
    data: Weighted,  # noqa: ARG001
) -> tuple[Float[Array, "*N"], Float[Array, "*N"]]:
    """u and x as functions of the data and of an x that is given.

    Where the gradient is 0 for all data, the derivatives solve H (du, dx) = -dg with
    the exact second derivatives H; where x is not free, H_uu du = -dg_u - H_ux dx.

    Args:
        model: One with a train and with its `echoes`.
        found: Whether the gradient is 0 there; elsewhere the derivatives are 0.
        point: Of the voxels; a derivative of u, and of an x that is free, is not
            looked at.
        data: Of `prepare_samples`.
    """
    return point.log_rate, point.x


@implicit_point.defjvp
def _implicit_point_jvp(
    model: SignalModel,
    primals: tuple[Array, Point, Weighted],
    tangents: tuple[Any, Point, Any],
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    found, point, data = primals
    u, x = implicit_point(model, found, point, data)

    def by_data(data: Weighted) -> tuple[Array, Array]:
        return train_gradient(model, gate(found, u), gate(found, x), gate(found, data))

    change = jax.jvp(by_data, (data,), (tangents[2],))[1]
    point = Point(u, x, point.free)
    return (u, x), implicit_move(model, found, point, data, change, tangents[1].x)


def implicit_move(
    model: SignalModel,
    found: Bool[Array, "*N"],
    point: Point,
    data: Weighted,
    change: tuple[Array, Array],
    given: Float[Array, "*N"],
) -> tuple[Array, Array]:
    """(du, dx) with H (du, dx) = -change, or with dx = `given` where x is not free.

    Args:
        model: One with a train and with its `echoes`.
        found: Of `implicit_point`, like the next two.
        point: Where the second derivatives H are taken.
        data: Of `prepare_samples`.
        change: Of the gradient of half the cost, by u and by x.
        given: Of x where it is not free.
    """
    u, x, free = point

    def at(u: Array, x: Array) -> tuple[Array, Array]:
        return train_gradient(model, u, x, gate(found, data))

    one, zero = jnp.ones_like(u), jnp.zeros_like(u)
    here = (gate(found, u), gate(found, x))
    uu, ux = jax.jvp(at, here, (one, zero))[1]
    xx = jax.jvp(at, here, (zero, one))[1][1]
    size = sum(dot(y, y) for y in data.channels)
    floor = (10 * jnp.finfo(u.dtype).eps) ** 2 * size
    steep = invert(uu, found & (uu > floor))
    left = xx - ux**2 * steep
    turn = -(change[1] - ux * steep * change[0])
    turn = turn * invert(left, found & (left > floor))
    turn = jnp.where(free, turn, jnp.where(found, given, 0))
    return -steep * (jnp.where(found, change[0], 0) + ux * turn), turn
