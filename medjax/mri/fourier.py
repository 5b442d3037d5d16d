"""The Fourier pair of Cartesian MRI: centred and orthonormal."""

import jax.numpy as jnp
from jaxtyping import Array, Complex, Inexact

_ROWS_COLS = (-2, -1)


def fft2c(images: Inexact[Array, "*N H W"]) -> Complex[Array, "*N H W"]:
    """k = shift(F(unshift(x))) / sqrt(H W): the centre of k-space is [H // 2, W // 2].

    The image's origin is its centre too, so a smooth object has a smooth phase.
    Orthonormal: sums of squares are kept, and the adjoint is `ifft2c`.
    """
    spectrum = jnp.fft.fft2(jnp.fft.ifftshift(images, _ROWS_COLS), norm="ortho")
    return jnp.fft.fftshift(spectrum, _ROWS_COLS)


def ifft2c(kspace: Inexact[Array, "*N H W"]) -> Complex[Array, "*N H W"]:
    """The inverse and the adjoint of `fft2c`."""
    images = jnp.fft.ifft2(jnp.fft.ifftshift(kspace, _ROWS_COLS), norm="ortho")
    return jnp.fft.fftshift(images, _ROWS_COLS)
