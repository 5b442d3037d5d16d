"""Conjugate gradients for many problems at once, each with its own scalars."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int

from medjax.checks import check_arrays, check_integers, check_ranges, check_static
from medjax.mri.normal import carry_for
from medjax.mri.partition import distinct_axes


class CgInfo(NamedTuple):
    """What became of each problem; *P are the axes that number the problems."""

    residual: Float[Array, "*P"]  # |b - A x| / |b| by the recurrence; 0 where b = 0
    iterations: Int[Array, "*P"]  # steps that changed x


def conjugate_gradient(
    normal_fn: Callable[[Array], Array],
    rhs: Inexact[Array, "*N"],
    *,
    iterations: int,
    tolerance: float = 0.0,
    x0: Inexact[Array, "*N"] | None = None,
    axes: tuple[int, ...] = (-3, -2, -1),
) -> tuple[Inexact[Array, "*N"], CgInfo]:
    """Solve A x = b for every problem of a batch; A Hermitian, positive (semi)definite.

    A fixed number of steps, so that a batch that is sharded needs no communication; a
    problem that has converged no longer changes, and one step more than it needs never
    divides by 0. Inner products are float32 at least. A NaN in `rhs` or `x0` makes its
    own problem NaN and no other. That A is Hermitian is not checked: the result would
    be wrong in silence. Where A is singular b has to lie in its range: then the result
    is a solution, otherwise it means nothing.

    Differentiable in `rhs` and in what `normal_fn` closes over, in both modes: the
    derivative is that of the exact solution, dx = A^-1 (db - dA x), by as many steps
    again, whatever the number of steps was (as MoDL: Aggarwal et al., IEEE TMI 2019).
    Memory does not grow with `iterations`. The derivative by `x0` is 0, as the exact
    solution does not depend on it.

    Args:
        normal_fn: x -> A x, of the shape and dtype of x, others are refused. Linear,
            and no problem of the batch may depend on another.
        rhs: The right-hand sides b, real or complex, in any unit. Without an `x0` a
            problem whose b is 0 takes no step and is 0.
        iterations: The largest number of steps, at least 0; 0 returns the start.
            Static.
        tolerance: A problem stops at |b - A x| <= tolerance |b - A x0|. It is relative,
            so without a unit, and at least 0. Below the rounding error of the inner
            products (1.2e-7 in float32) it counts as that; 1 or more stops at once.
            Static.
        x0: Where to start, of the shape and dtype of `rhs`; None = 0.
        axes: The axes of `rhs` that belong to one problem, by default the last three,
            counted from either end; the other ones number the problems. () makes every
            number a problem. Static.

    Returns:
        The solution, of the shape and dtype of `rhs`, and `CgInfo`: for every problem
        how far it came, of the shape of the other axes. Too few steps give the best x
        so far, not an error: see `residual`.

    Raises:
        ValueError: an `x0` or an A x of another shape or dtype than `rhs`, integers,
            axes that `rhs` does not have or that are named twice, iterations or a
            tolerance below 0 or traced.

    Source: Hestenes and Stiefel (1952).
    """
    rhs = jnp.asarray(rhs)
    x0 = None if x0 is None else jnp.asarray(x0)
    check_arrays(
        "conjugate_gradient",
        rhs=(rhs, "*N", (float, complex)),
        x0=(x0, "*N", rhs.dtype),
    )
    check_integers("conjugate_gradient", iterations=(iterations, 0, None))
    check_static("conjugate_gradient", tolerance=tolerance)
    check_ranges("conjugate_gradient", tolerance=(tolerance, 0, math.inf))
    if not distinct_axes(axes, rhs.ndim):
        raise ValueError(
            f"conjugate_gradient: axes: expected different ones of the {rhs.ndim} axes "
            f"of rhs {rhs.shape}; found {axes}"
        )

    def checked(x: Array) -> Array:
        image = normal_fn(x)
        check_arrays(
            "conjugate_gradient",
            rhs=(x, "*N", None),
            normal_fn=(image, "*N", x.dtype),
        )
        return image

    rhs = carry_for(checked, rhs)
    start = jnp.zeros_like(rhs) if x0 is None else jax.lax.stop_gradient(x0)
    # The correction to x0 is solved for: tangents have to be linear in the residual.
    residual = rhs if x0 is None else rhs - checked(start)
    solve = functools.partial(
        _solve, iterations=iterations, tolerance=tolerance, axes=axes
    )
    # The transpose of a complex Hermitian A is conj(A): positive definite, another A.
    correction, (power, steps) = jax.lax.custom_linear_solve(
        checked,
        residual,
        solve,
        solve,
        symmetric=not jnp.iscomplexobj(rhs),
        has_aux=True,
    )
    scale = jax.lax.stop_gradient(_dot(rhs, rhs, axes))
    info = CgInfo(
        residual=jnp.sqrt(jnp.squeeze(_ratio(power, scale), axes)),
        iterations=jnp.squeeze(steps, axes),
    )
    return start + correction, info


def _solve(
    normal_fn: Callable[[Array], Array],
    rhs: Array,
    *,
    iterations: int,
    tolerance: float,
    axes: tuple[int, ...],
) -> tuple[Array, tuple[Array, Array]]:
    """(x, (|r|^2, steps)) from x = 0."""
    power = _dot(rhs, rhs, axes)
    epsilon = float(jnp.finfo(power.dtype).eps)
    enough = power * max(tolerance, epsilon) ** 2

    def step(_, carry):
        x, r, p, power, steps = carry
        ap = normal_fn(p)
        curvature = _dot(p, ap, axes)
        # ~(a <= b), not a > b: NaN goes on, and reaches the solution. Curvature that
        # rounding made 0 or negative changes nothing and starts again from r.
        active = ~((power <= enough) | (curvature <= 0))
        alpha = jnp.where(active, _ratio(power, curvature), 0)
        x = x + alpha.astype(x.dtype) * p
        r = r - alpha.astype(x.dtype) * ap
        new_power = _dot(r, r, axes)
        beta = jnp.where(active, _ratio(new_power, power), 0)
        p = r + beta.astype(x.dtype) * p
        return x, r, p, new_power, steps + active.astype(jnp.int32)

    zero = jnp.zeros_like(rhs)
    carry = (zero, rhs, rhs, power, jnp.zeros_like(power, jnp.int32))
    x, _, _, power, steps = jax.lax.fori_loop(0, iterations, step, carry)
    return x, (power, steps)


def _dot(a: Array, b: Array, axes: tuple[int, ...]) -> Float[Array, "..."]:
    """Re sum conj(a) b over `axes`, which are kept; float32 at least."""
    if jnp.iscomplexobj(a):
        product = jnp.real(a) * jnp.real(b) + jnp.imag(a) * jnp.imag(b)
    else:
        product = a * b
    if product.dtype != jnp.float64:
        product = product.astype(jnp.float32)
    return jnp.sum(product, axis=axes, keepdims=True)


def _ratio(a: Array, b: Array) -> Array:
    """a / b, 0 where b = 0."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))
