"""Orthonormal, periodised Daubechies wavelets of images."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Shaped

from medjax.checks import check_arrays, check_integers

_LARGEST_ORDER = 38  # of PyWavelets too; longer filters are not orthonormal any more


def wavelet_transform(
    images: Inexact[Array, "*N H W"], *, levels: int, order: int = 4
) -> Inexact[Array, "*N H W"]:
    """Daubechies wavelet coefficients c = T x of the last two axes; T is orthogonal.

    The coarse image stands in the corner [: H / 2^levels, : W / 2^levels], around it
    the details from coarse to fine, as in `pywt.coeffs_to_array(pywt.wavedec2(x,
    f"db{order}", mode="periodization", level=levels))`.

    Args:
        images: Real or complex, in any unit, which the coefficients keep; H and W are
            multiples of 2^levels; an empty image is returned. NaN spreads over all of
            its own image.
        levels: How often the coarse image is split, at least 0, which returns the
            images. Static.
        order: Vanishing moments, 1 to 38: 1 is Haar, 4 the usual db4. A filter, of 2
            order taps, may be longer than the image. Static.

    Returns:
        Of the shape and dtype of the images.

    Raises:
        ValueError: a side that is no multiple of 2^levels: there is no orthonormal
            transform of it. Pad it (`pad_to_multiple`). Also fewer than two axes,
            images of integers, and options outside their range, no integers or traced.

    A level is a product with a matrix from either side: for the sizes of MR images that
    is faster than strided filters, on any device.
    """
    _check("wavelet_transform", levels, order, images=images)
    images = jnp.asarray(images)
    rows, cols = images.shape[-2:]
    for level in range(levels):
        h, w = rows >> level, cols >> level
        block = _separable(_filter_bank(h, order), _filter_bank(w, order), images, h, w)
        images = _with_corner(images, block)
    return images


def inverse_wavelet_transform(
    coefficients: Inexact[Array, "*N H W"], *, levels: int, order: int = 4
) -> Inexact[Array, "*N H W"]:
    """x = T^T c, the inverse and the adjoint of `wavelet_transform`.

    Args:
        coefficients: Real or complex, in the order of `wavelet_transform`, of the same
            size and unit as the images. One that is not finite spreads over all of its
            own image, or with `levels` 0 stays where it is.
        levels: As they were made with, at least 0; another number is not noticed.
            Static.
        order: As they were made with, 1 to 38; another number is not noticed. Static.

    Returns:
        Images of the shape and dtype of the coefficients.

    Raises:
        ValueError: a side that is no multiple of 2^levels, fewer than two axes,
            coefficients of integers, and options outside their range, no integers or
            traced.
    """
    _check("inverse_wavelet_transform", levels, order, coefficients=coefficients)
    coefficients = jnp.asarray(coefficients)
    rows, cols = coefficients.shape[-2:]
    for level in reversed(range(levels)):
        h, w = rows >> level, cols >> level
        up, right = _filter_bank(h, order).T, _filter_bank(w, order).T
        block = _separable(up, right, coefficients, h, w)
        coefficients = _with_corner(coefficients, block)
    return coefficients


def detail_mask(shape: tuple[int, int], *, levels: int) -> np.ndarray:
    """True [H, W] at the details, False at the coarse image, which is not sparse.

    Args:
        shape: (H, W) of the coefficients, multiples of 2^levels; of other sides the
            coarse image is rounded down.
        levels: As the coefficients were made with, at least 0, which has no details:
            all False.

    Returns:
        bool, in NumPy.

    Raises:
        ValueError: a number of levels below 0.
    """
    check_integers("detail_mask", levels=(levels, 0, None))
    mask = np.ones(shape, bool)
    mask[: shape[0] >> levels, : shape[1] >> levels] = False
    return mask


def pad_to_multiple(
    images: Shaped[Array, "*N H W"], multiple: int
) -> Shaped[Array, "*N H W"]:
    """Zeros below and to the right, so that H and W become multiples.

    Args:
        images: Of any dtype, also integers and bool, with any leading axes; returned as
            they are where both sides are multiples, 0 among them.
        multiple: What H and W become multiples of, at least 1, in pixels. Static.

    Returns:
        [.., H', W'] in the dtype of the images, H' and W' the next multiples; images
        stand in the corner [: H, : W].

    Raises:
        ValueError: fewer than two axes, or a multiple that is below 1, no integer or
            traced.
    """
    check_arrays("pad_to_multiple", images=(images, "*N H W", None))
    check_integers("pad_to_multiple", multiple=(multiple, 1, None))
    shape = np.shape(images)
    pad = [(0, 0)] * (len(shape) - 2) + [(0, -n % multiple) for n in shape[-2:]]
    return jnp.pad(images, pad)


def daubechies_filter(order: int) -> Float[np.ndarray, "L"]:
    """The scaling filter with `order` vanishing moments, L = 2 order, sum sqrt(2).

    Spectral factor of smallest phase: the zeros inside the unit circle of
    P(y) = sum_k binom(order - 1 + k, k) y^k, y = (2 - z - 1/z) / 4.

    Args:
        order: 1, which is Haar, to 38. Its shifts are orthonormal to 1e-15 at the usual
            4, to 3e-7 at 38, as roots of a long polynomial lose digits.

    Returns:
        In float64, computed on the host.

    Raises:
        ValueError: another order.

    Source: Daubechies, Comm. Pure Appl. Math. 41 (1988), section 4.
    """
    check_integers("daubechies_filter", order=(order, 1, _LARGEST_ORDER))
    powers = [math.comb(order - 1 + k, k) for k in reversed(range(order))]
    zeros = [-1.0] * order
    for y in np.roots(powers):
        pair = np.roots([1.0, 4 * y - 2, 1.0])
        zeros.append(pair[np.argmin(np.abs(pair))])
    filter_ = np.real(np.poly(zeros))
    return filter_ * math.sqrt(2) / filter_.sum()


def _filter_bank(size: int, order: int) -> Float[np.ndarray, "size size"]:
    """One level: the low-pass rows above the high-pass rows, wrapped round."""
    low = daubechies_filter(order)[::-1]
    high = low[::-1] * -((-1.0) ** np.arange(2 * order))
    taps = np.arange(2 * order)
    bank = np.zeros((size, size))
    for row in range(size // 2):
        columns = (2 * row + order - taps) % size
        np.add.at(bank[row], columns, low)  # a filter may be longer than the side
        np.add.at(bank[size // 2 + row], columns, high)
    return bank


def _separable(
    rows: Float[np.ndarray, "h h"],
    cols: Float[np.ndarray, "w w"],
    images: Array,
    h: int,
    w: int,
) -> Inexact[Array, "*N h w"]:
    """rows @ corner @ cols^T; real products, of the parts, where images are complex."""

    def product(x):
        a, b = jnp.asarray(rows, x.dtype), jnp.asarray(cols, x.dtype)
        return jnp.einsum("ij,...jk,lk->...il", a, x, b, precision="highest")

    corner = images[..., :h, :w]
    if jnp.iscomplexobj(images):
        return jax.lax.complex(product(jnp.real(corner)), product(jnp.imag(corner)))
    return product(corner)


def _with_corner(images: Array, corner: Array) -> Array:
    """The images, their first rows and columns replaced."""
    start = (0,) * images.ndim
    return jax.lax.dynamic_update_slice(images, corner, start)


def _check(function: str, levels: int, order: int, **arrays: Array) -> None:
    check_integers(function, levels=(levels, 0, None), order=(order, 1, _LARGEST_ORDER))
    for name, value in arrays.items():
        check_arrays(function, **{name: (value, "*N H W", (float, complex))})
        sides = np.shape(value)[-2:]
        if any(n % 2**levels for n in sides):
            raise ValueError(
                f"{function}: {name}: {levels} wavelet levels need sides that are "
                f"multiples of {2**levels}, found {sides[0]} x {sides[1]}: pad them "
                "(pad_to_multiple) or take fewer levels"
            )
