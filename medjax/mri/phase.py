"""The smooth phase that images of one scan share, from the centre of k-space."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from medjax.checks import check_arrays, check_integers
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
        kspace: Centred k-space in any unit. Its middle `width` rows and columns must be
            fully sampled, which is not checked. A number that is not finite there
            makes the phase of its slice NaN.
        sens: Maps with sum_c |S_c|^2 = 1, or 0 outside the object. Their own phase is
            not part of the result.
        width: Width of the window in points of k-space, a static integer of at least 1
            (the mean of the image alone): the fewer, the smoother. Wider than the
            image, it only tapers.
        contrast: The index of one contrast, to take it alone: a static integer from -E
            to E - 1. Signs of inversion recovery differ between contrasts; that of the
            longest inversion time, where all signals have recovered, leaves the others
            signed. None takes the sum over contrasts, for signals of one sign.

    Returns:
        The phase in rad, -pi to pi, real, in the precision of k-space. It is 0, with
        the derivative 0, where the low-resolution image is 0, as it is where all
        sensitivities are 0.

    Raises:
        ValueError: shapes that do not fit each other, numbers that are not complex, a
            width or a contrast out of its range or traced.

    Phases that differ between contrasts (gradient echoes, T2*) need another model.
    Source: homodyne detection, Noll, Nishimura and Macovski, IEEE TMI 10 (1991).
    """
    check_arrays(
        "smooth_phase",
        kspace=(kspace, "*B E C H W", complex),
        sens=(sens, "*B C H W", complex),
    )
    check_integers("smooth_phase", width=(width, 1, None))
    rows, cols = (_hann(size, width, kspace.dtype) for size in kspace.shape[-2:])
    window = jnp.expand_dims(jnp.outer(rows, cols), range(kspace.ndim - 2))
    if contrast is not None:
        contrasts = kspace.shape[-4]
        check_integers("smooth_phase", contrast=(contrast, -contrasts, contrasts - 1))
        kspace = kspace[..., contrast, :, :, :][..., None, :, :, :]
    images = sense_adjoint(kspace * window, sens)
    total = jnp.sum(images, axis=-3, keepdims=True)
    # The angle of 0 is 0 or pi by the zeros' signs, and its derivative is NaN.
    return jnp.angle(jnp.where(total == 0, 1, total))


def _hann(size: int, width: int, dtype: DTypeLike) -> Complex[Array, "size"]:
    offset = np.arange(size) - size // 2
    inside = np.abs(offset) < width / 2
    return jnp.asarray(np.where(inside, np.cos(np.pi * offset / width) ** 2, 0), dtype)
