"""Vision tower of Qwen2.5-VL: images in padded window order to features."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.models.qwen25vl.attention import KeyBlock, attend
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.layers import (
    Linear,
    RMSNorm,
    SwiGLU,
    linear_options,
    rematerialised,
    unrolled_layers,
)
from medjax.models.qwen25vl.rope import patch_angles, rotate
from medjax.sharding import constrain

_ROWS = ("batch", None, None)  # of images
# Names of their own: the tower's sizes are others than the text's, and no power of two.
_HEADS, _MLP = "vision_heads", "vision_mlp"


class VisionBlock(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x)); attention is not causal.

    Full blocks attend to the whole image, the others to their window, which in padded
    window order is a reshape.
    """

    config: Qwen25VLConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "R P D"],
        full: Bool[Array, ""],
        angles: Float[Array, "R P d/2"],
        mask: Bool[Array, "R P"],
    ) -> tuple[Float[Array, "R P D"], None]:
        """The block's output; the second result is what `nn.scan` would stack.

        Args:
            x: R images of P patches in padded window order; P is a multiple of the
                patches in a window.
            full: Whether this block attends to the whole image.
            angles: In rad, of the P patches, from `patch_angles`.
            mask: False for padding, which nothing attends to.
        """
        vision = self.config.vision
        options = linear_options(self.config)
        size = (vision.window // vision.patch) ** 2
        rows, length, width = x.shape

        x = constrain(x, self.config.rules, *_ROWS)
        h = RMSNorm(vision.norm_eps, self.config.param_dtype, name="norm1")(x)
        attention = _Attention(self.config, name="attention")
        queries, keys, values = attention.project(h, angles)

        def over(group: int) -> Float[Array, "R P D"]:
            # an axis at a time, which keeps the rows where they lie on a mesh
            windows = (rows, length // group, group)

            def split(y: Float[Array, "R P ..."]) -> Float[Array, "RW S ..."]:
                y = y.reshape(*windows, *y.shape[2:])
                return y.reshape(rows * windows[1], group, *y.shape[3:])

            block = KeyBlock(split(keys), split(values), split(mask)[:, None, :])
            mixed = attend(split(queries), [block])
            mixed = mixed.reshape(rows * windows[1], group, width)
            return mixed.reshape(*windows, width).reshape(rows, length, width)

        mixed = jax.lax.cond(full, lambda: over(length), lambda: over(size))
        x = constrain(x + attention.combine(mixed), self.config.rules, *_ROWS)
        h = RMSNorm(vision.norm_eps, self.config.param_dtype, name="norm2")(x)
        rules = self.config.rules
        own = {"rules": rules, "axis": _MLP, "name": "mlp"}
        mlp = SwiGLU(vision.width, vision.mlp, True, **own, **options)
        return constrain(x + mlp(h), rules, *_ROWS), None


class _Attention(nn.Module):
    """The projections of a block; what lies between them depends on the window."""

    config: Qwen25VLConfig

    def setup(self) -> None:
        vision = self.config.vision
        options = {**linear_options(self.config), "bias": True}
        self.qkv = Linear(3 * vision.width, ("embed", _HEADS), **options)
        self.proj = Linear(vision.width, (_HEADS, "embed"), **options)

    def project(
        self, x: Float[Array, "R P D"], angles: Float[Array, "R P d/2"]
    ) -> tuple[Float[Array, "R P H d"], ...]:
        vision = self.config.vision
        heads = vision.heads
        split = jnp.split(self.qkv(x), 3, axis=-1)
        rules = self.config.rules
        q, k, v = (
            constrain(
                y.reshape(*y.shape[:2], heads, vision.width // heads),
                *(rules, "batch", None, _HEADS, None),
            )
            for y in split
        )
        return rotate(q, angles), rotate(k, angles), v

    def combine(self, x: Float[Array, "R P D"]) -> Float[Array, "R P D"]:
        return self.proj(x)


class VisionTower(nn.Module):
    """Patches to features: one per merge x merge patches, in the decoder's width."""

    config: Qwen25VLConfig

    @nn.compact
    def __call__(
        self,
        patches: Float[Array, "R P E"],
        rows_cols: Int[Array, "R P 2"],
        mask: Bool[Array, "R P"],
    ) -> Float[Array, "R F D"]:
        """Features of R images in padded window order; those of padding are noise.

        Args:
            patches: Normalised pixels of P patches, each flattened as (channel, frame,
                row, column); P is a multiple of the patches in a window.
            rows_cols: Row and column of each patch in its image, from 0 on.
            mask: False for padding, which nothing attends to.
        """
        config, vision = self.config, self.config.vision
        options = linear_options(config)
        x = patches.astype(jnp.dtype(config.dtype))
        x = Linear(
            vision.width, ("patch", "embed"), name="patch_embed", bias=False, **options
        )(x)
        full = jnp.array([i in vision.full_blocks for i in range(vision.depth)])
        blocks = nn.scan(
            rematerialised(VisionBlock, config.remat),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=vision.depth,
            unroll=unrolled_layers(config.scan_unroll, vision.depth),
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(config, name="blocks")
        x, _ = blocks(x, full, patch_angles(rows_cols, vision), mask)
        return Merger(config, name="merger")(x)


class Merger(nn.Module):
    """norm per patch, merge^2 patches side by side, two layers with exact GELU."""

    config: Qwen25VLConfig

    @nn.compact
    def __call__(self, x: Float[Array, "R P D"]) -> Float[Array, "R F D"]:
        """F = P / merge^2 features, each of merge^2 consecutive patches."""
        vision = self.config.vision
        options = {**linear_options(self.config), "bias": True}
        merged = vision.merge**2 * vision.width
        x = RMSNorm(vision.norm_eps, self.config.param_dtype, name="norm")(x)
        cells = (x.shape[0], x.shape[1] // vision.merge**2)
        x = x.reshape(*cells, vision.merge**2, vision.width).reshape(*cells, merged)
        x = Linear(merged, ("embed", _MLP), name="fc1", **options)(x)
        x = constrain(x, self.config.rules, "batch", None, _MLP)
        x = nn.gelu(x, approximate=False)
        x = Linear(self.config.width, (_MLP, "embed"), name="fc2", **options)(x)
        return constrain(x, self.config.rules, *_ROWS)
