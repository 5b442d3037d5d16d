"""Variable projection on one rate, elementwise over voxels.

For given R the best amplitudes a are a linear least-squares problem, so the weighted
cost |W (y - sum_k a_k phi_k(R))|^2 is a function of u = log R alone (Golub and Pereyra
1973). With orthogonal columns q_k of W phi_k it needs no linear solver: a model has one
or two amplitudes. The columns are made by modified Gram-Schmidt, whose triangular
factor is as good as Householder's; normal equations, which square the condition number,
are never formed.

Contrasts are lists, not an axis: everything is then elementwise over voxels, whatever
their shape, which XLA fuses into one vectorised loop without temporaries, and which
shards without communication. Complex data are two real channels that share the rate.
"""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.mri.model import SignalModel

Column = list[Array]  # E arrays, each a scalar or [*N]


class Weighted(NamedTuple):
    """Samples times the root of their weight, and what the basis is made from."""

    channels: list[Column]  # real, or real and imaginary part
    roots: Column  # root of the weight, 0 = not used
    times: Column


class Triangular(NamedTuple):
    """Columns = q r, q orthogonal, r unit upper triangular."""

    columns: list[Column]
    inverse: list[Array]  # 1 / |q_k|^2, and 0 for a column that takes no part
    upper: dict[tuple[int, int], Array]  # r[j, k], j < k


def dot(x: Column, y: Column) -> Array:
    """Sum over contrasts of x y, for every voxel; NaN in one contrast gives NaN.

    A column is a list of E arrays [*N]: one number for each contrast and voxel.
    """
    return reduce(operator.add, (a * b for a, b in zip(x, y, strict=True)))


def add(x: Column, factor: Array, y: Column) -> Column:
    """x + factor * y in every contrast.

    Args:
        x: A column: a list of E arrays [*N], one a contrast.
        factor: One number a voxel, [*N].
        y: A column of as many contrasts.
    """
    return [a + factor * b for a, b in zip(x, y, strict=True)]


def invert(x: Array, positive: Array) -> Array:
    """1 / x where `positive`, else 0.

    A quotient is not made twice by XLA, a select with all that it needs is: hence no
    `where` outside.

    Args:
        x: Read where `positive`; may be 0 or NaN elsewhere.
        positive: Bool, of the same shape.
    """
    return 1 / jnp.where(positive, x, jnp.inf)


@jax.custom_jvp
def square_root(x: Array) -> Array:
    """Square root whose derivatives at 0, of any order, are 0 and not infinite.

    A negative x, which rounding may leave, counts as 0, and 0 as the smallest normal
    number.
    """
    return jnp.sqrt(jnp.maximum(x, jnp.finfo(x.dtype).tiny))


@square_root.defjvp
def _square_root_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (change,) = primals, tangents
    root = square_root(x)
    return root, change * invert(2 * root, x > jnp.finfo(x.dtype).tiny)


def gate(passing: Bool[Array, "*N"], tree: Any) -> Any:  # noqa: ANN401
    """The same values, through which derivatives pass in some voxels only.

    Args:
        passing: Where they do; elsewhere the derivative is 0, whatever comes.
        tree: Arrays [*N], or scalars, which are repeated for each voxel.
    """
    if jax.sharding.get_abstract_mesh().explicit_axes:  # `where` wants one placing
        tree = jax.tree.map(lambda x: x + jnp.zeros_like(passing, x.dtype), tree)
    return jax.tree.map(lambda x: jnp.where(passing, x, jax.lax.stop_gradient(x)), tree)


def weighted_basis(
    model: SignalModel, log_rate: Float[Array, "*N"], data: Weighted
) -> tuple[list[Column], list[Column]]:
    """W phi_k and its derivative by log R, one column an amplitude.

    Args:
        model: As `signal_model` gives it.
        log_rate: log R, R in 1/s, finite.
        data: Its roots of weights and times are read, its samples are not; a root of 0
            makes its entries 0.
    """

    def at(contrast, time, root):
        constants = model.constants_of(contrast)

        def values(u):
            return model.basis(jnp.exp(u), time, *constants)

        value, slope = jax.jvp(values, (log_rate,), (jnp.ones_like(log_rate),))
        return [root * v for v in value], [root * s for s in slope]

    pairs = [at(e, *x) for e, x in enumerate(zip(data.times, data.roots, strict=True))]
    values, slopes = zip(*pairs, strict=True)
    return [list(x) for x in zip(*values, strict=True)], [
        list(x) for x in zip(*slopes, strict=True)
    ]


def orthogonalise(columns: Sequence[Column]) -> Triangular:
    """Modified Gram-Schmidt: columns = q r, voxel by voxel.

    Args:
        columns: One for each amplitude, from the first to be kept whole to the last;
            each a list of E arrays [*N]. One of which only rounding is left after those
            before it takes no part: its inverse square is 0.
    """
    done: list[Column] = []
    inverse, upper = [], {}
    for k, column in enumerate(columns):
        whole = dot(column, column)
        for j, q in enumerate(done):
            upper[j, k] = dot(q, column) * inverse[j]
            column = add(column, -upper[j, k], q)
        left = dot(column, column) if done else whole
        floor = (8 * jnp.finfo(whole.dtype).eps) ** 2 * whole
        inverse.append(invert(left, left > floor))
        done.append(column)
    return Triangular(done, inverse, upper)


def project(basis: Triangular, column: Column) -> tuple[list[Array], Column]:
    """Coefficients of a column on q, and what is left of it.

    Args:
        basis: Of `orthogonalise`; a column that takes no part has the coefficient 0.
        column: Weighted like the basis, one entry a contrast.
    """
    coefficients = []
    for q, inverse in zip(basis.columns, basis.inverse, strict=True):
        # Once for all contrasts: XLA would repeat the sum in what is left of each.
        coefficients.append(jax.lax.optimization_barrier(dot(q, column) * inverse))
        column = add(column, -coefficients[-1], q)
    return coefficients, column


def back_substitute(basis: Triangular, rhs: Sequence[Array]) -> list[Array]:
    """Solve r x = rhs, r unit upper triangular: nothing is divided.

    Args:
        basis: Holds r.
        rhs: One entry for each column of r.
    """
    x = list(rhs)
    for k in reversed(range(len(x))):
        for j in range(k):
            x[j] = x[j] - basis.upper[j, k] * x[k]
    return x


def combine(coefficients: Sequence[Array], columns: Sequence[Column]) -> Column:
    """sum_k coefficients[k] columns[k], as many of the one as of the other.

    Args:
        coefficients: Arrays [*N]: one number a voxel.
        columns: Lists of E arrays [*N], one a contrast.
    """
    return [dot(list(coefficients), list(row)) for row in zip(*columns, strict=True)]


def explained(
    model: SignalModel, log_rate: Float[Array, "*#N"], data: Weighted
) -> Float[Array, "*N"]:
    """Part of |W y|^2 that the basis explains: the cost is |W y|^2 minus this.

    Args:
        model: As `signal_model` gives it.
        log_rate: log R, R in 1/s; with one more leading axis than voxels, for a grid.
        data: Of `prepare_samples`; without a weight above 0 the result is 0.
    """
    basis = orthogonalise(weighted_basis(model, log_rate, data)[0])
    return reduce(
        operator.add,
        (
            dot(q, channel) ** 2 * inverse
            for channel in data.channels
            for q, inverse in zip(basis.columns, basis.inverse, strict=True)
        ),
    )


class Solution(NamedTuple):
    """Everything at one rate, for samples of unit noise."""

    amplitudes: list[list[Array]]  # [channel][k]
    residuals: list[Column]
    errors: list[tuple[list[list[Array]], Array]]  # columns of R^-1: (d a, d log R)
    determined: Array  # whether the samples determine log R


def solve(model: SignalModel, log_rate: Float[Array, "*N"], data: Weighted) -> Solution:
    """Amplitudes, residuals and the inverse triangular factor of the Jacobian.

    The Jacobian's columns are q_k in each channel and d = W sum_k a_k phi_k', of which
    the part orthogonal to q counts. Its covariance for unit noise is R^-1 R^-T: each
    column of R^-1 is a direction of the parameters with independent, unit errors.

    Args:
        model: As `signal_model` gives it.
        log_rate: log R, R in 1/s, finite, one a voxel.
        data: Of `prepare_samples`. Where the samples leave log R open (no decay, fewer
            weights above 0 than parameters), `determined` is False and the errors of
            the rate are 0 or without a meaning.
    """
    columns, slopes = weighted_basis(model, log_rate, data)
    basis = orthogonalise(columns)
    amplitudes, residuals, tilts = [], [], []
    energy = reference = jnp.zeros_like(log_rate)
    for channel in data.channels:
        coefficients, residual = project(basis, channel)
        amplitudes.append(back_substitute(basis, coefficients))
        residuals.append(residual)
        slope = combine(amplitudes[-1], slopes)
        tilt, left = project(basis, slope)
        tilts.append(tilt)
        energy = energy + dot(left, left)
        reference = reference + dot(slope, slope) + dot(channel, channel)
    # Below this the rate is rounding error: a constant fitted with an offset, say.
    floor = (10 * jnp.finfo(log_rate.dtype).eps) ** 2 * reference
    inverse = invert(energy, energy > floor)
    step = square_root(inverse)
    zero = jnp.zeros_like(log_rate)
    still = [[zero] * len(columns) for _ in data.channels]
    errors = []
    for c in range(len(data.channels)):
        for k, square in enumerate(basis.inverse):
            unit = [zero] * len(columns)
            unit[k] = square_root(square) + zero
            moved = [*still]
            moved[c] = back_substitute(basis, unit)
            errors.append((moved, zero))
    moved = [back_substitute(basis, [-step * t for t in tilt]) for tilt in tilts]
    errors.append((moved, step))
    return Solution(amplitudes, residuals, errors, inverse > 0)


def parameters_and_errors(
    model: SignalModel, log_rate: Float[Array, "*N"], solution: Solution
) -> tuple[list[Array], list[Array]]:
    """Values of the model's parameters and their sd for unit noise (delta method).

    The sd of a complex parameter is that of its modulus.

    Args:
        model: As `signal_model` gives it.
        log_rate: log R, R in 1/s; a time constant is its inverse, in seconds.
        solution: Of `solve` at that rate; amplitudes have the unit of its samples.
    """

    def join(channels):
        if len(channels) == 1:
            return tuple(channels[0])
        return tuple(jax.lax.complex(re, im) for re, im in zip(*channels, strict=True))

    def values(amplitudes, u):
        return model.to_parameters(amplitudes, jnp.exp(u))

    def real(amplitudes, u):
        return [jnp.abs(v) if jnp.iscomplexobj(v) else v for v in values(amplitudes, u)]

    point = (join(solution.amplitudes), log_rate)
    variances = [jnp.zeros_like(log_rate)] * len(model.parameters)
    for moved, step in solution.errors:
        change = jax.jvp(real, point, (join(moved), step))[1]
        variances = [v + x**2 for v, x in zip(variances, change, strict=True)]
    return list(values(*point)), [square_root(v) for v in variances]
