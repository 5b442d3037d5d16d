"""Prompts: chat text and images joined into the arrays of a `Prompt`.

The text is Qwen2.5-VL's template. It is cut after the last `<|vision_end|>` (without
images: after the system turn) into the context and the question, so that several
questions share one context. The cut lies behind a special token, where a tokenizer cuts
in any case: the two halves give the tokens of the whole.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from medjax.data.layout import (
    Geometry,
    feature_index,
    mrope_positions,
    num_windows,
    pack_images,
)
from medjax.types import Prompt, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = "You are a helpful assistant."
INSTRUCTION = (
    " First reason about what the image shows between <think> and </think>, then give "
    "the box as JSON in pixels of the image between <answer> and </answer>, like this: "
    '<think>reasoning</think><answer>[{"bbox_2d": [x1, y1, x2, y2], "label": "name"}]'
    "</answer>"
)
ANSWERS = ("list", "object")
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


class Style(NamedTuple):
    """The words around a question, and the form of its answer."""

    system: str | None  # None: no system turn
    suffix: str  # follows every question
    answer: str  # one of ANSWERS; "object" is the shorter


class Tokens(NamedTuple):
    """Ids of the special tokens that prompts are made of."""

    image_pad: int
    vision_end: int
    stop: int  # <|im_end|>
    pad: int


class Buckets(NamedTuple):
    """Sizes that arrays are padded to, each a set of increasing ones."""

    windows: tuple[int, ...]  # of an image; P = windows * S
    context: tuple[int, ...]  # tokens
    question: tuple[int, ...]
    answer: tuple[int, ...]


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> Tokens:
    """Ids of the special tokens; a tokenizer without one of them is an error."""
    vocab = tokenizer.get_vocab()
    names = ("<|image_pad|>", "<|vision_end|>", "<|im_end|>", "<|endoftext|>")
    missing = [
        t for t in (*names, "<|im_start|>", "<|vision_start|>") if t not in vocab
    ]
    if missing:
        raise ValueError(
            f"tokenizer without {', '.join(missing)}: expected one of the Qwen2.5-VL "
            "family, or one that medjax.data.tokenizer.train_tokenizer made"
        )
    return Tokens(*(vocab[t] for t in names))


def prompt_text(
    questions: Sequence[str], *, images: int, style: Style
) -> tuple[str, list[str]]:
    """The context's text and that of each question, one `<|image_pad|>` an image."""
    system, user = "", "<|im_start|>user\n"
    if style.system is not None:
        system = f"<|im_start|>system\n{style.system}<|im_end|>"
        user = "\n" + user
    if images:
        context, start = system + user + _IMAGE * images, ""
    elif system:
        context, start = system, user
    else:
        context, start = "<|im_start|>", "user\n"
    end = f"{style.suffix}<|im_end|>\n<|im_start|>assistant\n"
    return context, [start + question + end for question in questions]


def answer_text(box: Sequence[float], name: str, *, style: str) -> str:
    """The supervised answer, with corners in whole pixels of the shown image.

    >>> answer_text((1, 2, 30, 40), "left insula", style="object")
    '<think>left insula</think><answer>{"bbox_2d": [1, 2, 30, 40]}</answer>'
    """
    corners = ", ".join(str(round(float(x))) for x in box)
    if style == "object":
        answer = f'{{"bbox_2d": [{corners}]}}'
    elif style == "list":
        answer = f'[{{"bbox_2d": [{corners}], "label": "{name}"}}]'
    else:
        raise ValueError(f"answer style {style!r}: expected one of {ANSWERS}")
    return f"<think>{name}</think><answer>{answer}</answer>"


def corpus(texts: Sequence[str], names: Sequence[str], style: Style) -> tuple[str, ...]:
    """All text that a run's tokenizer will meet: questions, answers, template."""
    context, questions = prompt_text(tuple(texts), images=1, style=style)
    answers = (
        answer_text((i % 10, 10 + i % 90, 100 + i, 57), name, style=style.answer)
        for i, name in enumerate(names)
    )
    return (context, *questions, *answers)


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a text, nothing added."""
    return tokenizer.encode(text, add_special_tokens=False)


def bucket(count: int, sizes: Sequence[int], what: str) -> int:
    """The smallest size that holds `count`; none does: an error naming `what`."""
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
    """B contexts with Q questions each as one `Prompt` of NumPy arrays.

    Args:
        tokenizer: of the Qwen2.5-VL family.
        images: shown images (see `resize_image`) of each context.
        questions: Q of each context.
        origins: what errors call each context.
        style: text around the questions.
        geometry: of the vision tower.
        buckets: sizes to pad to; each array takes the smallest that holds the batch.
        slots: K, image slots of a context.
    """
    ids = special_tokens(tokenizer)
    windows = bucket(
        max(
            (num_windows(i.shape[:2], geometry) for row in images for i in row),
            default=0,
        ),
        buckets.windows,
        "windows of an image",
    )
    length = windows * geometry.window_patches // geometry.merge**2  # F of a slot
    contexts, features, contexts_at, asked, asked_at = [], [], [], [], []
    for row, texts, origin in zip(images, questions, origins, strict=True):
        if len(row) > slots:
            raise ValueError(f"{origin}: {len(row)} images, slots are {slots}")
        sizes = [image.shape[:2] for image in row]
        grids = [(h // geometry.factor, w // geometry.factor) for h, w in sizes]
        text, parts = prompt_text(texts, images=len(row), style=style)
        counts = iter([h * w for h, w in grids])
        tokens = [
            token
            for one in encode(tokenizer, text)
            for token in [one] * (next(counts, 1) if one == ids.image_pad else 1)
        ]
        index = [feature_index(s, geometry) + k * length for k, s in enumerate(sizes)]
        array = np.array(tokens, np.int32)
        place = np.full(len(array), -1, np.int32)
        spots = array == ids.image_pad
        check_features(int(spots.sum()), sum(len(i) for i in index), origin)
        place[spots] = np.concatenate(index) if index else []
        positions, start = mrope_positions(array, grids, ids.image_pad)
        contexts.append(array)
        contexts_at.append(positions)
        features.append(place)
        for part in parts:
            tokens = np.array(encode(tokenizer, part), np.int32)
            check_features(int((tokens == ids.image_pad).sum()), 0, origin)
            asked.append(tokens)
            steps = np.arange(start, start + len(tokens), dtype=np.int32)
            asked_at.append(np.repeat(steps[:, None], 3, axis=1))
    per_context = len(asked) // len(contexts)
    rows = [origins[n // per_context] for n in range(len(asked))]
    context = _segment(
        contexts, contexts_at, features, buckets.context, "context", origins, ids.pad
    )
    text_only = [np.full(len(tokens), -1, np.int32) for tokens in asked]
    question = _segment(
        asked, asked_at, text_only, buckets.question, "question", rows, ids.pad
    )
    packed = pack_images(images, geometry, windows=windows, slots=slots)
    return Prompt(packed, context, question, question.positions[:, -1, 0] + 1)


def check_features(tokens: int, features: int, origin: str) -> None:
    """Raise ValueError unless each image token has its feature."""
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
) -> tuple[Int[np.ndarray, "N T"], Bool[np.ndarray, "N T"]]:
    """Answers and their stop token, padded on the right to a size of `lengths`."""
    ids = special_tokens(tokenizer)
    rows = [[*encode(tokenizer, text), ids.stop] for text in texts]
    longest = max(range(len(rows)), key=lambda n: len(rows[n]))
    length = bucket(len(rows[longest]), lengths, f"{origins[longest]}: answer tokens")
    tokens = np.full((len(rows), length), ids.pad, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for n, row in enumerate(rows):
        tokens[n, : len(row)], mask[n, : len(row)] = row, True
    return tokens, mask


def answer_length(
    tokenizer: "PreTrainedTokenizerBase",
    names: Sequence[str],
    *,
    sizes: Sequence[tuple[int, int]],
    style: str,
) -> int:
    """Tokens of the longest right answer, stop token included.

    The bound on generation must not be below it: no answer could earn a reward.
    """
    height, width = (max(size[a] for size in sizes) for a in (0, 1))
    box = (width, height, width, height)
    texts = (answer_text(box, name, style=style) for name in names)
    return 1 + max(len(encode(tokenizer, text)) for text in texts)


def check_answer_length(
    tokenizer: "PreTrainedTokenizerBase",
    names: Sequence[str],
    *,
    sizes: Sequence[tuple[int, int]],
    style: str,
    length: int,
) -> None:
    """Raise ValueError if `length` new tokens cannot hold an answer of the format."""
    needed = answer_length(tokenizer, names, sizes=sizes, style=style)
    if length < needed:
        raise ValueError(
            f"answers may have {length} tokens, but one in the asked format takes up "
            f"to {needed}: raise the length to at least {needed}"
        )


def plan_buckets(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    *,
    style: Style,
    geometry: Geometry,
    slots: int,
    multiple: int,
) -> Buckets:
    """One size each that holds everything, rounded up to `multiple` tokens.

    `sizes` are those at which images are shown.
    """
    context, questions = prompt_text(tuple(texts), images=slots, style=style)
    tokens = max(h * w // geometry.factor**2 for h, w in sizes)
    longest = {
        "context": len(encode(tokenizer, context)) + slots * (tokens - 1),
        "question": max(len(encode(tokenizer, text)) for text in questions),
        "answer": answer_length(tokenizer, names, sizes=sizes, style=style.answer),
    }
    rounded = {k: (-(-n // multiple) * multiple,) for k, n in longest.items()}
    windows = max(num_windows(size, geometry) for size in sizes)
    return Buckets(windows=(windows,), **rounded)


def _segment(
    rows: Sequence[Int[np.ndarray, "l"]],
    positions: Sequence[Int[np.ndarray, "l 3"]],
    features: Sequence[Int[np.ndarray, "l"]],
    sizes: Sequence[int],
    what: str,
    origins: Sequence[str],
    pad: int,
) -> Segment:
    """Rows padded on the left to the smallest of `sizes` that holds them all."""
    longest = max(range(len(rows)), key=lambda n: len(rows[n]))
    label = f"{origins[longest]}: {what} tokens"
    length = bucket(len(rows[longest]), sizes, label)
    segment = Segment(
        tokens=np.full((len(rows), length), pad, np.int32),
        mask=np.zeros((len(rows), length), bool),
        positions=np.zeros((len(rows), length, 3), np.int32),
        features=np.full((len(rows), length), -1, np.int32),
    )
    for n, row in enumerate(rows):
        start = length - len(row)
        segment.tokens[n, start:], segment.mask[n, start:] = row, True
        segment.positions[n, start:] = positions[n]
        segment.features[n, start:] = features[n]
    return segment
