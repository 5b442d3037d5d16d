"""FISTA: accelerated proximal gradient descent with a step of 1."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from medjax.checks import check_arrays, check_integers
from medjax.mri.normal import carry_for
from medjax.types import Key


def fista(
    gradient_fn: Callable[[Array], Array],
    prox_fn: Callable[[Array, Key], Array],
    start: Inexact[Array, "*N"],
    key: Key,
    *,
    iterations: int,
) -> Inexact[Array, "*N"]:
    """Minimise f(x) + g(x), f smooth with a gradient of Lipschitz constant at most 1.

        x_k = prox_g(y_k - f'(y_k)),   k = 1, 2, .. iterations
        y_(k+1) = x_k + (t_k - 1) / t_(k+1) (x_k - x_(k-1)),
        t_(k+1) = (1 + sqrt(1 + 4 t_k^2)) / 2

    from x_0 = y_1 = `start` and t_1 = 1, so that x_1 is a plain step.

    Args:
        gradient_fn: x -> f'(x), of the shape and dtype of x, others are refused. That
            of |A x - y|^2 / 2 is A^H A x - A^H y; |A| <= 1 where sensitivities are
            normalised and the transform is orthonormal. A larger constant makes the
            iteration diverge, which is not checked.
        prox_fn: (x, key) -> prox_g(x), of the same shape and dtype, others are refused.
            It may draw a new grid from its key in every iteration, so that on average
            no position is preferred.
        start: x_0, real or complex, in the unit of the result; a NaN in it spreads as
            far as the two functions carry it.
        key: One key, typed or of `jax.random.PRNGKey`. x_k is made with
            fold_in(key, k - 1), the first one with fold_in(key, 0); do not use the key
            again.
        iterations: How many, at least 0; there is no other stop, and 0 returns `start`.
            Static.

    Returns:
        The last x_k, of the shape and dtype of `start`.

    Raises:
        ValueError: a start of integers, a function that returns another shape or dtype,
            several keys, iterations that are negative, no integer or traced.

    Source: Beck and Teboulle, SIAM J. Imaging Sci. 2 (2009), eq. 4.1 to 4.3.
    """
    check_arrays("fista", start=(start, "*N", (float, complex)))
    check_integers("fista", iterations=(iterations, 0, None))
    start = carry_for(lambda x: prox_fn(x - gradient_fn(x), key), jnp.asarray(start))

    def step(k, carry):
        x, y, t = carry
        gradient = gradient_fn(y)
        _check_like(y, gradient_fn=gradient)
        new = prox_fn(y - gradient, jax.random.fold_in(key, k))
        _check_like(y, prox_fn=new)
        t_next = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        momentum = ((t - 1) / t_next).astype(x.dtype)
        return new, new + momentum * (new - x), t_next

    carry = (start, start, jnp.ones((), jnp.float32))
    return jax.lax.fori_loop(0, iterations, step, carry)[0]


def _check_like(x: Array, **results: Array) -> None:
    """A result that would be broadcast or converted is another function's."""
    wanted = {name: (y, "*N", x.dtype) for name, y in results.items()}
    check_arrays("fista", start=(x, "*N", None), **wanted)
