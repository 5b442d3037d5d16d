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

from medjax.checks import check_arrays, check_key, check_static
from medjax.indexing import devices_along, repeat_rows
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.text import Cache, TextDecoder
from medjax.models.qwen25vl.vision import VisionTower
from medjax.types import Images, Key, Params, Prompt, Segment


class Prefill(NamedTuple):
    """B prompts as their completions see them; B = M * Q, Q questions a context."""

    context: Cache  # [M, Lc]; each row serves Q consecutive prompts
    question: Cache  # [B, Lq]
    last: Float[Array, "B D"]  # hidden state that predicts the first new token
    next_position: Int[Array, "B"]  # mRoPE position of that token, on all three axes


def init_params(config: Qwen25VLConfig, key: Key) -> Params:
    """Random parameters of a policy that has learnt nothing.

    Kernels are normal, cut at two sd, with variance 1 / fan-in; the embedding is normal
    with sd 0.02; norms are 1 and biases 0.

    Args:
        config: Decides the sizes and, by `param_dtype`, the dtype of all parameters;
            `vision` and `text` are the two halves of the tree.
        key: A typed key, which is consumed; one of `jax.random.PRNGKey` is refused.

    Returns:
        A tree of dictionaries, {"vision": ..., "text": ...}, of arrays in
        `config.param_dtype`. Layers of one kind are stacked along the first axis, and
        kernels are [in, out].

    Raises:
        ValueError: a key of `jax.random.PRNGKey`, or several keys.
    """
    check_key("init_params", key=key)
    # flax counts the draws of a scan's body, which disable_jit would run layer by layer
    with jax.disable_jit(False):
        return _init_params(config, key)


@partial(jax.jit, static_argnums=0)  # op by op it takes 3 times as long to compile
def _init_params(config: Qwen25VLConfig, key: Key) -> Params:
    return nn.unbox(_boxed_params(config, key))


def param_axes(config: Qwen25VLConfig) -> Params:
    """The tree of `init_params` with a PartitionSpec of logical names for each array.

    The names are embed, mlp, heads, kv_heads, vocab, norm, patch and, for the axis that
    stacks layers, layers. No number is computed. `medjax.sharding.to_named_sharding`
    turns the tree into shardings by rules that say which mesh axes a name falls on.

    Args:
        config: Decides which arrays there are; no size or dtype is in the result.
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
) -> Float[Array, "M KF D"]:
    """Features of each context's images: K slots of F features, slot after slot.

    Args:
        config: Decides the dtype of the features and D, their width.
        params: The whole tree; its `vision` half is used.
        images: K image slots for each of M contexts: pixels normalised by the
            checkpoint's mean and sd of each colour (CLIP's for the published ones), in
            the padded window order that the record `Images` describes, P a multiple of
            the patches in a window. K = 0 is text alone and gives no features. Features
            of padding are noise, which no token refers to.

    Returns:
        [M, K F, D] in `config.dtype`: of slot k the features k F to (k + 1) F - 1, F
        the patches P over merge^2, in the order of the patches.

    Raises:
        ValueError: shapes or dtypes that do not fit, or a P of no whole windows.
    """
    vision = config.vision
    pixels = vision.channels * vision.temporal * vision.patch**2
    check_arrays(
        "encode_images",
        patches=(images.patches, f"M K P {pixels}", float),
        rows_cols=(images.rows_cols, "M K P 2", int),
        mask=(images.mask, "M K P", bool),
    )
    contexts, slots, length = images.mask.shape
    if length % (window := (vision.window // vision.patch) ** 2):
        raise ValueError(
            f"encode_images: images: expected whole windows of {window} patches, found "
            f"{length} patches; fill them up with patches whose mask is False"
        )
    if slots * length == 0:
        return jnp.zeros((contexts, 0, config.width), jnp.dtype(config.dtype))
    rows = contexts * slots
    flat = jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), images)
    tower: Any = VisionTower(config)  # `apply` is typed for mutable variables too
    features = tower.apply({"params": params["vision"]}, *flat)
    return features.reshape(contexts, slots * features.shape[1], config.width)


def embed_tokens(
    config: Qwen25VLConfig, params: Params, tokens: Int[Array, "*R"]
) -> Float[Array, "*R D"]:
    """Rows of the embedding table, in `config.dtype`.

    Args:
        config: Decides the width D and the number of rows.
        params: The whole tree; its `text` half is used.
        tokens: Integers from 0 to V - 1, in an array of any shape, also empty. An id of
            V or more gives NaN, a negative one counts from the end of the table.

    Raises:
        TypeError: tokens that are no integers (JAX's own message).
    """
    return _decoder(config, params, TextDecoder.embed, tokens)


def embed_segment(
    config: Qwen25VLConfig,
    params: Params,
    segment: Segment,
    features: Float[Array, "R KF D"] | None,
) -> Float[Array, "R L D"]:
    """Token embeddings, with an image feature in place of each image token.

    Args:
        config: Decides the width D and the dtype of the result.
        params: The whole tree; its `text` half is used.
        segment: R rows of L tokens; its `features` [R, L] say which of a row's K F
            features replaces which token, from 0 on, and -1 keeps the token's own
            embedding. An index of K F or more gives NaN. `mask` and `positions` are not
            read.
        features: Of the same R rows, as `encode_images` gives them; None, or none in
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
    x: Float[Array, "R T D"],
    mask: Bool[Array, "R T"],
    positions: Int[Array, "R T 3"],
    past: Sequence[Cache],
) -> tuple[Float[Array, "R T D"], Cache]:
    """Normed hidden states of T more tokens after `past`, and a cache of these T alone.

    Append the cache to `past` to go on.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; its `text` half is used.
        x: Embeddings of T >= 1 tokens in each of R rows, from `embed_tokens` or
            `embed_segment`; R may be 0.
        mask: False for padding: nothing attends to it, and its own hidden states are
            finite but mean nothing. Inside the segment a token sees those before it.
        positions: mRoPE positions (t, h, w) from 0 on; of text all three are equal.
            Those of padding may be any numbers.
        past: Caches of everything before, in order; () at the start of a prompt. The
            number of rows of each divides R: a row serves R / rows consecutive rows
            of `x`.

    Returns:
        States [R, T, D] in `config.dtype`, and the cache of R rows of T tokens.

    Raises:
        ValueError: shapes or dtypes that do not fit, no token, a cache whose rows do
            not divide R, or one whose rows do not divide over the devices of an
            Explicit mesh that the rows of `x` lie on.
    """
    check_arrays(
        "extend",
        x=(x, f"R T {config.width}", float),
        mask=(mask, "R T", bool),
        positions=(positions, "R T 3", int),
    )
    (rows, length), devices = x.shape[:2], devices_along(x, 0)
    for cache in past:
        shared = cache.mask.shape[0]
        if rows % shared if shared else rows:
            raise ValueError(
                f"extend: past: expected caches whose rows divide the {rows} rows of "
                f"x, found one of {shared}; rows that share a prefix are consecutive"
            )
        if shared % devices:
            raise ValueError(
                f"extend: past: expected caches whose rows divide over the {devices} "
                f"devices that the {rows} rows of x lie on (mesh axes are Explicit), "
                f"found one of {shared} rows (of contexts, or of prompts); take a "
                f"multiple of {devices} of them a batch, fewer devices, or a mesh of "
                "Auto axes: axis_types=(jax.sharding.AxisType.Auto,)"
            )
    if length < 1:
        raise ValueError("extend: x: expected T >= 1 tokens, found 0")
    if config.scan_unroll is None and length == 1:
        # unrolled, every layer would copy the caches of a loop over tokens
        config = replace(config, scan_unroll=1)
    return _decoder(config, params, TextDecoder.__call__, x, mask, positions, past)


def logits(
    config: Qwen25VLConfig, params: Params, hidden: Float[Array, "*R D"]
) -> Float[Array, "*R V"]:
    """Scores over the vocabulary before the softmax, in float32 (float64 for float64).

    Args:
        config: Decides the vocabulary V and whether the embedding is the output layer.
        params: The whole tree; its `text` half is used.
        hidden: Hidden states as `extend` returns them, of width D in the last axis and
            any leading axes. One that is NaN makes all V scores of its place NaN.
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
    features: Float[Array, "M KF D"],
) -> Prefill:
    """Compute B prompts once, for any number of completions of each.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; its `text` half is used.
        prompt: M contexts with B / M questions each, rows of one context consecutive.
            The last column of a question must not be padding.
        features: What `encode_images` makes of `prompt.images`; images stand in the
            contexts alone.

    Returns:
        Keys and values of the M contexts and B questions, the hidden states that
        predict the first new tokens, all in `config.dtype`, and these tokens'
        positions.

    Raises:
        ValueError: shapes or dtypes that do not fit, no column of tokens, or contexts
            that do not divide over the devices of an Explicit mesh that the questions
            lie on.
    """
    last_hidden, context, question = _prompt_hidden(config, params, prompt, features)
    return Prefill(context, question, last_hidden[:, -1], prompt.next_position)


def prompt_logits(
    config: Qwen25VLConfig, params: Params, prompt: Prompt
) -> tuple[Float[Array, "M Lc V"], Float[Array, "B Lq V"]]:
    """Next-token scores at every position of the prompt's two segments.

    Scores at padding mean nothing.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; both halves are used, the images are encoded too.
        prompt: M contexts of Lc tokens and B questions of Lq, see `prefill`. All
            M Lc + B Lq rows of V scores are in memory at once.

    Returns:
        Scores of each context's Lc positions and of each question's Lq before the
        softmax, in float32 (float64 for a `config.dtype` of float64): entry l of a row
        is about token l + 1.

    Raises:
        ValueError: what `encode_images` and `prefill` refuse.
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
    features: Float[Array, "M KF D"],
) -> tuple[Float[Array, "B Lq D"], Cache, Cache]:
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
    tokens: Int[Array, "B G T"],
    mask: Bool[Array, "B G T"],
    *,
    chunk: int | None = None,
) -> tuple[Float[Array, "B G T"], Float[Array, "B G T"]]:
    """Log-probability of each completion token, and the entropy there, in nats.

    log pi(o_t | q, o_<t) over the whole vocabulary at temperature 1, as the learner
    needs it; scores are made at completion positions only.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; its `text` half is used.
        prefilled: What `prefill` made of the B prompts under the same parameters;
            gradients flow through it.
        tokens: Ids from 0 to V - 1 of G completions of each prompt, T tokens each. Each
            size may be 0. Where the mask is False any number may stand.
        mask: True up to and including a completion's last token, which is the stop
            token where there is one, and False after it. No token attends to a place
            of False; scores there are finite but mean nothing.
        chunk: Scores are made for so many positions at a time, a Python integer
            (static) of 1 or more, and once more in the backward pass, so that memory
            holds B G chunk V of them instead of B G T V. Where it does not divide T,
            the last piece is filled up with padding. None makes them all at once.

    Returns:
        Log-probabilities (0 or less) and entropies (0 to log V), float32, or float64
        for a `config.dtype` of float64.

    Raises:
        ValueError: shapes or dtypes that do not fit, a `chunk` that is traced or below
            1, or completions of one prompt that an Explicit mesh divides.
    """
    check_arrays(
        "completion_logps",
        next_position=(prefilled.next_position, "B", int),
        tokens=(tokens, "B G T", int),
        mask=(mask, "B G T", bool),
    )
    check_static("completion_logps", chunk=chunk)
    if chunk is not None and chunk < 1:
        raise ValueError(
            f"completion_logps: chunk: expected 1 or more positions, found {chunk}; "
            "None scores all at once"
        )
    if (devices := max(devices_along(x, 1) for x in (tokens, mask))) > 1:
        raise ValueError(
            "completion_logps: tokens, mask: expected all G completions of a prompt on "
            f"one device, found them divided over {devices} (mesh axes are Explicit); "
            "divide the prompts, axis B"
        )
    rows, group, length = tokens.shape
    flat_mask = mask.reshape(rows * group, length)
    # whatever stands behind a completion, -100 say, is no id
    flat = jnp.where(flat_mask, tokens.reshape(rows * group, length), 0)
    hidden = repeat_rows(prefilled.last, group)[:, None]
    if length > 1:
        steps = jnp.arange(length - 1, dtype=jnp.int32)
        start = repeat_rows(prefilled.next_position, group)
        positions = (start[:, None] + steps[None])[..., None]
        further, _ = extend(
            config,
            params,
            embed_tokens(config, params, flat[:, :-1]),
            flat_mask[:, :-1],
            jnp.broadcast_to(positions, (*positions.shape[:2], 3)),
            (prefilled.context, prefilled.question),
        )
        hidden = jnp.concatenate([hidden, further], axis=1)
    hidden = hidden[:, :length]

    def score(
        hidden: Float[Array, "R c D"], tokens: Int[Array, "R c"]
    ) -> tuple[Float[Array, "R c"], Float[Array, "R c"]]:
        log_probs = jax.nn.log_softmax(logits(config, params, hidden))
        picked = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
        return picked, -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    if chunk is None or not flat.size:
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
