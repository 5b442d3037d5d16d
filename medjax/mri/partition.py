"""A Fourier transform that stays on its device when leading axes are sharded."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Inexact

# Before 0.12 XLA's partitioner gathers the operand of every FFT on all devices, even if
# only axes that are not transformed are sharded: there a primitive tells it otherwise.
if jax.__version_info__ < (0, 12):
    from medjax.mri.fft_primitive import last_axes_fft
else:

    def last_axes_fft(
        x: Complex[Array, "*N"], *, rank: int, inverse: bool
    ) -> Complex[Array, "*N"]:
        """`jnp.fft.fftn`, or `ifftn`, over the last `rank` axes."""
        kind = jax.lax.FftType.IFFT if inverse else jax.lax.FftType.FFT
        return jax.lax.fft(x, kind, x.shape[-rank:])


def batch_fft(
    x: Inexact[Array, "*N"], *, axes: tuple[int, ...], inverse: bool = False
) -> Complex[Array, "*N"]:
    """`jnp.fft.fftn`, or `ifftn`, of x over at most three `axes`.

    Without communication wherever no transformed axis is sharded. Any derivative, any
    vmap; on one device, and where a program is exported, it is the plain transform.

    Args:
        x: Real or complex, in any unit; not centred (the origin is index 0). NaN
            spreads along the transformed axes only.
        axes: At most three, each once, negative or not; () returns x as complex.
        inverse: The inverse transform, divided by the number of points; the forward one
            is not scaled.
    """
    if not jnp.iscomplexobj(x):
        x = jax.lax.complex(x, jnp.zeros_like(x))
    if not axes:
        return x
    last = tuple(range(-len(axes), 0))
    x = jnp.moveaxis(x, axes, last)
    x = last_axes_fft(x, rank=len(axes), inverse=inverse)
    return jnp.moveaxis(x, last, axes)
