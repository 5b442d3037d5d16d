"""Mean and standard deviation of random images, without keeping the images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.checks import check_arrays
from medjax.types import Key


def monte_carlo_moments(
    draw: Callable[[Key], Float[Array, "*S"]], key: Key, *, passes: int, chunk: int
) -> tuple[Float[Array, "*S"], Float[Array, "*S"]]:
    """Mean and sample standard deviation (divided by passes - 1) of `passes` draws.

    `chunk` draws are computed at a time and merged into running moments by Chan's rule,
    so memory holds `chunk` results however many passes there are:

        n = n_a + n_b,   d = mean_b - mean_a
        mean = mean_a + d n_b / n
        M2 = M2_a + M2_b + d^2 n_a n_b / n

    Args:
        draw: A pure function of its key, such as a pass with dropout; it returns a real
            array, whose shape, dtype and unit both results have.
        key: Draw i gets fold_in(key, i), so that `chunk` changes no draw; do not use
            the key again.
        passes: How many draws, at least 2. The standard error of the mean is the
            standard deviation / sqrt(passes), that of the deviation about itself /
            sqrt(2 passes).
        chunk: How many draws to compute and hold in memory at a time; divides `passes`.
            It changes time and memory, results only by rounding.

    Returns:
        Mean and deviation of every element; NaN where one draw is not finite.

    Raises:
        ValueError: fewer than 2 passes, a chunk that does not divide them, or draws
            that are complex or integers.
    """
    if passes < 2 or chunk < 1 or passes % chunk:
        raise ValueError(
            f"passes={passes}, chunk={chunk}: expected at least 2 passes and a chunk "
            "that divides them"
        )

    def add(carry, first):
        mean, m2 = carry
        indices = first + jnp.arange(chunk, dtype=jnp.int32)
        drawn = jax.vmap(lambda i: draw(jax.random.fold_in(key, i)))(indices)
        mean_b = drawn.mean(0)
        m2_b = jnp.square(drawn - mean_b[None]).sum(0)
        done = first.astype(mean.dtype)
        share = chunk / (done + chunk)
        shift = mean_b - mean
        return (mean + shift * share, m2 + m2_b + jnp.square(shift) * done * share), ()

    shape = jax.eval_shape(draw, key)
    check_arrays("monte_carlo_moments", draw=(shape, "*S", float))
    zero = jnp.zeros(shape.shape, shape.dtype)
    starts = jnp.arange(0, passes, chunk, dtype=jnp.int32)
    (mean, m2), _ = jax.lax.scan(add, (zero, zero), starts)
    return mean, jnp.sqrt(m2 / (passes - 1))
