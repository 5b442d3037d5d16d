"""Linear, RMSNorm and SwiGLU against NumPy, and what they leave in a tree."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from medjax.models.qwen25vl.layers import (
    Linear,
    RMSNorm,
    SwiGLU,
    accumulator,
    rematerialised,
)

DOUBLE = {"dtype": "float64", "param_dtype": "float64"}
EXACT = 1e-12  # float64 sums of a dozen terms


@partial(jax.jit, static_argnames="module")
def apply(module, params, x):
    return module.apply({"params": params}, x)


def draw(rng, *shape):
    return rng.normal(size=shape)


def silu(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("bias", [False, True])
def test_linear_is_a_product_and_a_sum(bias):
    rng = np.random.default_rng(0)
    x, kernel, offset = draw(rng, 2, 3, 5), draw(rng, 5, 4), draw(rng, 4)
    params = {"kernel": kernel} | ({"bias": offset} if bias else {})
    module = Linear(4, ("embed", "mlp"), bias, **DOUBLE)
    expected = np.zeros((2, 3, 4))
    for i, j, k in np.ndindex(expected.shape):
        expected[i, j, k] = sum(x[i, j, d] * kernel[d, k] for d in range(5))
    np.testing.assert_allclose(
        apply(module, params, x), expected + bias * offset, atol=EXACT
    )


def test_swiglu():
    rng = np.random.default_rng(1)
    x = draw(rng, 2, 3, 5)
    kernels = {"gate": draw(rng, 5, 6), "up": draw(rng, 5, 6), "down": draw(rng, 6, 5)}
    biases = {name: draw(rng, kernel.shape[1]) for name, kernel in kernels.items()}
    params = {n: {"kernel": kernels[n], "bias": biases[n]} for n in kernels}
    gate, up = (x @ kernels[n] + biases[n] for n in ("gate", "up"))
    expected = (silu(gate) * up) @ kernels["down"] + biases["down"]
    module = SwiGLU(5, 6, True, **DOUBLE)
    np.testing.assert_allclose(apply(module, params, x), expected, atol=EXACT)
    bare = {name: {"kernel": kernel} for name, kernel in kernels.items()}
    without = (silu(x @ kernels["gate"]) * (x @ kernels["up"])) @ kernels["down"]
    module = SwiGLU(5, 6, False, **DOUBLE)
    np.testing.assert_allclose(apply(module, bare, x), without, atol=EXACT)


def test_rms_norm_has_unit_mean_square():
    rng = np.random.default_rng(2)
    x, scale = 5 * draw(rng, 2, 3, 8), draw(rng, 8)
    expected = np.zeros_like(x)
    for i, j in np.ndindex(2, 3):
        mean_square = sum(v * v for v in x[i, j]) / 8
        expected[i, j] = x[i, j] / np.sqrt(mean_square + 1e-3) * scale
    found = apply(RMSNorm(1e-3, "float64"), {"scale": scale}, x)
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, atol=EXACT)


def test_rms_norm_casts_before_it_scales_as_hugging_face_does():
    """In bfloat16: norm in float32, cast, then the product in bfloat16."""
    rng = np.random.default_rng(3)
    x = jnp.asarray(3 * draw(rng, 64, 32), jnp.bfloat16)
    scale = jnp.asarray(1 + 0.3 * draw(rng, 32), jnp.float32)
    found = np.asarray(apply(RMSNorm(1e-6, "float32"), {"scale": scale}, x))
    assert found.dtype == jnp.bfloat16
    wide = np.asarray(x, np.float32)
    normed = wide / np.sqrt(np.mean(wide**2, -1, keepdims=True) + np.float32(1e-6))
    short = np.asarray(scale).astype(jnp.bfloat16)
    as_theirs = normed.astype(jnp.bfloat16) * short
    scaled_first = (normed * short.astype(np.float32)).astype(jnp.bfloat16)
    # 1 / sqrt may differ in the last bit of float32 and tip a rounding to bfloat16
    assert np.mean(found == as_theirs) > 0.99
    assert np.mean(found == scaled_first) < 0.9


def test_matmuls_run_in_dtype_and_parameters_keep_theirs():
    module = SwiGLU(8, 6, True, dtype="bfloat16", param_dtype="float32")
    x = jnp.ones((2, 8), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    params = nn.unbox(variables["params"])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    total = lambda params: jnp.sum(module.apply({"params": params}, x))  # noqa: E731
    assert jax.eval_shape(total, params).dtype == jnp.bfloat16
    grads = jax.eval_shape(jax.grad(total), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    axes = nn.get_partition_spec(variables["params"])
    assert axes["down"] == {
        "kernel": PartitionSpec("mlp", "embed"),
        "bias": PartitionSpec("embed"),
    }


def test_sums_are_float32_at_least():
    assert accumulator(jnp.bfloat16) == accumulator(jnp.float32) == jnp.float32
    assert accumulator(jnp.dtype("float64")) == jnp.float64


def test_rematerialised_names_what_it_knows():
    assert rematerialised(Linear, "none") is Linear
    for name in ("full", "dots_saveable"):
        assert issubclass(rematerialised(Linear, name), nn.Module)
    with pytest.raises(ValueError, match="remat='half'.*'dots_saveable'"):
        rematerialised(Linear, "half")
