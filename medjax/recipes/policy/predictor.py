"""A policy for use: pictures and questions in, boxes or classes with confidence out."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import UInt8

from medjax.data.asking.batches import encode_pictures
from medjax.data.batches import Encoding
from medjax.data.prompting.chat import Style
from medjax.data.prompting.generation import Drawing
from medjax.data.prompting.layout import Geometry, shown_size
from medjax.data.prompting.prompts import plan_buckets
from medjax.recipes.policy.opened import Policy
from medjax.recipes.policy.opening import OPENERS, base_model, load_params
from medjax.recipes.policy.replies import ReadFn, Reply, read_replies
from medjax.rl.boxes import convert_boxes
from medjax.sharding import shard_tree
from medjax.systems.policy.answering import Answers, answer_questions
from medjax.types import Decoding, Ends, Key, Params, QuestionBatch

STRAYED = "a box leaves the picture"
_MULTIPLE = 4  # token counts are rounded up to this


class Encode(Protocol):
    """Makes a batch of pictures and questions."""

    def __call__(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        questions: Sequence[Sequence[str]],
    ) -> QuestionBatch:
        """M pictures of any size with Q questions each as B = M * Q rows.

        Args:
            images: RGB, uint8, 0 to 255, as `medjax.data.images.read_image` gives them.
            questions: Q of each picture, 1 or more, as many for all.
        """
        ...


class Answer(Protocol):
    """Answers a batch; a pure function, to be jitted."""

    def __call__(self, params: Params, batch: QuestionBatch, key: Key) -> Answers:
        """Tokens, their mask and their log-probabilities in nats, [B, T].

        Args:
            params: The policy's parameters.
            batch: From `Predictor.encode`.
            key: Decides what is drawn; a greedy answer needs none.
        """
        ...


class ReadAll(Protocol):
    """Reads what was answered."""

    def __call__(
        self, answers: Answers, sizes: Sequence[tuple[int, int]]
    ) -> list[Reply]:
        """A `Reply` for each of B rows, boxes in pixels of the picture as it came.

        Args:
            answers: From `Predictor.answer`, on the host or on the device.
            sizes: (height, width) of each row's picture, B of them.
        """
        ...


class Predictor(NamedTuple):
    """A policy as three pure functions, from pictures to boxes or classes."""

    encode: Encode
    answer: Answer
    read: ReadAll


def open_predictor(
    folder: str | Path,
    style: Style,
    read: ReadFn,
    *,
    texts: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    max_tokens: int,
    pixels: tuple[int, int] | None = None,
    dtype: str = "float32",
) -> tuple[Predictor, Params]:
    """The predictor of a Hugging Face folder, and its parameters on the first device.

    It draws as the folder's generation_config.json says, see `folder_decoding`, and
    draws the place of a pixel into pictures where its training did (medjax.json).

    Args:
        folder: One that `--mode=export` wrote, or a Qwen2.5-VL.
        style: The words around a question and the form of its answer; those of the
            training.
        read: `box_reader(style)` or `label_reader(task, style)`: what completions say.
        texts: Every question that will be asked, at least one, without the style's
            suffix.
        sizes: (height, width) of every picture, at least one: batches are padded to the
            largest.
        max_tokens: A completion without an end is cut there.
        pixels: The fewest and the most pixels that a picture is shown at; None: as in
            its training, or as the folder says.
        dtype: What is computed in, "float32" or "bfloat16".

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Its files contradict each other, or its template writes other words
            than the style.
    """
    path = Path(folder)
    opening = OPENERS[base_model(path)].open_folder(path, pixels=pixels, dtype=dtype)
    policy = opening.finish((), (), style=style)
    vocabulary = len(policy.tables.vocab_length)
    decoding = folder_decoding(
        policy.drawing, policy.ends, max_tokens=max_tokens, vocabulary=vocabulary
    )
    ramps = bool(policy.ramps)
    encoding = plan_encoding(policy, style, texts=texts, sizes=sizes, ramps=ramps)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(policy.model.init, jax.random.key(0))
    places = jax.tree.map(lambda _: place, shapes)
    load = policy.load or partial(load_params, path)
    params = shard_tree(load(places), places)
    return make_predictor(policy, encoding, decoding, read), params


def make_predictor(
    policy: Policy, encoding: Encoding, decoding: Decoding, read: ReadFn
) -> Predictor:
    """The predictor of an opened policy.

    Args:
        policy: Its model, its tokenizer and its vocabulary's bytes.
        encoding: How pictures and questions become arrays; what its buckets do not hold
            is refused, so that all batches of one number of rows have one shape.
        decoding: How tokens are drawn; temperature 0 takes the most likely.
        read: What a completion says, see `box_reader` and `label_reader`.
    """
    return Predictor(
        encode=partial(_encode, encoding),
        answer=partial(answer_questions, policy.model, decoding),
        read=partial(_read, policy, decoding.ends, read),
    )


def plan_encoding(
    policy: Policy,
    style: Style,
    *,
    texts: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    questions: int = 1,
    ramps: bool = False,
) -> Encoding:
    """How pictures become arrays, sized for all that will be asked.

    Args:
        policy: Its tokenizer and its geometry.
        style: The words around a question.
        texts: Every question, at least one, without the style's suffix.
        sizes: (height, width) of every picture as it came, at least one.
        questions: Q, of each row.
        ramps: Whether the place of a pixel is drawn into pictures, see `add_ramps`.
    """
    shown = sorted({shown_size(size, policy.geometry) for size in sizes})
    buckets = plan_buckets(
        policy.tokenizer,
        texts,
        ("",),
        shown,
        style=style,
        geometry=policy.geometry,
        slots=1,
        multiple=_MULTIPLE,
    )
    return Encoding(policy.tokenizer, style, policy.geometry, buckets, questions, ramps)


def folder_decoding(
    drawing: Drawing, ends: Ends, *, max_tokens: int, vocabulary: int
) -> Decoding:
    """How a folder's generation_config.json wants tokens drawn; greedy by default.

    As transformers reads it, `do_sample` alone decides; a temperature without it is not
    used. `top_k` of 0 and `top_p` of 1 draw from all tokens.

    Args:
        drawing: What the file says.
        ends: What ends a completion.
        max_tokens: A completion without an end is cut there.
        vocabulary: The number of tokens; a `top_k` of more draws from all.

    Raises:
        ValueError: It asks for a temperature or a top-p of 0 in drawing.
    """
    if not drawing.do_sample:
        return Decoding(ends, max_tokens, temperature=0.0)
    temperature = 1.0 if drawing.temperature is None else drawing.temperature
    if temperature <= 0 or drawing.top_p == 0 or (drawing.top_p or 0) > 1:
        raise ValueError(
            f"generation_config.json: do_sample with temperature {temperature:g} and "
            f"top_p {drawing.top_p}; expected a temperature above 0 and top_p above 0 "
            "and at most 1. --config.predict.temperature=0 takes the likeliest tokens"
        )
    top_p = None if drawing.top_p in (None, 1) else drawing.top_p
    top_k = drawing.top_k if 0 < (drawing.top_k or 0) < vocabulary else None
    return Decoding(ends, max_tokens, temperature, top_k, top_p)


def _encode(
    encoding: Encoding,
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    questions: Sequence[Sequence[str]],
) -> QuestionBatch:
    origins = [f"picture {n}" for n in range(len(images))]
    return encode_pictures(images, questions, encoding, origins=origins)


def _read(
    policy: Policy,
    ends: Ends,
    read: ReadFn,
    answers: Answers,
    sizes: Sequence[tuple[int, int]],
) -> list[Reply]:
    replies = read_replies(
        read, answers, tables=policy.tables, tokenizer=policy.tokenizer, ends=ends
    )
    return _in_original(replies, sizes, policy.geometry)


def _in_original(
    replies: Sequence[Reply], sizes: Sequence[tuple[int, int]], geometry: Geometry
) -> list[Reply]:
    """The replies with boxes in pixels of the pictures as they came, all at once."""
    counts = [0 if reply.boxes is None else len(reply.boxes) for reply in replies]
    if not any(counts):
        return list(replies)
    boxes = np.concatenate([r.boxes for r in replies if r.boxes is not None])
    shown = [shown_size(size, geometry) for size in sizes]
    size, resized = (
        np.repeat(np.array(pairs, np.float32), counts, axis=0)
        for pairs in (sizes, shown)
    )
    last = resized[:, [1, 0, 1, 0]]
    away = ((boxes < -1) | (boxes > last + 1)).any(axis=1)  # by more than a pixel
    found = convert_boxes(boxes, "resized", "original", size=size, resized=resized)
    ends = np.cumsum(counts)[:-1]
    parts = zip(
        replies, np.split(np.asarray(found), ends), np.split(away, ends), strict=True
    )
    return [
        reply
        if reply.boxes is None
        else reply._replace(boxes=own, why=_why(reply.why, strayed=bool(out.any())))
        for reply, own, out in parts
    ]


def _why(why: str, *, strayed: bool) -> str:
    return "; ".join([why] * bool(why) + [STRAYED] * strayed)
