"""Text decoder of Qwen2.5-VL, one segment of tokens at a time."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.indexing import look_up, vary_with
from medjax.models.qwen25vl.attention import KeyBlock, attend, causal_mask
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.layers import (
    EMBEDDING,
    Linear,
    RMSNorm,
    SwiGLU,
    accumulator,
    rematerialised,
    unrolled_layers,
)
from medjax.models.qwen25vl.rope import rotate, text_angles


class Cache(NamedTuple):
    """Keys (rotated) and values of L tokens in U rows, for all n layers."""

    keys: Float[Array, "n U L Hkv d"]  # Hkv key heads of d numbers
    values: Float[Array, "n U L Hkv d"]
    mask: Bool[Array, "U L"]  # False: padding, which nothing attends to


class DecoderLayer(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x)), causal, grouped key heads."""

    config: Qwen25VLConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "R T D"],
        past: Sequence[tuple[Array, Array]],
        past_masks: Sequence[Bool[Array, "U L"]],
        angles: Float[Array, "R T d/2"],
        own_mask: Bool[Array, "R T T"],
    ) -> tuple[Float[Array, "R T D"], tuple[Array, Array]]:
        """The layer's output, and the segment's own keys and values to stack.

        Args:
            x: R rows of T tokens.
            past: This layer's keys and values [U, L, Hkv, d] of each earlier segment,
                U dividing R; () at the start.
            past_masks: Of the same segments; False for padding.
            angles: In rad, of the T tokens, from `text_angles`.
            own_mask: True where a token of the segment sees another one of it.
        """
        config = self.config
        options = {"dtype": config.dtype, "param_dtype": config.param_dtype}
        h = RMSNorm(config.norm_eps, config.param_dtype, name="input_norm")(x)
        mixed, own = _Attention(config, name="attention")(
            h, past, past_masks, angles, own_mask
        )
        x = x + mixed
        h = RMSNorm(config.norm_eps, config.param_dtype, name="post_norm")(x)
        return x + SwiGLU(config.width, config.mlp, False, name="mlp", **options)(
            h
        ), own


class _Attention(nn.Module):
    config: Qwen25VLConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "R T D"],
        past: Sequence[tuple[Array, Array]],
        past_masks: Sequence[Bool[Array, "U L"]],
        angles: Float[Array, "R T d/2"],
        own_mask: Bool[Array, "R T T"],
    ) -> tuple[Float[Array, "R T D"], tuple[Array, Array]]:
        config = self.config
        options = {"dtype": config.dtype, "param_dtype": config.param_dtype}

        def heads(name: str, count: int) -> Float[Array, "R T H d"]:
            axes = ("embed", "heads" if name == "q" else "kv_heads")
            y = Linear(count * config.head_dim, axes, name=name, bias=True, **options)(
                x
            )
            return y.reshape(*x.shape[:2], count, config.head_dim)

        q = rotate(heads("q", config.heads), angles)
        k = rotate(heads("k", config.kv_heads), angles)
        v = heads("v", config.kv_heads)
        blocks = [
            KeyBlock(keys, values, mask[:, None, :])
            for (keys, values), mask in zip(past, past_masks, strict=True)
        ]
        mixed = attend(q, [*blocks, KeyBlock(k, v, own_mask)])
        mixed = mixed.reshape(*x.shape[:2], config.heads * config.head_dim)
        out = Linear(config.width, ("heads", "embed"), name="o", bias=False, **options)(
            mixed
        )
        return out, (k, v)


class TextDecoder(nn.Module):
    """Embedding, layers under `scan`, final norm and head."""

    config: Qwen25VLConfig

    def setup(self) -> None:
        """Name the parts as the checkpoint's tree does."""
        config = self.config
        options = {"dtype": config.dtype, "param_dtype": config.param_dtype}
        self.embedding = nn.Embed(
            config.vocab,
            config.width,
            dtype=jnp.dtype(config.dtype),
            param_dtype=jnp.dtype(config.param_dtype),
            embedding_init=nn.with_logical_partitioning(EMBEDDING, ("vocab", "embed")),
            name="embed",
        )
        self.stack = nn.scan(
            rematerialised(DecoderLayer, config.remat),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=config.layers,
            unroll=unrolled_layers(config.scan_unroll, config.layers),
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(config, name="layers")
        self.final_norm = RMSNorm(config.norm_eps, config.param_dtype, name="norm")
        if not config.tied:
            self.head = Linear(config.vocab, ("embed", "vocab"), bias=False, **options)

    def embed(self, tokens: Int[Array, "*R"]) -> Float[Array, "*R D"]:
        """Rows of the embedding table, for ids from 0 to the vocabulary's size - 1."""
        table = self.embedding.embedding.astype(self.config.dtype)
        return look_up(table, tokens, mode="fill")

    def __call__(
        self,
        x: Float[Array, "R T D"],
        mask: Bool[Array, "R T"],
        positions: Int[Array, "R T 3"],
        past: Sequence[Cache],
    ) -> tuple[Float[Array, "R T D"], Cache]:
        """Normed hidden states of a segment that follows `past`, and its own cache.

        Args:
            x: Embeddings of R rows of T tokens.
            mask: False for padding, which may stand anywhere in a row.
            positions: mRoPE positions (t, h, w) from 0 on.
            past: Caches of all segments before, in order; the number of rows of each
                divides R.
        """
        # The layers' carry: rows may be the same on all devices, and their past not.
        x = vary_with(x, *jax.tree.leaves((x, mask, positions, list(past))))
        x, (keys, values) = self.stack(
            x,
            tuple((cache.keys, cache.values) for cache in past),
            tuple(cache.mask for cache in past),
            text_angles(positions, self.config),
            causal_mask(mask),
        )
        return self.final_norm(x), Cache(keys, values, mask)

    def logits(self, hidden: Float[Array, "*R D"]) -> Float[Array, "*R V"]:
        """Scores over the vocabulary before the softmax, in float32 at least.

        Args:
            hidden: Hidden states of any number of tokens, as `__call__` returns them.
        """
        if self.config.tied:
            kernel = self.embedding.embedding.T.astype(hidden.dtype)
        else:
            kernel = self.head.variables["params"]["kernel"].astype(hidden.dtype)
        accumulate = accumulator(hidden.dtype)
        flat = hidden.reshape(math.prod(hidden.shape[:-1]), hidden.shape[-1])
        scores = jnp.matmul(flat, kernel, preferred_element_type=accumulate)
        return scores.reshape(*hidden.shape[:-1], kernel.shape[-1])
