"""Pictures and questions to batches of prompts, all of one shape."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from medjax.data.asking.pictures import Asked, Fault
from medjax.data.batches import Draw, Encoding, drawn_image, gather
from medjax.data.images import read_image
from medjax.data.images.distances import pixel_distances
from medjax.data.orders import rows_of
from medjax.data.prompting.layout import resize_image
from medjax.data.prompting.prompts import build_prompt
from medjax.types import QuestionBatch


class AskedRecord(NamedTuple):
    """One question about one picture."""

    sample_id: int
    query: str
    slice_id: str  # what errors call the picture
    asked: Asked
    image: UInt8[np.ndarray, "h w 3"]  # before it is resized
    distances: tuple[float, float] | None  # mm from row to row, from column to column


def encode_pictures(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    questions: Sequence[Sequence[str]],
    encoding: Encoding,
    *,
    origins: Sequence[str],
) -> QuestionBatch:
    """M pictures with Q questions each as one batch of B = M * Q rows.

    Args:
        images: RGB, 0 to 255, of any size; they are resized as in training.
        questions: Q of each picture, without the style's suffix.
        encoding: How they become arrays; its `questions` is not read.
        origins: What errors call each picture.

    Returns:
        NumPy arrays, all rows valid, with the sample ids 0 ... B - 1.

    Raises:
        ValueError: An image is no such array, or something exceeds the buckets.
    """
    shown = [drawn_image(resize_image(x, encoding.geometry), encoding) for x in images]
    return _batch([(x,) for x in shown], questions, origins, encoding)


def ask_batches(
    pictures: Iterable[Asked],
    encoding: Encoding,
    *,
    batch: int,
    fail: Callable[[Fault], None],
) -> Iterator[tuple[QuestionBatch, list[AskedRecord]]]:
    """Batches of prompts, each with the records of its valid rows in their order.

    A picture that cannot be read is told and left out; the rest goes on. Sample ids
    follow from a picture's name and the question alone, so that a drawn answer does not
    depend on what else is asked.

    Args:
        pictures: They are read one after the other, as batches are asked for.
        encoding: How pictures become arrays, and Q; the last row of a picture is filled
            up.
        batch: How many rows of Q questions a batch has, 1 or more.
        fail: Called with each picture that cannot be read.
    """

    def draws() -> Iterator[Draw[AskedRecord]]:
        for asked in pictures:
            try:
                image = read_image(asked.image, asked.called)
                distances = pixel_distances(asked.image, asked.called)
                shown = drawn_image(resize_image(image, encoding.geometry), encoding)
            except (ValueError, OSError, ImportError) as error:
                fail(Fault(asked.called, str(error)))
                continue
            for chosen, valid in rows_of(len(asked.queries), encoding.questions, None):
                records = tuple(
                    AskedRecord(
                        sample_id=_sample_id(asked, asked.queries[m]),
                        query=asked.queries[m],
                        slice_id=asked.called,
                        asked=asked,
                        image=image,
                        distances=distances,
                    )
                    for m in chosen
                )
                flags = tuple(n < valid for n in range(len(chosen)))
                yield Draw((shown,), records, ("",) * len(chosen), flags)

    return gather(draws(), partial(_collate, encoding=encoding), batch=batch)


def _collate(draws: Sequence[Draw[AskedRecord]], encoding: Encoding) -> QuestionBatch:
    records = [record for draw in draws for record in draw.records]
    whole = _batch(
        [draw.images for draw in draws],
        [[record.query for record in draw.records] for draw in draws],
        [draw.records[0].slice_id for draw in draws],
        encoding,
    )
    return whole._replace(
        valid=np.array([ok for draw in draws for ok in draw.valid], bool),
        sample_id=np.array([record.sample_id for record in records], np.int32),
    )


def _batch(
    images: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]],
    questions: Sequence[Sequence[str]],
    origins: Sequence[str],
    encoding: Encoding,
) -> QuestionBatch:
    prompt = build_prompt(
        encoding.tokenizer,
        images,
        questions,
        origins=origins,
        style=encoding.style,
        geometry=encoding.geometry,
        buckets=encoding.buckets,
        slots=1,
    )
    rows = sum(map(len, questions))
    return QuestionBatch(prompt, np.ones(rows, bool), np.arange(rows, dtype=np.int32))


def _sample_id(asked: Asked, query: str) -> int:
    """A number of 31 bits; two questions that share one share the noise of a draw."""
    place = (asked.name, asked.image.frame, asked.image.plane, query)
    return zlib.crc32(repr(place).encode()) & 0x7FFFFFFF
