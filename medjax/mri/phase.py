"""The smooth phase that images of one scan share, from the centre of k-space."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from medjax.checks import check_arrays
from medjax.mri.sense import sense_adjoint


def smooth_phase(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    *,
    width: int,
    contrast: int | None = None,
) -> Float[Array, "*B 1 H W"]:
    """Phase of the low-resolution image, rad, for `constraint="phase"`.

        phase = arg A^H (h y), summed over contrasts; h a Hann window over k-space

    Args:
        kspace: Centred, in any unit; its middle `width` rows and columns must be fully
            sampled, which is not checked.
        sens: sum_c |S_c|^2 = 1; their own phase is not part of the result, and where
            they are 0 the phase is 0.
        width: Width of the window in points of k-space, at least 1: the fewer, the
            smoother. Wider than the image, it only tapers.
        contrast: The index of one contrast, to take it alone. Signs of inversion
            recovery differ between contrasts: the longest inversion time, where all
            signals have recovered, leaves the others signed. None = the sum, for
            signals of one sign.

    Returns:
        The phase in rad, -pi to pi.

    Raises:
        ValueError: shapes that do not fit each other.

    Phases that differ between contrasts (gradient echoes, T2*) need another model.
    Source: homodyne detection, Noll, Nishimura and Macovski, IEEE TMI 10 (1991).
    """
    check_arrays(
        "smooth_phase",
        kspace=(kspace, "*B E C H W", complex),
        sens=(sens, "*B C H W", complex),
    )
    rows, cols = (_hann(size, width, kspace.dtype) for size in kspace.shape[-2:])
    window = jnp.expand_dims(jnp.outer(rows, cols), range(kspace.ndim - 2))
    if contrast is not None:
        kspace = kspace[..., contrast, :, :, :][..., None, :, :, :]
    images = sense_adjoint(kspace * window, sens)
    return jnp.angle(jnp.sum(images, axis=-3, keepdims=True))


def _hann(size: int, width: int, dtype: DTypeLike) -> Complex[Array, "size"]:
    offset = np.arange(size) - size // 2
    inside = np.abs(offset) < width / 2
    return jnp.asarray(np.where(inside, np.cos(np.pi * offset / width) ** 2, 0), dtype)
