"""Completions of a policy for a batch of prompts, each prompt computed once."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.policy import (
    Prefill,
    embed_tokens,
    encode_images,
    extend,
    logits,
    prefill,
)
from medjax.models.qwen25vl.text import Cache
from medjax.rl.sampling import rollout_keys, sample_loop
from medjax.types import Key, Params, Prompt, Rollout


def sample(
    config: Qwen25VLConfig,
    params: Params,
    prefilled: Prefill,
    sample_id: Int[Array, "N"],
    key: Key,
    *,
    group: int,
    max_tokens: int,
    stop_tokens: Sequence[int],
    pad: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Rollout:
    """Sample `group` completions of each of N prompts; `key` is consumed.

    The prompt's caches are shared by the group, each completion adds a cache of its own
    tokens only. See `sample_loop` for the sampling distribution and `rollout_keys` for
    what the noise depends on.
    """
    rows = prefilled.next_position.shape[0] * group
    start = jnp.repeat(prefilled.next_position, group)
    shape = (config.layers, rows, max_tokens, config.kv_heads, config.head_dim)
    empty = Cache(
        jnp.zeros(shape, jnp.dtype(config.dtype)),
        jnp.zeros(shape, jnp.dtype(config.dtype)),
        jnp.zeros((rows, max_tokens), bool),
    )

    def step(
        own: Cache, tokens: Int[Array, "R"], index: Int[Array, ""]
    ) -> tuple[Float[Array, "R V"], Cache]:
        position = jnp.broadcast_to((start + index)[:, None, None], (rows, 1, 3))
        hidden, new = extend(
            config,
            params,
            embed_tokens(config, params, tokens[:, None]),
            jnp.ones((rows, 1), bool),
            position,
            (prefilled.context, prefilled.question, own),
        )
        write = jax.lax.dynamic_update_slice_in_dim
        own = Cache(
            write(own.keys, new.keys, index, axis=2),
            write(own.values, new.values, index, axis=2),
            write(own.mask, new.mask, index, axis=1),
        )
        return logits(config, params, hidden[:, 0]), own

    first = logits(config, params, prefilled.last)
    samples = sample_loop(
        step,
        empty,
        jnp.repeat(first, group, axis=0),
        rollout_keys(key, sample_id, group),
        max_tokens=max_tokens,
        stop_tokens=stop_tokens,
        pad=pad,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )
    split = (rows // group, group, max_tokens)
    return Rollout(*(field.reshape(split) for field in samples))


def sample_prompt(
    config: Qwen25VLConfig,
    params: Params,
    prompt: Prompt,
    sample_id: Int[Array, "N"],
    key: Key,
    **options: Any,
) -> Rollout:
    """`sample` from prompts that are not computed yet; the options are its own."""
    features = encode_images(config, params, prompt.images)
    prefilled = prefill(config, params, prompt, features)
    return sample(config, params, prefilled, sample_id, key, **options)
