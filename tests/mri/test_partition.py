"""The partitioned transform: the plain one's values and derivatives, and no traffic."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from medjax.mri.partition import batch_fft

TRAFFIC = r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\("


def data(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def traffic(fn, *args):
    return re.findall(TRAFFIC, jax.jit(fn).lower(*args).compile().as_text())


@pytest.mark.parametrize("axes", [(), (-1,), (-2,), (-2, -1)])
@pytest.mark.parametrize("inverse", [False, True])
def test_is_the_plain_transform_in_every_use(axes, inverse):
    x, v = data(4, 3, 6, 5), data(4, 3, 6, 5, seed=1)
    oracle = jnp.fft.ifftn if inverse else jnp.fft.fftn

    def ours(x):
        return batch_fft(x, axes=axes, inverse=inverse)

    def plain(x):
        return oracle(x, axes=axes)

    def loss(fn):
        return jax.grad(lambda x: jnp.sum(jnp.abs(fn(x) * v) ** 2))

    @jax.jit
    def all_uses(x, v):
        return [
            [
                fn(x),
                jax.vmap(fn, 1, 1)(x),
                *jax.jvp(fn, (x,), (v,)),
                jax.linear_transpose(fn, x)(v)[0],
                loss(fn)(x),
                jax.vmap(loss(fn))(jnp.stack([x, v])),
            ]
            for fn in (ours, plain)
        ]

    for a, b in zip(*all_uses(x, v), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 * np.abs(b).max())
    np.testing.assert_allclose(ours(x), np.asarray(plain(x)), atol=1e-12)  # eager


def test_leading_axes_stay_where_they_are():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    x = data(4, 2, 6, 8)
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("a", "b")))

    def ours(x):
        return batch_fft(x, axes=(-1,))

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(jnp.abs(ours(x)) ** 2))(x)

    assert not traffic(ours, placed)
    assert not traffic(gradient, placed)
    assert not traffic(jax.vmap(ours), placed)
    learnt = jax.__version_info__ >= (0, 12)  # then `fft_primitive` is not used
    assert bool(traffic(jnp.fft.fft, placed)) != learnt
    result = jax.jit(ours)(placed)
    assert result.sharding.is_equivalent_to(placed.sharding, 4)
    np.testing.assert_allclose(result, np.fft.fft(x), atol=1e-12)


def test_a_sharded_axis_is_gathered_to_be_transformed():
    mesh = Mesh(np.array(jax.devices()), ("a",))
    x = data(2, 8)
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec(None, "a")))
    result = jax.jit(lambda x: batch_fft(x, axes=(-1,)))(placed)
    np.testing.assert_allclose(result, np.fft.fft(x), atol=1e-12)


def test_explicit_axes_stay_where_they_are():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Explicit,))
    x = data(8, 2, 4, 6)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("a")))
        assert not traffic(lambda x: batch_fft(x, axes=(-1,)), placed)
        result = jax.jit(lambda x: batch_fft(x, axes=(-2, -1)))(placed)
    assert jax.typeof(result).sharding.spec[0] == "a"
    np.testing.assert_allclose(result, np.fft.fft2(x), atol=1e-12)


def test_no_tracer_is_kept():
    with jax.checking_leaks():
        jax.jit(lambda x: batch_fft(x, axes=(-1,)))(data(2, 4))


def test_a_program_for_several_devices_can_be_exported():
    pytest.importorskip("flatbuffers", reason="jax.export writes with it")
    mesh = Mesh(np.array(jax.devices()), ("a",))
    x = data(8, 2, 6)
    along = NamedSharding(mesh, PartitionSpec("a"))
    program = jax.jit(lambda x: batch_fft(x, axes=(-1,)), in_shardings=along)
    exported = export.export(program)(jax.ShapeDtypeStruct(x.shape, x.dtype))
    again = export.deserialize(exported.serialize())
    result = again.call(jax.device_put(x, along))
    np.testing.assert_allclose(result, np.fft.fft(x), atol=1e-12)


def test_stands_in_another_library_s_primitive_on_several_devices():
    """lineax lowers its operators inside a primitive, where jit does not look."""
    lineax = pytest.importorskip("lineax")
    mesh = Mesh(np.array(jax.devices()), ("a",))
    x = data(8, 6)
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("a")))
    weights = np.arange(1.0, 7.0)[None]

    def normal(x):
        spectrum = batch_fft(x, axes=(-1,)) * weights.astype(complex)
        return batch_fft(spectrum, axes=(-1,), inverse=True)

    operator = lineax.FunctionLinearOperator(
        normal,
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        lineax.positive_semidefinite_tag,
    )
    solver = lineax.CG(rtol=1e-10, atol=1e-10)
    with jax.numpy_dtype_promotion("standard"):  # lineax mixes dtypes
        result = jax.jit(lambda y: lineax.linear_solve(operator, y, solver).value)(
            placed
        )
    expected = np.fft.ifft(np.fft.fft(x) / weights)
    np.testing.assert_allclose(result, expected, atol=1e-8)
