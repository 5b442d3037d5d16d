"""Accelerated proximal gradient descent on a quadratic, for an inexact proximal map."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from medjax.mri.normal import NormalEquations

State = TypeVar("State")  # any tree of arrays


def restarted_fista(
    problem: NormalEquations,
    prox_fn: Callable[[Array, State], tuple[Array, State]],
    penalty_fn: Callable[[Array], Float[Array, "*B 1 1 1"]],
    largest: Float[Array, "*B 1 1 1"],
    start: Inexact[Array, "*B E H W"],
    state: State,
    *,
    iterations: int,
) -> Inexact[Array, "*B E H W"]:
    """Minimise <x, N x> / 2 - Re <x, b> + g(x), N and b those of the normal equations.

    As `fista` with a step of 1 / largest, but with a momentum that starts again from 0
    in each slice whose objective rose by more than rounding: near the least objective
    rounding alone makes it rise, and a momentum that always starts again is none.
    Without it a proximal map of a few steps lags behind the momentum for good: with
    large weights the iteration then ends 10 % above the least objective, whatever the
    number of steps.

    N x of the last two iterates is kept, so that N y of the point between them and the
    objective cost no product beyond one an iteration.

    Args:
        problem: N, linear, and b.
        prox_fn: (x, state) -> an approximation of prox_(g / largest)(x), and the state
            from which the next call goes on.
        penalty_fn: x -> g(x) of each slice.
        largest: At least the largest eigenvalue of N.
        start: x_0, of which loops may start on any mesh (`carry_for`).
        state: What the first call gets.
        iterations: At least 0. Static.

    Source: O'Donoghue and Candes, Found. Comput. Math. 15 (2015), the function scheme.
    """

    def objective(x, normal):
        product = jnp.real(jnp.conj(x) * (normal / 2 - problem.adjoint))
        return jnp.sum(product, axis=(-3, -2, -1), keepdims=True) + penalty_fn(x)

    def step(_, carry):
        x, normal, y, normal_y, t, value, state = carry
        gradient = (normal_y - problem.adjoint) / largest.astype(y.dtype)
        new, state = prox_fn(y - gradient, state)
        new_normal = problem.normal_fn(new)
        new_value = objective(new, new_normal)
        rose = new_value - value > rounding * jnp.abs(value)
        t_next = jnp.where(rose, 1, (1 + jnp.sqrt(1 + 4 * t**2)) / 2)
        momentum = jnp.where(rose, 0, (t - 1) / t_next).astype(y.dtype)
        y = new + momentum * (new - x)
        normal_y = new_normal + momentum * (new_normal - normal)
        return new, new_normal, y, normal_y, t_next, new_value, state

    rounding = 8 * float(jnp.finfo(start.dtype).eps)
    normal = problem.normal_fn(start)
    value = objective(start, normal)
    carry = (start, normal, start, normal, jnp.ones_like(value), value, state)
    return jax.lax.fori_loop(0, iterations, step, carry)[0]
