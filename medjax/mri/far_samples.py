"""Noise as k-space itself shows it, where there is next to no signal."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

_FAR = 1.15  # from the centre; an edge is 1 from it, a corner 1.41
_LAST = 0.97  # of the farthest sample, where none is as far as that


def far_noise(
    kspace: Complex[Array, "*B E C H W"], mask: Bool[Array, "*B E #H #W"]
) -> Float[Array, "*B"]:
    """Deviation of noise in either part of a sample, by the samples farthest out.

    sqrt(median |y|^2 / (2 log 2)) of all coils and contrasts. Signal that is left there
    makes it too large: by some per cent up to an SNR of 50, by half at 200.

    Args:
        kspace: y, its origin at [H // 2, W // 2], with white noise of one level in all
            coils.
        mask: Where it is sampled; without any sample the result is NaN.
    """
    rows, cols = (np.linspace(-1, 1, size) for size in kspace.shape[-2:])
    distance = jnp.asarray(np.hypot(rows[:, None], cols), jnp.real(kspace).dtype)
    distance = jnp.where(mask, distance, 0)
    last = jnp.max(distance, axis=(-3, -2, -1), keepdims=True)
    far = (distance > jnp.minimum(_FAR, _LAST * last))[..., :, None, :, :]
    power = jnp.real(kspace) ** 2 + jnp.imag(kspace) ** 2
    middle = jnp.nanmedian(jnp.where(far, power, jnp.nan), axis=(-4, -3, -2, -1))
    return jnp.sqrt(middle / (2 * math.log(2)))
