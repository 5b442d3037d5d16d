"""What the vision tower and the text decoder are both made of."""

import math
from typing import Any  # flax types what `param` gives by its box

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.sharding import RuleTable, constrain

EMBEDDING = nn.initializers.normal(0.02)
FAN_IN = (
    nn.initializers.lecun_normal()
)  # 0.02 at the 3B's width, and right for a tiny one


def accumulator(dtype: jnp.dtype) -> jnp.dtype:
    """What sums, norms and softmax of `dtype` are computed in: float32 at least."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


class Linear(nn.Module):
    """x @ kernel + bias, the kernel [in, out] under the logical axis names `axes`.

    Where the tree has `lora_a` [in, r] and `lora_b` [r, out] beside the kernel,
    lora_scale * (x @ lora_a) @ lora_b is added; `init` does not make them.

    Rows are flattened for the product: XLA's CPU backend runs the weight gradient of a
    matrix 2.3 times as fast as that of a stack (SwiGLU 128-256-128 on 256 x 31 rows).
    """

    features: int  # F, the size of the last axis of what comes out
    axes: tuple[str, str]  # logical names of the kernel's two axes
    bias: bool
    dtype: str  # of the product and of what comes out
    param_dtype: str
    lora_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "*R D"]) -> Float[Array, "*R F"]:
        """Map the last axis, of any size D, to F numbers of dtype `dtype`."""
        param_dtype = jnp.dtype(self.param_dtype)
        kernel: Any = self.param(
            "kernel",
            nn.with_logical_partitioning(FAN_IN, self.axes),
            (x.shape[-1], self.features),
            param_dtype,
        )
        rows = math.prod(x.shape[:-1])  # -1 cannot stand for it where there are none
        flat = x.reshape(rows, x.shape[-1]).astype(self.dtype)
        y = flat @ kernel.astype(self.dtype)
        if self.has_variable("params", "lora_a"):
            down: Any = self.get_variable("params", "lora_a")
            up: Any = self.get_variable("params", "lora_b")
            low = flat @ down.astype(self.dtype)  # r numbers a row, never in x out
            y = y + self.lora_scale * (low @ up.astype(self.dtype))
        if self.bias:
            bias: Any = self.param(
                "bias",
                nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:]),
                (self.features,),
                param_dtype,
            )
            y = y + bias.astype(self.dtype)[None]
        return y.reshape(*x.shape[:-1], self.features)


def linear_options(config: Qwen25VLConfig) -> dict[str, Any]:
    """What all linear maps of a policy have in common: dtypes, and an adapter's scale.

    Args:
        config: The policy's.
    """
    return {
        "dtype": config.dtype,
        "param_dtype": config.param_dtype,
        "lora_scale": config.lora_scale,
    }


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * scale (Zhang and Sennrich 2019).

    Normalised in float32 and cast back *before* the scale, as Qwen2 does it.
    """

    eps: float  # above 0; a row of zeros stays zero
    param_dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "*R D"]) -> Float[Array, "*R D"]:
        """Normalise the last axis; the dtype of `x` stays."""
        scale: Any = self.param(
            "scale",
            nn.with_logical_partitioning(nn.initializers.ones, ("norm",)),
            x.shape[-1:],
            jnp.dtype(self.param_dtype),
        )
        wide = x.astype(accumulator(x.dtype))
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        normed = (wide * jax.lax.rsqrt(mean_square + self.eps)).astype(x.dtype)
        return normed * jnp.broadcast_to(scale.astype(x.dtype), x.shape)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    width: int  # D
    mlp: int  # hidden units
    bias: bool  # of all three maps
    dtype: str  # of the products and of what comes out
    param_dtype: str
    rules: RuleTable = ()  # where the hidden units lie, see `constrain`
    lora_scale: float = 1.0  # see `Linear`
    axis: str = "mlp"  # their logical name

    @nn.compact
    def __call__(self, x: Float[Array, "R T D"]) -> Float[Array, "R T D"]:
        """Map the last axis to `mlp` numbers and back to `width`."""
        options = {
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "bias": self.bias,
            "lora_scale": self.lora_scale,
        }
        axis = self.axis
        gate = Linear(self.mlp, ("embed", axis), name="gate", **options)(x)
        up = Linear(self.mlp, ("embed", axis), name="up", **options)(x)
        gate, up = (constrain(y, self.rules, "batch", None, axis) for y in (gate, up))
        down = Linear(self.width, (axis, "embed"), name="down", **options)
        return down(nn.silu(gate) * up)


def unrolled_layers(asked: int | None, layers: int) -> int:
    """How many layers a step of the scan over `layers` holds.

    A gradient through a scan stacks what each layer keeps, with three kernels for each
    such array: two layers side by side compile in two thirds of the time.

    Args:
        asked: `scan_unroll` of the config; None stands for both layers of two.
        layers: Of the whole stack, 1 or more.
    """
    if asked is None:
        return layers if layers <= 2 else 1
    return asked


def rematerialised(layer: type[nn.Module], remat: str) -> type[nn.Module]:
    """The same layer, but that its backward pass computes parts of it once more.

    Args:
        layer: A module class; its numbers do not change.
        remat: "none" keeps everything in memory, "full" keeps the layer's inputs
            alone, and the name of a policy in `jax.checkpoint_policies`, such as
            "dots_saveable", keeps what that policy says.

    Raises:
        ValueError: No such policy; the message lists them.
    """
    if remat == "none":
        return layer
    policies = {
        name: policy
        for name, policy in vars(jax.checkpoint_policies).items()
        if not name.startswith("_")
    }
    if remat != "full" and remat not in policies:
        raise ValueError(
            f"remat={remat!r}: expected 'none', 'full' or one of {sorted(policies)}"
        )
    policy = None if remat == "full" else policies[remat]
    return nn.remat(layer, policy=policy, prevent_cse=False)
