"""A Fourier transform that stays on its device when leading axes are sharded.

XLA's partitioner gathers the operand of every FFT on all devices, even if only axes
that are not transformed are sharded. Here it is told otherwise.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Complex, Inexact


def batch_fft(
    x: Inexact[Array, "*N"], *, axes: tuple[int, ...], inverse: bool = False
) -> Complex[Array, "*N"]:
    """`jnp.fft.fftn`, or `ifftn`, of x over at most three `axes`.

    Without communication wherever no transformed axis is sharded. Any derivative, any
    vmap; on one device it is the plain transform.

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
    return jnp.moveaxis(_bind(x, rank=len(axes), inverse=inverse), last, axes)


_fft_p = Primitive("batch_fft")


def _bind(x: Array, *, rank: int, inverse: bool) -> Array:
    # The program rides along as a parameter: jit looks for partitioned primitives in
    # it, and only then knows the devices when it lowers.
    program = functools.partial(_partitioned, rank=rank, inverse=inverse)
    program = jax.make_jaxpr(program)(jax.ShapeDtypeStruct(x.shape, x.dtype))
    return _fft_p.bind(x, rank=rank, inverse=inverse, program=program)


def _plain(x: Array, *, rank: int, inverse: bool) -> Array:
    kind = jax.lax.FftType.IFFT if inverse else jax.lax.FftType.FFT
    return jax.lax.fft(x, kind, x.shape[-rank:])


def _partitioned(x: Array, *, rank: int, inverse: bool) -> Array:
    def plain(x):
        return _plain(x, rank=rank, inverse=inverse)

    def local(operand):
        sharding, whole = operand.sharding, (None,) * rank
        spec = (tuple(sharding.spec) + (None,) * x.ndim)[: x.ndim - rank]
        return NamedSharding(sharding.mesh, PartitionSpec(*spec, *whole))

    def partition(mesh, operands, _):
        sharding = local(operands[0])
        return mesh, plain, sharding, (sharding,)

    transformed = ("u", "v", "w")[-rank:]
    side = " ".join(("...", *transformed))
    fft = custom_partitioning(plain)
    fft.def_partition(
        partition=partition,
        infer_sharding_from_operands=lambda _, operands, __: local(operands[0]),
        sharding_rule=f"{side} -> {side}",
        need_replication_factors=transformed,
    )
    return fft(x)


def _lowered(x: Array, *, rank: int, inverse: bool, program: ClosedJaxpr) -> Array:
    del rank, inverse
    return jaxpr_as_fun(program)(x)[0]


def _impl(x: Array, *, rank: int, inverse: bool, program: ClosedJaxpr) -> Array:
    del program
    return _plain(x, rank=rank, inverse=inverse)


def _transpose(
    cotangent: Array, _: Array, *, rank: int, inverse: bool, program: ClosedJaxpr
) -> tuple[Array]:
    del program  # a DFT matrix is symmetric
    return (_bind(cotangent, rank=rank, inverse=inverse),)


def _batch(
    operands: tuple[Array],
    axes: tuple[int],
    *,
    rank: int,
    inverse: bool,
    program: ClosedJaxpr,
) -> tuple[Array, int]:
    del program
    x = jnp.moveaxis(operands[0], axes[0], 0)
    return _bind(x, rank=rank, inverse=inverse), 0


_fft_p.def_impl(_impl)
_fft_p.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(_fft_p, mlir.lower_fun(_lowered, multiple_results=False))
ad.deflinear2(_fft_p, _transpose)
batching.primitive_batchers[_fft_p] = _batch
