"""Newton's method on log R, and the root that it finds as a function of the data."""

import operator
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.mri.model import SignalModel
from medjax.mri.varpro import (
    Weighted,
    back_substitute,
    combine,
    dot,
    gate,
    invert,
    orthogonalise,
    project,
    weighted_basis,
)

_FLAT = 1e-30  # a curvature of no curvature; samples are scaled to 1


def _gradient(
    model: SignalModel, log_rate: Float[Array, "*N"], data: Weighted
) -> tuple[Array, Array]:
    """Derivative of half the cost by log R, twice: for derivatives, and to the digit.

    With the residual r and the slope d = sum_k a_k W phi_k' it is -<d, r>: the
    derivative of the amplitudes drops out because r is orthogonal to the basis.
    """
    columns, slopes = weighted_basis(model, log_rate, data)
    basis = orthogonalise(columns)
    plain = exact = jnp.zeros_like(log_rate)
    for channel in data.channels:
        coefficients, residual = project(basis, channel)
        slope = combine(back_substitute(basis, coefficients), slopes)
        plain = plain - dot(slope, residual)
        # The same number: what of the slope lies in the basis meets only the
        # rounding errors of r, which would be the larger part of a flat minimum.
        exact = exact - dot(project(basis, slope)[1], residual)
    return plain, exact


def _gradient_and_curvature(
    model: SignalModel, log_rate: Float[Array, "*N"], data: Weighted
) -> tuple[Array, Array]:
    _, curvature, exact = jax.jvp(
        lambda u: _gradient(model, u, data),
        (log_rate,),
        (jnp.ones_like(log_rate),),
        has_aux=True,
    )
    return exact, curvature


def newton_move(
    model: SignalModel, log_rate: Float[Array, "*N"], data: Weighted
) -> Float[Array, "*N"]:
    """-g / c of half the cost; where it is not convex (c <= 0) huge, and downhill.

    c, the derivative of the gradient g by log R, is the exact curvature, so Newton's
    method converges quadratically at any noise, where Gauss-Newton is linear in it. The
    quotient is all that callers need; with more results XLA would repeat the sums.

    Args:
        model: As `signal_model` gives it.
        log_rate: log R, R in 1/s, finite.
        data: Of `prepare_samples`. Without a weight above 0 the move is 0.
    """
    exact, curvature = _gradient_and_curvature(model, log_rate, data)
    return -exact / jnp.maximum(curvature, _FLAT)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def implicit_root(
    model: SignalModel,  # noqa: ARG001
    found: Bool[Array, "*N"],  # noqa: ARG001
    root: Float[Array, "*N"],
    data: Weighted,  # noqa: ARG001
) -> Float[Array, "*N"]:
    """`root` as a function of the data, whatever has found it, for every derivative.

    Where g(u, data) = 0 holds for all data, du = -(dg / d data) d data / (dg / du), the
    implicit function theorem. The rule takes u for a function of the data once more, so
    it can be differentiated itself: second derivatives are right too. Where the
    curvature dg / du is rounding error (or negative: no minimum) the derivative is 0.

    Args:
        model: As `signal_model` gives it.
        found: Whether it is a root; elsewhere it has the derivative 0.
        root: log R, R in 1/s, where the gradient of the cost is 0 but for rounding; a
            derivative of its own is not looked at.
        data: Of `prepare_samples`.
    """
    return root


@implicit_root.defjvp
def _implicit_root_jvp(
    model: SignalModel,
    primals: tuple[Array, Array, Weighted],
    tangents: tuple[Any, Any, Any],
) -> tuple[Array, Array]:
    found, root, data = primals
    root = implicit_root(model, found, root, data)

    def gradient(data):
        return _gradient(model, gate(found, root), gate(found, data))[1]

    change = jax.jvp(gradient, (data,), tangents[2:])[1]
    u, data = gate(found, root), gate(found, data)
    curvature = _gradient_and_curvature(model, u, data)[1]
    size = reduce(operator.add, (dot(y, y) for y in data.channels))
    floor = (10 * jnp.finfo(root.dtype).eps) ** 2 * size
    inverse = invert(curvature, found & (curvature > floor))
    return root, -jnp.where(found, change, 0) * inverse
