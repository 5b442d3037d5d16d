"""T2 and refocusing angle of an echo train: two rates, one amplitude a channel.

The amplitudes are eliminated as in `varpro`. What is left depends on u = log R2 and on
x = cos^2(a/2), in both of which the train is smooth; x is 0 at 180 degrees, a bound.
The best of a grid over both is refined by Gauss-Newton steps, which need first
derivatives alone; derivatives of the fit are those of a root of the gradient.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.mri.epg import angle_of, spacing_of, squared_cosine
from medjax.mri.epg_search import find_place
from medjax.mri.epg_steps import (
    WIDEST,
    Point,
    implicit_point,
    train_columns,
    train_curve,
    train_step,
)
from medjax.mri.fit_numbers import Numbers, inverse_spread, plain_square
from medjax.mri.model import SignalModel
from medjax.mri.samples import FitStatus, Samples
from medjax.mri.start import Bounds
from medjax.mri.varpro import (
    Weighted,
    back_substitute,
    dot,
    gate,
    invert,
    orthogonalise,
    project,
    square_root,
)

_MORE = 6  # Gauss-Newton steps beyond those of Newton's method


def fit_train(
    model: SignalModel,
    samples: Samples,
    angle: Float[Array, "*#N"] | None,
    limits: Bounds,
    *,
    points: int,
    iterations: int,
) -> tuple[Samples, Numbers, Array, Array]:
    """The fit of a model with a `train`.

    Args:
        model: Its `echoes` are one for each contrast.
        samples: Of `prepare_samples`.
        angle: The refocusing angle in radians where it is known; one that is not
            finite and above 0 makes its voxel INVALID. None fits it.
        limits: Smallest and largest log R, R in 1/s.
        points: Of the grid in log R, static.
        iterations: Of Newton's method, whose place six more of Gauss and Newton take.

    Returns:
        The samples with their status and degrees of freedom, numbers, status, and
        whether the angle has an error of its own: it is fitted and below 180 degrees.
    """
    good = spacing_of(samples.data.times, model.echoes)[1]
    data, given = samples.data, None
    shape = jnp.shape(data.channels[0][0])
    if angle is not None:
        angle = jnp.broadcast_to(angle, shape).astype(data.channels[0][0].dtype)
        good = good & (angle > 0) & (angle < jnp.inf)
        angle = jnp.where(good, angle, math.pi)
        given = squared_cosine(angle)
        samples = samples._replace(freedom=samples.freedom + 1)
    status = jnp.where(good, samples.status, FitStatus.INVALID)
    samples = samples._replace(status=status)
    fixed = jax.lax.stop_gradient((data, given))
    steps = iterations + _MORE
    u, x, *before = find_place(model, *fixed, limits, points=points, steps=steps)
    move, turn, _ = train_step(model, u, x, before, *fixed)
    slack = jnp.sqrt(jnp.finfo(u.dtype).eps)
    below = (u + move <= limits[0]) & (u <= limits[0] + slack)
    above = (u + move >= limits[1]) & (u >= limits[1] - slack)
    # The error after such a step is below its power 1.6, that of a secant.
    small = jnp.finfo(u.dtype).eps ** 0.4
    done = (jnp.abs(move) < small) & (jnp.abs(turn) < small)
    u, x = jnp.clip(u + move, *limits), x + turn
    inside = (u > limits[0]) & (u < limits[1])
    ended = (samples.status == 0) & (done | below | above)
    if given is None:
        free = (x > 0) & (x < WIDEST)
        above = above | (x >= WIDEST)
    else:
        free, x = jnp.zeros(shape, bool), given
    found, point = ended & inside, Point(u, x, free)
    if jax.__version_info__ < (0, 12):
        from medjax.mri.epg_moving import moving_point

        point = Point(*moving_point(model, found, point, data), free)
    root = implicit_point(model, found, point, data)
    u, x = root if given is None else (root[0], given)
    u, x = jax.lax.optimization_barrier((u, x))
    point = Point(gate(ended, u), gate(ended, x), free)
    numbers = _numbers(model, point, angle, gate(ended, data))
    status = jnp.where(done, FitStatus.CONVERGED, FitStatus.NOT_CONVERGED)
    status = jnp.where(below | above, FitStatus.AT_BOUND, status)
    status = jnp.where(numbers.determined, status, FitStatus.UNDETERMINED)
    exact = (status == FitStatus.CONVERGED) & (samples.freedom == 0)
    status = jnp.where(exact, FitStatus.EXACT, status)
    status = jnp.where(samples.status == 0, status, samples.status)
    return samples, numbers, status, free


def _numbers(
    model: SignalModel, point: Point, angle: Float[Array, "*N"] | None, data: Weighted
) -> Numbers:
    """Parameters and their sd for unit noise, and what is left of the samples."""
    u, x, _ = point
    curve = train_curve(model, u, x, data)
    basis, residuals, amplitudes = orthogonalise([curve]), [], []
    for channel in data.channels:
        (amplitude,), left = project(basis, channel)
        amplitudes.append(amplitude)
        residuals.append(left)
    whole = sum(dot(channel, channel) for channel in data.channels)
    size = square_root(sum(a**2 for a in amplitudes))
    errors, determined = train_errors(model, point, size, data, whole)
    found = amplitudes[0] if len(amplitudes) == 1 else jax.lax.complex(*amplitudes)
    values = [found, jnp.exp(-u), angle_of(x) if angle is None else angle]
    cost = square_root(sum(dot(left, left) for left in residuals))
    square, share = plain_square(data, residuals), inverse_spread(data)
    return Numbers(values, errors, cost, square, share, determined)


def train_errors(
    model: SignalModel,
    point: Point,
    size: Float[Array, "*N"],
    data: Weighted,
    whole: Float[Array, "*N"],
) -> tuple[list[Float[Array, "*N"]], Bool[Array, "*N"]]:
    """The sd of s0, T2 and angle for unit noise, and whether they are determined.

    From the inverse triangular factor of the Jacobian, as in `varpro.solve`. The sd of
    a complex amplitude is that of its modulus: its phase is independent of all else.

    Args:
        model: As in `fit_train`.
        point: u and x; where x is not free, or is 0, the sd of the angle is 0.
        size: Modulus of the amplitude.
        data: Its times and roots of weights are read.
        whole: Sum of squares of the weighted samples, whose rounding is no information.
    """
    u, x, free = point
    curve, by_u, by_x = train_columns(model, u, x, data)
    columns = orthogonalise([curve, by_u, [jnp.where(free, d, 0) for d in by_x]])
    variances = [jnp.zeros_like(u)] * 3
    for k, square in enumerate(columns.inverse):
        unit = [jnp.zeros_like(u)] * 3
        unit[k] = square_root(square)
        moved = back_substitute(columns, unit)
        variances = [v + m**2 for v, m in zip(variances, moved, strict=True)]
    sd, sd_u, sd_x = (square_root(v) for v in variances)
    rounding = (10 * jnp.finfo(u.dtype).eps) ** 2
    determined = size > 0
    for slope, inner, needed in (
        (by_u, columns.inverse[1], jnp.ones_like(free)),
        (by_x, columns.inverse[2], free),
    ):
        energy = size**2
        floor = rounding * (energy * dot(slope, slope) + whole) * inner
        determined = determined & (~needed | ((inner > 0) & (energy > floor)))
    inverse = invert(size, size > 0)
    inside = free & (x > 0)
    bend = square_root(jnp.where(inside, x * (1 - x), 1))
    angle = jnp.where(inside, sd_x * inverse / bend, 0)
    return [sd, jnp.exp(-u) * sd_u * inverse, angle], determined
