"""Prompts: chat text and images joined into the arrays of a `Prompt`.

This is what transformers' combined processor does, from its parts: a tokenizer, the
image's patches, one image token a feature, and their positions.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from medjax.data.prompting.chat import (
    Style,
    answer_length,
    encode,
    prompt_text,
    special_tokens,
)
from medjax.data.prompting.layout import (
    Geometry,
    feature_index,
    mrope_positions,
    num_windows,
    pack_images,
)
from medjax.types import Prompt, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Buckets(NamedTuple):
    """Sizes that arrays are padded to, rising for each."""

    windows: tuple[int, ...]  # of an image; P = windows * S
    context: tuple[int, ...]  # tokens
    question: tuple[int, ...]
    answer: tuple[int, ...]


def bucket(count: int, sizes: Sequence[int], what: str) -> int:
    """The smallest size that holds `count`.

    Args:
        count: How many there are to hold, 0 or more.
        sizes: The sizes to choose from, rising, at least one.
        what: What an error calls that which does not fit.

    Raises:
        ValueError: No size holds so many.
    """
    for size in sizes:
        if count <= size:
            return size
    raise ValueError(
        f"{what}: {count} do not fit, the largest size is {max(sizes)}; shorten it or "
        "add a larger size. Prompts are never cut"
    )


def build_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    images: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]],
    questions: Sequence[Sequence[str]],
    *,
    origins: Sequence[str],
    style: Style,
    geometry: Geometry,
    buckets: Buckets,
    slots: int,
) -> Prompt:
    """M contexts with Q questions each as one `Prompt` of NumPy arrays.

    Args:
        tokenizer: It must have the special tokens of the Qwen2.5-VL family.
        images: The images of each of M contexts as they are shown, see `resize_image`.
        questions: The Q questions of each context, the same number for all, 1 or more.
        origins: What errors call each of the M contexts.
        style: The words around each question; its `answer` is not read here.
        geometry: How the vision tower cuts images; it must be the policy's.
        buckets: Sizes to pad to; each array takes the smallest that holds the batch.
        slots: K, the most images that a context has; those left over are masked.

    Raises:
        ValueError: There are more images than slots, no bucket holds a size, or a
            question has an image token in it; the message names the context.
    """
    ids = special_tokens(tokenizer)
    sizes = [[image.shape[:2] for image in row] for row in images]
    for row, origin in zip(sizes, origins, strict=True):
        if len(row) > slots:
            raise ValueError(f"{origin}: {len(row)} images for {slots} slots")
    most = max(
        (num_windows(size, geometry) for row in sizes for size in row), default=0
    )
    windows = bucket(most, buckets.windows, "windows of an image")
    slot = windows * geometry.window_patches // geometry.merge**2  # F
    contexts, tails, rows = [], [], []
    for shown, texts, origin in zip(sizes, questions, origins, strict=True):
        text, parts = prompt_text(texts, images=len(shown), style=style)
        tokens = encode(tokenizer, text)
        context, start = _context(tokens, shown, geometry, slot, ids.image_pad)
        contexts.append(context)
        for part in parts:
            tokens = np.array(encode(tokenizer, part), np.int32)
            check_features(int((tokens == ids.image_pad).sum()), 0, origin)
            steps = np.arange(start, start + len(tokens), dtype=np.int32)
            no_image = np.full(len(tokens), -1, np.int32)
            tails.append(_Row(tokens, np.repeat(steps[:, None], 3, axis=1), no_image))
            rows.append(origin)
    context = _segment(contexts, buckets.context, "context", origins, ids.pad)
    question = _segment(tails, buckets.question, "question", rows, ids.pad)
    packed = pack_images(images, geometry, windows=windows, slots=slots)
    for b, origin in enumerate(origins):
        features = int(packed.mask[b].sum()) // geometry.merge**2
        check_features(int((context.features[b] >= 0).sum()), features, origin)
    return Prompt(packed, context, question, question.positions[:, -1, 0] + 1)


def check_features(tokens: int, features: int, origin: str) -> None:
    """Raise ValueError unless each image token has its feature.

    Args:
        tokens: How many image tokens there are.
        features: How many features there are.
        origin: What the error calls the prompt.

    Raises:
        ValueError: The numbers differ; both are named.
    """
    if tokens != features:
        raise ValueError(
            f"{origin}: {tokens} image tokens for {features} image features; a "
            "question must not contain <|image_pad|>"
        )


def answer_rows(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    *,
    origins: Sequence[str],
    lengths: Sequence[int],
) -> tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """Answers and their stop token, padded on the right to a size of `lengths`.

    Args:
        tokenizer: It must have the special tokens of the Qwen2.5-VL family.
        texts: The B answers, at least one.
        origins: What an error calls each answer.
        lengths: The sizes T to choose from, rising; the smallest that holds all is
            taken.

    Returns:
        Token ids, and a mask that is True up to and including the stop token.

    Raises:
        ValueError: No size holds the longest answer.
    """
    ids = special_tokens(tokenizer)
    rows = [[*encode(tokenizer, text), ids.stop] for text in texts]
    longest = max(range(len(rows)), key=lambda n: len(rows[n]))
    length = bucket(len(rows[longest]), lengths, f"{origins[longest]}: answer tokens")
    tokens = np.full((len(rows), length), ids.pad, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for n, row in enumerate(rows):
        tokens[n, : len(row)], mask[n, : len(row)] = row, True
    return tokens, mask


def plan_buckets(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    answers: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    *,
    style: Style,
    geometry: Geometry,
    slots: int,
    multiple: int,
) -> Buckets:
    """One size each that holds everything, rounded up to `multiple` tokens.

    Args:
        tokenizer: The policy's own, since it decides how many tokens a text has.
        texts: Every question that can be asked, without the style's suffix; at least
            one.
        answers: Right answers, the longest among them; the stop token is added here.
        sizes: Every (height, width) at which an image is shown, see `shown_size`.
        style: The words around each question.
        geometry: Decides how many tokens and windows an image has.
        slots: K, the most images that a context has.
        multiple: Every number of tokens is rounded up to a multiple of this, 1 or more.

    Returns:
        One size each for windows of an image, tokens of a context, of a question and of
        an answer.
    """
    context, questions = prompt_text(tuple(texts), images=slots, style=style)
    tokens = max(h * w // geometry.factor**2 for h, w in sizes)
    longest = {
        "context": len(encode(tokenizer, context)) + slots * (tokens - 1),
        "question": max(len(encode(tokenizer, text)) for text in questions),
        "answer": answer_length(tokenizer, answers),
    }
    rounded = {k: (-(-n // multiple) * multiple,) for k, n in longest.items()}
    windows = max(num_windows(size, geometry) for size in sizes)
    return Buckets(windows=(windows,), **rounded)


class _Row(NamedTuple):
    """One row of a segment before padding."""

    tokens: Int[np.ndarray, "l"]
    positions: Int[np.ndarray, "l 3"]
    features: Int[np.ndarray, "l"]


def _context(
    tokens: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    geometry: Geometry,
    slot: int,
    image_token: int,
) -> tuple[_Row, int]:
    """The context with one image token a feature, and the position after it."""
    index = [feature_index(s, geometry) + k * slot for k, s in enumerate(sizes)]
    repeats, images = np.ones(len(tokens), np.int64), iter(index)
    for n in np.flatnonzero(np.array(tokens) == image_token):
        repeats[n] = len(next(images))
    expanded = np.repeat(np.array(tokens, np.int32), repeats)
    features = np.full(len(expanded), -1, np.int32)
    if index:
        features[expanded == image_token] = np.concatenate(index)
    grids = [(h // geometry.factor, w // geometry.factor) for h, w in sizes]
    positions, start = mrope_positions(expanded, grids, image_token)
    return _Row(expanded, positions, features), start


def _segment(
    rows: Sequence[_Row],
    sizes: Sequence[int],
    what: str,
    origins: Sequence[str],
    pad: int,
) -> Segment:
    """Rows padded on the left to the smallest of `sizes` that holds them all."""
    longest = max(range(len(rows)), key=lambda n: len(rows[n].tokens))
    label = f"{origins[longest]}: {what} tokens"
    length = bucket(len(rows[longest].tokens), sizes, label)
    segment = Segment(
        tokens=np.full((len(rows), length), pad, np.int32),
        mask=np.zeros((len(rows), length), bool),
        positions=np.zeros((len(rows), length, 3), np.int32),
        features=np.full((len(rows), length), -1, np.int32),
    )
    for n, row in enumerate(rows):
        start = length - len(row.tokens)
        segment.tokens[n, start:], segment.mask[n, start:] = row.tokens, True
        segment.positions[n, start:] = row.positions
        segment.features[n, start:] = row.features
    return segment
