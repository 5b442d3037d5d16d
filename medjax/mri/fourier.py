"""The Fourier pair of Cartesian MRI: centred and orthonormal."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Complex, Inexact

from medjax.checks import check_arrays
from medjax.mri.partition import batch_fft

_ROWS_COLS = (-2, -1)


def fft2c(images: Inexact[Array, "*N H W"]) -> Complex[Array, "*N H W"]:
    """k = shift(F(unshift(x))) / sqrt(H W): the centre of k-space is [H // 2, W // 2].

    The image's origin is at [H // 2, W // 2] too, so a smooth object has a smooth
    phase. F is NumPy's transform, not scaled. Orthonormal: sums of squares are kept,
    and the adjoint is `ifft2c`.

    Args:
        images: Real or complex, in any unit, which the result keeps; any leading axes,
            sides of any length, odd ones too. NaN spreads over its own image only.

    Returns:
        k-space, complex, of the images' precision, single at least; empty where they
        are.

    Raises:
        ValueError: fewer than two axes, or integers.
    """
    check_arrays("fft2c", images=(images, "*N H W", (float, complex)))
    return _centred(images, inverse=False) / _root_of_size(images)


def ifft2c(kspace: Inexact[Array, "*N H W"]) -> Complex[Array, "*N H W"]:
    """x = shift(F^-1(unshift(k))) sqrt(H W), the inverse and the adjoint of `fft2c`.

    The origins of k-space and of the image are at [H // 2, W // 2]: k-space that is 1
    everywhere gives a point of sqrt(H W) there.

    Args:
        kspace: Real or complex, in any unit, which the images get; its origin at
            [H // 2, W // 2], 0 where not sampled. NaN spreads over its own image only.

    Returns:
        Images, complex, of k-space's precision, single at least; empty where it is.

    Raises:
        ValueError: fewer than two axes, or integers.
    """
    check_arrays("ifft2c", kspace=(kspace, "*N H W", (float, complex)))
    return _centred(kspace, inverse=True) * _root_of_size(kspace)


def _centred(x: Inexact[Array, "*N H W"], *, inverse: bool) -> Complex[Array, "*N H W"]:
    x = jnp.fft.ifftshift(x, _ROWS_COLS)
    return jnp.fft.fftshift(batch_fft(x, axes=_ROWS_COLS, inverse=inverse), _ROWS_COLS)


def _root_of_size(x: Inexact[Array, "*N H W"]) -> float:
    return math.sqrt(max(x.shape[-2] * x.shape[-1], 1))
