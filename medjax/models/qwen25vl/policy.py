"""The policy as functions of (config, params): encode, prefill, extend, logits.

A prompt is computed level by level: its context once for all questions on it, each
question once for all its completions. Every level is one call of `extend` on the caches
of the levels above, in the rollout and in the learner alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_arrays
from medjax.indexing import devices_along
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.text import Cache, TextDecoder
from medjax.models.qwen25vl.vision import VisionTower
from medjax.sharding import constrain
from medjax.types import Images, Params, Prompt, Segment


class Prefill(NamedTuple):
    """B prompts as their completions see them; B = M * Q, Q questions a context."""

    context: Cache  # [M, Lc]; each row serves Q consecutive prompts
    question: Cache  # [B, Lq]
    last: Float[Array, "B D"]  # hidden state that predicts the first new token
    next_position: Int[Array, "B"]  # mRoPE position of that token, on all three axes


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
    features = features.reshape(contexts, slots * features.shape[1], config.width)
    return constrain(features, config.rules, "batch", None, None)


def embed_tokens(
    config: Qwen25VLConfig, params: Params, tokens: Int[Array, "*R"]
) -> Float[Array, "*R D"]:
    """Rows of the embedding table, in `config.dtype`.

    Args:
        config: Decides the width D and the number of rows.
        params: The whole tree; its `text` half is used.
        tokens: Integers from 0 to V - 1, in an array of any shape, also empty. An id of
            V or more gives NaN, one from -V to -1 counts from the end of the table, a
            smaller one gives NaN.

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
            embedding, as any negative number does. An index of K F or more gives NaN.
            Where no feature replaces it, an id outside of 0 to V - 1 gives what it
            gives in `embed_tokens`. `mask` and `positions` are not read.
        features: Of the same R rows, as `encode_images` gives them; None, or none in
            them, for text alone, and then every token keeps its own embedding.

    Returns:
        Embeddings in `config.dtype`.

    Raises:
        ValueError: features of another number of rows or of another width than D,
            shapes or dtypes that do not fit.
    """
    check_arrays(
        "embed_segment",
        **{"segment.tokens": (segment.tokens, "R L", int)},
        **{"segment.features": (segment.features, "R L", int)},
        features=(features, f"R KF {config.width}", float),
    )
    x = embed_tokens(config, params, segment.tokens)
    if features is None or features.shape[1] == 0:
        return x
    index = jnp.maximum(segment.features, 0)[..., None]
    image = jnp.take_along_axis(features, index, axis=1)
    x = jnp.where(segment.features[..., None] >= 0, image, x)
    return constrain(x, config.rules, "batch", None, None)


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
            any leading axes, which the scores have too. One that is NaN makes all V
            scores of its place NaN.

    Raises:
        TypeError: hidden states of another width (JAX's own message).
    """
    return _decoder(config, params, TextDecoder.logits, hidden)


def head_kernel(config: Qwen25VLConfig, params: Params) -> Float[Array, "D V"]:
    """The output layer, in the parameters' dtype: the embedding where they are tied.

    Args:
        config: Decides whether the embedding is the output layer.
        params: The whole tree; its `text` half is used.
    """
    return _decoder(config, params, TextDecoder.head_kernel)


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
            The last column of a question must not be padding, which is not checked: a
            completion would begin from a state that means nothing.
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
        prompt: M contexts of Lc tokens with B / M questions of Lq each, rows of one
            context consecutive; Lc and Lq are 1 or more. Where a segment's mask is
            True, ids are 0 to V - 1: V or more, or below -V, in a context makes all of
            it and its questions NaN, in a question all of the question; -V to -1 count
            from the end. A pixel that is NaN does what such an id of its context does.
            All M Lc + B Lq rows of V scores are in memory at once.

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
