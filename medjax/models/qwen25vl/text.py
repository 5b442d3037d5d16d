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
    linear_options,
    rematerialised,
    unrolled_layers,
)
from medjax.models.qwen25vl.rope import rotate, text_angles
from medjax.sharding import RuleTable, constrain, rule_table

_ROWS = ("batch", None, None)  # of hidden states
_CACHED = (None, "batch", None, "kv_heads", None)  # of all layers' keys and values


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
        options = linear_options(config)
        x = constrain(x, config.rules, *_ROWS)
        h = RMSNorm(config.norm_eps, config.param_dtype, name="input_norm")(x)
        mixed, own = _Attention(config, name="attention")(
            h, past, past_masks, angles, own_mask
        )
        x = constrain(x + mixed, config.rules, *_ROWS)
        h = RMSNorm(config.norm_eps, config.param_dtype, name="post_norm")(x)
        mlp = SwiGLU(
            config.width, config.mlp, False, rules=config.rules, name="mlp", **options
        )
        return constrain(x + mlp(h), config.rules, *_ROWS), own


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
        options = linear_options(config)

        def heads(name: str, count: int) -> Float[Array, "R T H d"]:
            axis = "heads" if name == "q" else "kv_heads"
            linear = Linear(
                *(count * config.head_dim, ("embed", axis)),
                **{"name": name, "bias": True, **options},
            )
            y = linear(x).reshape(*x.shape[:2], count, config.head_dim)
            return constrain(y, config.rules, "batch", None, axis, None)

        q = rotate(heads("q", config.heads), angles)
        k = rotate(heads("k", config.kv_heads), angles)
        v = heads("v", config.kv_heads)
        blocks = [
            KeyBlock(keys, values, mask[:, None, :])
            for (keys, values), mask in zip(past, past_masks, strict=True)
        ]
        mixed = attend(q, [*blocks, KeyBlock(k, v, own_mask)])
        mixed = constrain(mixed, config.rules, "batch", None, "heads", None)
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
        options = linear_options(config)
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
        x, rules = look_up(table, tokens, mode="fill"), self.config.rules
        # first every row's share of the width, as the table lies, then whole rows: in
        # one step XLA would gather the rows of all devices, or the whole table
        apart, leading = _apart(rules, "batch", "embed"), _leading(tokens.ndim)
        x = constrain(x, apart, *leading, "embed" if apart else None)
        return constrain(x, rules, *leading, None)

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
        rules = self.config.rules
        keys, values = (constrain(y, rules, *_CACHED) for y in (keys, values))
        return constrain(self.final_norm(x), rules, *_ROWS), Cache(keys, values, mask)

    def logits(self, hidden: Float[Array, "*R D"]) -> Float[Array, "*R V"]:
        """Scores over the vocabulary before the softmax, in float32 at least.

        Args:
            hidden: Hidden states of any number of tokens, as `__call__` returns them.
        """
        scores = head_scores(self.head_kernel(), hidden)
        return constrain(scores, self.config.rules, *_leading(hidden.ndim - 1), "vocab")

    def head_kernel(self) -> Float[Array, "D V"]:
        """The output layer in the parameters' dtype, perhaps the embedding."""
        if self.config.tied:
            return self.embedding.embedding.T
        return self.head.variables["params"]["kernel"]


def head_scores(
    kernel: Float[Array, "D V"], hidden: Float[Array, "*R D"]
) -> Float[Array, "*R V"]:
    """Scores over the vocabulary before the softmax, in float32 at least.

    Args:
        kernel: The output layer in any dtype; it is cast to that of `hidden`.
        hidden: Hidden states of any number of tokens.
    """
    kernel, accumulate = kernel.astype(hidden.dtype), accumulator(hidden.dtype)
    flat = hidden.reshape(math.prod(hidden.shape[:-1]), hidden.shape[-1])
    scores = jnp.matmul(flat, kernel, preferred_element_type=accumulate)
    return scores.reshape(*hidden.shape[:-1], kernel.shape[-1])


def _apart(rules: RuleTable, name: str, other: str) -> RuleTable:
    """The rules, with a logical name kept off the mesh axes of another one."""
    taken = dict(rules).get(other, ())
    kept = {name: tuple(a for a in dict(rules).get(name, ()) if a not in taken)}
    return rule_table(dict(rules) | kept) if rules else ()


def _leading(count: int) -> tuple[str | None, ...]:
    """Logical names of so many leading axes, of which the first are rows."""
    return ("batch", *[None] * count)[:count]
