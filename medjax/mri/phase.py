"""The smooth phase of an object, taken from the centre of k-space."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from medjax.mri.sense import sense_adjoint


def absorb_phase(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    *,
    calibration: tuple[int, int],
    contrast: int,
) -> Complex[Array, "*B C H W"]:
    """S_c exp(i phase): sensitivities with which the images are real.

    The phase is that of one contrast's low-resolution image, from the centre of k-space
    under a Hann window. It makes that contrast positive, and the other ones real where
    all have one phase, as in prepared acquisitions with one readout. A map of it has no
    meaning where there is no signal, and does no harm there.

    Args:
        kspace: the centre is read.
        sens: normalised; their own phase does not matter.
        calibration: (h, w) of the centre block, fully sampled in `contrast`.
        contrast: index of one that is positive everywhere: the shortest echo time, the
            longest inversion time.
    """
    window = 1.0
    for axis, length in zip((-2, -1), calibration, strict=True):
        size = kspace.shape[axis]
        taper = np.zeros(size)
        start = size // 2 - length // 2
        taper[start : start + length] = np.hanning(length + 2)[1:-1]
        window = window * np.expand_dims(taper, -3 - axis)
    one = kspace[..., contrast : contrast + 1, :, :, :]
    window = np.expand_dims(window, tuple(range(one.ndim - 2)))
    low = sense_adjoint(one * jnp.asarray(window, one.dtype), sens)
    size = jnp.abs(low)
    some = size > 0
    turn = jnp.where(some, low, 1) / jnp.where(some, size, 1).astype(low.dtype)
    return sens * turn
