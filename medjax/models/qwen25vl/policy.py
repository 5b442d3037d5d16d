"""The policy as functions of (config, params): encode, prefill, extend, score.

A prompt is computed level by level: its context once for all questions on it, each
question once for all its completions. Every level is one call of `extend` on the caches
of the levels above, in the rollout and in the learner alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_key
from medjax.indexing import repeat_rows
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.text import Cache, TextDecoder
from medjax.models.qwen25vl.vision import VisionTower
from medjax.types import Images, Key, Params, Prompt, Segment


class Prefill(NamedTuple):
    """N prompts as their completions see them; N = B * Q, Q questions a context."""

    context: Cache  # [B, Lc]; each row serves Q consecutive prompts
    question: Cache  # [N, Lq]
    last: Float[Array, "N D"]  # hidden state that predicts the first new token
    next_position: Int[Array, "N"]  # mRoPE position of that token, on all three axes


def init_params(config: Qwen25VLConfig, key: Key) -> Params:
    """Random parameters: fan-in scaled, unit norms, biases 0.

    Args:
        config: Decides the sizes and, by `param_dtype`, the dtype of all parameters;
            `vision` and `text` are the two halves of the tree.
        key: A typed key, which is consumed.
    """
    check_key("init_params", key=key)
    return _init_params(config, key)


@partial(jax.jit, static_argnums=0)  # op by op it takes 3 times as long to compile
def _init_params(config: Qwen25VLConfig, key: Key) -> Params:
    return nn.unbox(_boxed_params(config, key))


def param_axes(config: Qwen25VLConfig) -> Params:
    """The tree of `init_params` with a PartitionSpec of logical names for each array.

    No number is computed. `medjax.sharding.to_named_sharding` turns it into shardings.
    """
    boxed = jax.eval_shape(partial(_boxed_params, config), jax.random.key(0))
    return nn.get_partition_spec(boxed)


def _boxed_params(config: Qwen25VLConfig, key: Key) -> Params:
    vision_key, text_key = jax.random.split(key)
    vision = config.vision
    patch_dim = vision.channels * vision.temporal * vision.patch**2
    length = (vision.window // vision.patch) ** 2
    tower = VisionTower(config).init(
        vision_key,
        jnp.zeros((1, length, patch_dim), jnp.float32),
        jnp.zeros((1, length, 2), jnp.int32),
        jnp.ones((1, length), bool),
    )

    def whole(decoder: TextDecoder) -> Array:
        x = decoder.embed(jnp.zeros((1, 1), jnp.int32))
        mask, positions = jnp.ones((1, 1), bool), jnp.zeros((1, 1, 3), jnp.int32)
        hidden, _ = decoder(x, mask, positions, ())
        return hidden if config.tied else decoder.head(hidden)

    decoder = nn.init(whole, TextDecoder(config))(text_key)
    return {"vision": tower["params"], "text": decoder["params"]}


def encode_images(
    config: Qwen25VLConfig, params: Params, images: Images
) -> Float[Array, "B KF D"]:
    """Features of each context's images: K slots of F features, slot after slot.

    Args:
        config: Decides the dtype of the features and D, their width.
        params: The whole tree; its `vision` half is used.
        images: K image slots for each of B contexts, in padded window order. K = 0 is
            text alone and gives no features. Features of padding are noise, which no
            token refers to.
    """
    contexts, slots = images.mask.shape[:2]
    if slots == 0:
        return jnp.zeros((contexts, 0, config.width), jnp.dtype(config.dtype))
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), images)
    tower: Any = VisionTower(config)  # `apply` is typed for mutable variables too
    features = tower.apply({"params": params["vision"]}, *flat)
    return features.reshape(contexts, -1, config.width)


def embed_tokens(
    config: Qwen25VLConfig, params: Params, tokens: Int[Array, "*M"]
) -> Float[Array, "*M D"]:
    """Rows of the embedding table, in `config.dtype`.

    Args:
        config: Decides the width D and the number of rows.
        params: The whole tree; its `text` half is used.
        tokens: Ids from 0 to `config.vocab` - 1, in an array of any shape.
    """
    return _decoder(config, params, TextDecoder.embed, tokens)


def embed_segment(
    config: Qwen25VLConfig,
    params: Params,
    segment: Segment,
    features: Float[Array, "M KF D"] | None,
) -> Float[Array, "M L D"]:
    """Token embeddings, with an image feature in place of each image token.

    Args:
        config: Decides the width D and the dtype of the result.
        params: The whole tree; its `text` half is used.
        segment: M rows of L tokens; its `features` say which feature replaces which
            token, and -1 keeps the token's own embedding.
        features: Of the same M rows, as `encode_images` gives them; None, or none in
            them, for text alone, and then every token keeps its own embedding.
    """
    x = embed_tokens(config, params, segment.tokens)
    if features is None or features.shape[1] == 0:
        return x
    index = jnp.maximum(segment.features, 0)[..., None]
    image = jnp.take_along_axis(features, index, axis=1)
    return jnp.where(segment.features[..., None] >= 0, image, x)


def extend(
    config: Qwen25VLConfig,
    params: Params,
    x: Float[Array, "N T D"],
    mask: Bool[Array, "N T"],
    positions: Int[Array, "N T 3"],
    past: Sequence[Cache],
) -> tuple[Float[Array, "N T D"], Cache]:
    """Normed hidden states of T more tokens after `past`, and a cache of these T alone.

    Append the cache to `past` to go on.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; its `text` half is used.
        x: Embeddings of T >= 1 tokens in each of N rows, from `embed_tokens` or
            `embed_segment`.
        mask: False for padding: nothing attends to it, and its own hidden states
            mean nothing. Inside the segment a token sees those before it.
        positions: mRoPE positions (t, h, w) from 0 on; of text all three are equal.
        past: Caches of everything before, in order; () at the start of a prompt. The
            number of rows of each divides N: a row serves N / rows consecutive rows
            of `x`.
    """
    if config.scan_unroll is None and x.shape[1] == 1:
        # unrolled, every layer would copy the caches of a loop over tokens
        config = replace(config, scan_unroll=1)
    return _decoder(config, params, TextDecoder.__call__, x, mask, positions, past)


def logits(
    config: Qwen25VLConfig, params: Params, hidden: Float[Array, "*M D"]
) -> Float[Array, "*M V"]:
    """Scores over the vocabulary before the softmax, in float32 (float64 for float64).

    Args:
        config: Decides the vocabulary V and whether the embedding is the output layer.
        params: The whole tree; its `text` half is used.
        hidden: Hidden states as `extend` returns them, in an array of any shape.
    """
    return _decoder(config, params, TextDecoder.logits, hidden)


def _decoder(
    config: Qwen25VLConfig,
    params: Params,
    method: Callable[..., Any],
    *args: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    variables = {"params": params["text"]}
    return TextDecoder(config).apply(variables, *args, method=method)


def prefill(
    config: Qwen25VLConfig,
    params: Params,
    prompt: Prompt,
    features: Float[Array, "B KF D"],
) -> Prefill:
    """Compute N prompts once, for any number of completions of each.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; its `text` half is used.
        prompt: B contexts with N / B questions each, rows of one context consecutive.
            The last column of a question must not be padding.
        features: What `encode_images` makes of `prompt.images`.
    """
    last_hidden, context, question = _prompt_hidden(config, params, prompt, features)
    return Prefill(context, question, last_hidden[:, -1], prompt.next_position)


def prompt_logits(
    config: Qwen25VLConfig, params: Params, prompt: Prompt
) -> tuple[Float[Array, "B Lc V"], Float[Array, "N Lq V"]]:
    """Next-token scores at every position of the prompt's two segments.

    Scores at padding mean nothing.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; both halves are used, the images are encoded too.
        prompt: B contexts of Lc tokens and N questions of Lq, see `prefill`. All
            B Lc + N Lq rows of V scores are in memory at once.
    """
    features = encode_images(config, params, prompt.images)
    context = prompt.context
    x = embed_segment(config, params, context, features)
    hidden, _ = extend(config, params, x, context.mask, context.positions, ())
    question, _, _ = _prompt_hidden(config, params, prompt, features)
    return logits(config, params, hidden), logits(config, params, question)


def _prompt_hidden(
    config: Qwen25VLConfig,
    params: Params,
    prompt: Prompt,
    features: Float[Array, "B KF D"],
) -> tuple[Float[Array, "N Lq D"], Cache, Cache]:
    context, question = prompt.context, prompt.question
    x = embed_segment(config, params, context, features)
    _, context_cache = extend(config, params, x, context.mask, context.positions, ())
    x = embed_segment(config, params, question, None)
    hidden, question_cache = extend(
        config, params, x, question.mask, question.positions, (context_cache,)
    )
    return hidden, context_cache, question_cache


def completion_logps(
    config: Qwen25VLConfig,
    params: Params,
    prefilled: Prefill,
    tokens: Int[Array, "N G T"],
    mask: Bool[Array, "N G T"],
    *,
    chunk: int | None = None,
) -> tuple[Float[Array, "N G T"], Float[Array, "N G T"]]:
    """Log-probability of each completion token, and the entropy there, in nats.

    log pi(o_t | q, o_<t) over the whole vocabulary at temperature 1, as the learner
    needs it; scores are made at completion positions only.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; its `text` half is used.
        prefilled: What `prefill` made of the N prompts under the same parameters;
            gradients flow through it.
        tokens: Ids of G completions of each prompt, T tokens each.
        mask: False for what follows a completion's end. No token of the completion
            attends to it; its own log-probabilities are returned but mean nothing.
        chunk: Scores are made for so many positions at a time, and once more in the
            backward pass, so that memory holds N G chunk V of them instead of
            N G T V; the last time for what is left. None makes them all at once.
    """
    rows, group, length = tokens.shape
    flat, flat_mask = tokens.reshape(-1, length), mask.reshape(-1, length)
    steps = jnp.arange(length - 1, dtype=jnp.int32)
    start = repeat_rows(prefilled.next_position, group)
    positions = (start[:, None] + steps[None])[..., None]
    hidden, _ = extend(
        config,
        params,
        embed_tokens(config, params, flat[:, :-1]),
        flat_mask[:, :-1],
        jnp.broadcast_to(positions, (*positions.shape[:2], 3)),
        (prefilled.context, prefilled.question),
    )
    first = repeat_rows(prefilled.last, group)[:, None]
    hidden = jnp.concatenate([first, hidden], axis=1)

    def score(
        hidden: Float[Array, "R c D"], tokens: Int[Array, "R c"]
    ) -> tuple[Float[Array, "R c"], Float[Array, "R c"]]:
        log_probs = jax.nn.log_softmax(logits(config, params, hidden))
        picked = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
        return picked, -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    if chunk is None:
        scores = score(hidden, flat)
    else:
        if short := -length % chunk:
            hidden = jnp.pad(hidden, ((0, 0), (0, short), (0, 0)))
            flat = jnp.pad(flat, ((0, 0), (0, short)))
        pieces = (rows * group, -1, chunk)
        chunked = (
            jnp.moveaxis(hidden.reshape(*pieces, hidden.shape[-1]), 1, 0),
            jnp.moveaxis(flat.reshape(pieces), 1, 0),
        )
        scores = jax.lax.map(lambda xs: jax.checkpoint(score)(*xs), chunked)
        scores = jax.tree.map(
            lambda s: jnp.moveaxis(s, 0, 1).reshape(rows * group, -1)[:, :length],
            scores,
        )
    logp, entropy = (s.reshape(rows, group, length) for s in scores)
    return logp, entropy
