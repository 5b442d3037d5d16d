"""A part of an image along the readout: rows that undersampled columns do not mix."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex

from medjax.mri.partition import batch_fft

_MULTIPLE, _FEWEST = 16, 32  # rows of a part: of the former, at least the latter


def middle_third(mask: Bool[Array, "*B E #H W"], size: int) -> tuple[int, int]:
    """The first row and the number of rows of a part that tells weights apart.

    What predicts held-out columns of the middle predicts those of the slice, and costs
    a third. Slices that are small, or of which points are sampled, stay whole.

    Args:
        mask: Where k-space is sampled.
        size: H, the rows of the images.
    """
    rows = -(-size // (3 * _MULTIPLE)) * _MULTIPLE
    if mask.shape[-2] > 1 or rows < _FEWEST or rows >= size:
        return 0, size
    return (size - rows) // 2, rows


def readout_rows(
    kspace: Complex[Array, "*B E C H W"], *, start: int, rows: int
) -> Complex[Array, "*B E C rows W"]:
    """k-space of `rows` rows of the images from `start` on, whose columns are sampled.

    Of whole columns every row of the images, transformed back along the columns, is
    measured for itself, so that its part of k-space is that of a smaller image. Images
    keep their unit, and white noise its deviation.

    Args:
        kspace: Its origin at [H // 2, W // 2], every column sampled as a whole or not
            at all.
        start: The first row, at least 0; static.
        rows: How many, at most H - start; static.
    """
    size = kspace.shape[-2]
    images = jnp.fft.ifftshift(kspace, -2)
    images = jnp.fft.fftshift(batch_fft(images, axes=(-2,), inverse=True), -2)
    images = jnp.fft.ifftshift(images[..., start : start + rows, :], -2)
    part = jnp.fft.fftshift(batch_fft(images, axes=(-2,)), -2)
    return part * math.sqrt(size / rows)
