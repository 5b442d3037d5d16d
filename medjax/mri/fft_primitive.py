"""The transform of `partition.batch_fft` for jax before 0.12.

Its XLA's partitioner gathers the operand of every FFT on all devices, even if only axes
that are not transformed are sharded. Here it is told otherwise.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Complex

_fft_p = Primitive("batch_fft")


def last_axes_fft(
    x: Complex[Array, "*N"], *, rank: int, inverse: bool
) -> Complex[Array, "*N"]:
    """`jnp.fft.fftn` over the last `rank` axes, or `ifftn`; not centred.

    Args:
        x: Complex, of any leading axes. Where an axis before the last `rank` is sharded
            there is no communication.
        rank: How many of the last axes are transformed, 1 to 3; static.
        inverse: The inverse transform, divided by the number of points; static.
    """
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
        sharding, batch = operand.sharding, len(operand.shape) - rank
        spec = (tuple(sharding.spec) + (None,) * batch)[:batch]
        return NamedSharding(sharding.mesh, PartitionSpec(*spec, *(None,) * rank))

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


def _lowering(
    ctx: mlir.LoweringRuleContext,
    x: Any,  # noqa: ANN401  (a value of MLIR)
    *,
    rank: int,
    inverse: bool,
    program: ClosedJaxpr,
) -> Any:  # noqa: ANN401
    """Plain where a callback cannot be kept, and where nobody says on which devices.

    The first is export; the second a rule of another library that lowers a function
    inside its own primitive, as lineax does: jit did not see this one there.
    """
    module = ctx.module_context
    devices = getattr(module.axis_context, "device_assignment", ())
    if module.lowering_parameters.for_export or devices is None:
        plain = functools.partial(_plain, rank=rank, inverse=inverse)
        return mlir.lower_fun(plain, multiple_results=False)(ctx, x)
    return mlir.lower_fun(jaxpr_as_fun(program))(ctx, x)


def _impl(x: Array, *, rank: int, inverse: bool, program: ClosedJaxpr) -> Array:
    del program
    return _plain(x, rank=rank, inverse=inverse)


def _transpose(
    cotangent: Array, _: Array, *, rank: int, inverse: bool, program: ClosedJaxpr
) -> tuple[Array]:
    del program  # a DFT matrix is symmetric
    return (last_axes_fft(cotangent, rank=rank, inverse=inverse),)


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
    return last_axes_fft(x, rank=rank, inverse=inverse), 0


_fft_p.def_impl(_impl)
_fft_p.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(_fft_p, _lowering)
ad.deflinear2(_fft_p, _transpose)
batching.primitive_batchers[_fft_p] = _batch
