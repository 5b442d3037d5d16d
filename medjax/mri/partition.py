"""A Fourier transform that stays on its device when leading axes are sharded."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Inexact

from medjax.checks import check_arrays


def _last_axes_fft(
    x: Complex[Array, "*N"], *, rank: int, inverse: bool
) -> Complex[Array, "*N"]:
    """`jnp.fft.fftn`, or `ifftn`, over the last `rank` axes."""
    # Before 0.12 XLA's partitioner gathers the operand of every FFT on all devices,
    # even if only axes that are not transformed are sharded: there a primitive tells
    # it otherwise. Imported here, as its `jax.extend` is slow to import.
    if jax.__version_info__ < (0, 12):
        from medjax.mri.fft_primitive import last_axes_fft

        return last_axes_fft(x, rank=rank, inverse=inverse)
    kind = jax.lax.FftType.IFFT if inverse else jax.lax.FftType.FFT
    return jax.lax.fft(x, kind, x.shape[-rank:])


def batch_fft(
    x: Inexact[Array, "*N"], *, axes: tuple[int, ...], inverse: bool = False
) -> Complex[Array, "*N"]:
    """`jnp.fft.fftn`, or `ifftn`, of x over at most three `axes`.

    Without communication wherever no transformed axis is sharded. Any derivative, any
    vmap; on one device it is the plain transform. Before jax 0.12 it is also the plain
    one, with communication on several devices, in exported programs and inside the
    primitives of other libraries (lineax).

    Args:
        x: Real or complex, in any unit, which the result keeps; not centred (the origin
            is index 0). NaN spreads along the transformed axes only.
        axes: At most three, each once, negative or not; () returns x as complex.
        inverse: The inverse transform, divided by the number of points; the forward one
            is not scaled. Static.

    Returns:
        Complex, of the shape and precision of x, single at least; empty where x is.

    Raises:
        ValueError: integers, or axes that x does not have, or more than three, or one
            twice.
    """
    check_arrays("batch_fft", x=(x, "*N", (float, complex)))
    x = jnp.asarray(x)
    if len(axes) > 3 or not distinct_axes(axes, x.ndim):
        raise ValueError(
            f"batch_fft: axes: expected at most three different ones of the {x.ndim} "
            f"axes of x; found {axes}"
        )
    x = x.astype(np.promote_types(x.dtype, np.complex64))
    if not axes or not x.size:
        return x
    last = tuple(range(-len(axes), 0))
    x = jnp.moveaxis(x, axes, last)
    x = _last_axes_fft(x, rank=len(axes), inverse=inverse)
    return jnp.moveaxis(x, last, axes)


def distinct_axes(axes: tuple[int, ...], ndim: int) -> bool:
    """Whether an array of `ndim` axes has all of these, and none is named twice.

    Negative numbers count from the last axis; no axes at all are distinct.
    """
    numbers = {axis % ndim for axis in axes if -ndim <= axis < ndim}
    return len(numbers) == len(axes)
