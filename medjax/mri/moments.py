"""Mean and standard deviation of random images, without keeping the images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from medjax.checks import check_arrays, check_integers, check_key
from medjax.types import Key


def monte_carlo_moments(
    draw: Callable[[Key], Inexact[Array, "*S"]], key: Key, *, passes: int, chunk: int
) -> tuple[Inexact[Array, "*S"], Float[Array, "*S"]]:
    """Mean and sample standard deviation (divided by passes - 1) of `passes` draws.

    `chunk` draws are computed at a time and merged into running moments by Chan's rule,
    so memory holds `chunk` results however many passes there are:

        n = n_a + n_b,   d = mean_b - mean_a
        mean = mean_a + d n_b / n
        M2 = M2_a + M2_b + |d|^2 n_a n_b / n

    Args:
        draw: A pure function of its key, such as a pass with dropout. It returns one
            real or complex array of any shape and unit. It may close over arrays that
            are traced, sharded or mapped by `shard_map`.
        key: One typed key (`jax.random.key`). Draw i = 0, 1, .. gets fold_in(key, i),
            so that `chunk` changes no draw; do not use the key again.
        passes: How many draws, a static integer of at least 2. The standard error of
            the mean is the standard deviation / sqrt(passes). For normal draws the
            standard error of the deviation is the deviation / sqrt(2 passes), nearly.
        chunk: How many draws to compute and hold in memory at a time, a static integer
            of at least 1 that divides `passes`. It changes time and memory, and
            results only by rounding.

    Returns:
        The mean and the deviation of every element, in the shape and the unit of a
        draw. The mean has the dtype of a draw, but draws of half precision are counted
        and returned as float32. The deviation is real: that of complex draws is
        sqrt(sum_i |x_i - mean|^2 / (passes - 1)), over both parts together. Where one
        draw is not finite, the mean is not finite and the deviation is NaN.

    Raises:
        ValueError: fewer than 2 passes, a chunk that does not divide them, one of the
            two traced, an old key or several keys, or draws that are not one array or
            hold integers.
    """
    check_key("monte_carlo_moments", key=key)
    check_integers(
        "monte_carlo_moments", passes=(passes, 2, None), chunk=(chunk, 1, None)
    )
    if passes % chunk:
        raise ValueError(
            f"monte_carlo_moments: chunk: expected a divisor of passes = {passes}, "
            f"found {chunk}"
        )

    def add(carry, first):
        mean, m2 = carry
        indices = first + jnp.arange(chunk, dtype=jnp.int32)
        drawn = jax.vmap(lambda i: draw(jax.random.fold_in(key, i)))(indices)
        drawn = drawn.astype(mean.dtype)
        mean_b = drawn.mean(0)
        m2_b = _square(drawn - mean_b[None]).sum(0)
        done = first.astype(m2.dtype)
        share = chunk / (done + chunk)
        shift = mean_b - mean
        mean = mean + shift * share.astype(shift.dtype)
        return (mean, m2 + m2_b + _square(shift) * done * share), ()

    drawn = jax.eval_shape(draw, key)
    check_arrays("monte_carlo_moments", draw=(drawn, "*S", (float, complex)))
    zero = zero_moment(drawn)
    starts = jnp.arange(0, passes, chunk, dtype=jnp.int32)
    (mean, m2), _ = jax.lax.scan(add, (zero, jnp.real(zero)), starts)
    return mean, jnp.sqrt(m2 / (passes - 1))


def zero_moment(image: jax.ShapeDtypeStruct) -> Inexact[Array, "*S"]:
    """What a running mean starts from: it lies on devices as the image will.

    Made from the image's description, because zeros made from its shape alone are held
    whole by every device, and no loop may change that. Half precision has too few
    digits to count with.
    """
    zero = jnp.zeros_like(image)
    return zero if jnp.finfo(image.dtype).bits > 16 else zero.astype(jnp.float32)


def _square(x: Inexact[Array, "*S"]) -> Float[Array, "*S"]:
    """|x|^2."""
    if jnp.iscomplexobj(x):
        return jnp.square(jnp.real(x)) + jnp.square(jnp.imag(x))
    return jnp.square(x)
