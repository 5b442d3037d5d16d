"""What every pipeline of pictures and questions shares, whatever the answer is.

Everything is a function of (seed, index): a draw does not depend on the batch's size,
on the number of hosts, or on what was drawn before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Bool, Int, UInt8

from medjax.data.prompting.chat import Style
from medjax.data.prompting.layout import Geometry
from medjax.data.prompting.prompts import Buckets, answer_rows, build_prompt
from medjax.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STRIDE = 1 << 10  # more questions than there are about one picture of an evaluation


class Parts(NamedTuple):
    """Training and test part, and what a resumed run must find unchanged."""

    train: Any
    test: Any
    identity: Mapping[str, Any]


class Encoding(NamedTuple):
    """How pictures become arrays; the same for training and evaluation."""

    tokenizer: "PreTrainedTokenizerBase"
    style: Style
    geometry: Geometry
    buckets: Buckets
    questions: int  # Q asked about each picture
    ramps: bool = False  # see `add_ramps`


class Asked(NamedTuple):
    """One picture with its Q questions chosen.

    A record has at least a sample_id, the query, and what errors call it: slice_id.
    """

    images: tuple[UInt8[np.ndarray, "h w 3"], ...]  # as shown
    records: tuple[Any, ...]
    answers: tuple[str, ...]
    valid: tuple[bool, ...]


def shuffled(count: int, seed: int) -> grain.MapDataset:
    """Indices below `count`, in a new order each epoch, without end."""
    return grain.MapDataset.range(count).shuffle(seed=seed).repeat()


def stream(
    order: grain.MapDataset,
    draw: Callable[[int, int], Asked],
    collate: Callable[[Sequence[Asked]], Any],
    *,
    batch: int,
    process_index: int,
    process_count: int,
) -> grain.IterDataset:
    """Draws of (index, picture) collated `batch` at a time; host i takes i, i + n, ....

    Its iterator has `get_state` and `set_state`.
    """
    draws = order.map_with_index(draw)[process_index::process_count]
    batches = draws.batch(batch, drop_remainder=True, batch_fn=collate)
    # One thread: a batch costs far less than a step, and the cores belong to the step.
    return batches.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    )


def find_drawn(
    draw: Callable[[int], Asked], questions: int
) -> Callable[[Sequence[int]], list[Any]]:
    """A function from training sample ids to their records, for rewards in Python.

    A batch holds arrays only; the rest of a sample is drawn again from its index.

    Args:
        draw: index -> what the stream drew there.
        questions: Q.
    """

    def find(sample_ids: Sequence[int]) -> list[Any]:
        drawn: dict[int, Asked] = {}
        found = []
        for sample_id in sample_ids:
            index, question = divmod(int(sample_id), questions)
            if index not in drawn:
                drawn[index] = draw(index)
            found.append(drawn[index].records[question])
        return found

    return find


def choose(
    count: int, wanted: int, rng: np.random.Generator
) -> Int[np.ndarray, "wanted"]:
    """`wanted` of `count` things, without repetition while there are enough."""
    chosen = rng.permutation(count)[:wanted]
    if count < wanted:
        chosen = np.concatenate([chosen, rng.integers(count, size=wanted - count)])
    return chosen


def evaluation_order(
    count: int, *, seed: int, limit: int | None
) -> Int[np.ndarray, "count"]:
    """All pictures in turn; where only some will be asked about, in a random order."""
    order = np.arange(count)
    return order if limit is None else np.random.default_rng(seed).permutation(order)


def rows_of(
    count: int, questions: int, left: int | None
) -> Iterator[tuple[list[int], int]]:
    """Targets 0 ... count - 1 (at most `left`) in rows of Q, and how many are new.

    The last row is filled with its last target.
    """
    everyone = list(range(count if left is None else min(count, left)))
    for start in range(0, len(everyone), questions):
        chosen = everyone[start : start + questions]
        yield chosen + chosen[-1:] * (questions - len(chosen)), len(chosen)


def gather(
    asked: Iterable[Asked], collate: Callable[[Sequence[Asked]], Any], *, batch: int
) -> Iterator[tuple[Any, list[Any]]]:
    """Batches, each with the records of its valid rows; the last one is filled up."""
    waiting: list[Asked] = []
    for one in asked:
        waiting.append(one)
        if len(waiting) == batch:
            yield collate(waiting), _records(waiting)
            waiting = []
    if waiting:
        filler = waiting[-1]._replace(valid=(False,) * len(waiting[-1].valid))
        rows = waiting + [filler] * (batch - len(waiting))
        yield collate(rows), _records(rows)


class Rows(NamedTuple):
    """What batches of every kind hold; N = B * Q."""

    prompt: Prompt
    valid: Bool[np.ndarray, "N"]
    sample_id: Int[np.ndarray, "N"]
    answer: Int[np.ndarray, "N T"]
    answer_mask: Bool[np.ndarray, "N T"]


def encode_rows(asked: Sequence[Asked], encoding: Encoding) -> Rows:
    """B pictures of Q questions each as arrays."""
    records = [record for one in asked for record in one.records]
    origins = [one.records[0].slice_id for one in asked]
    prompt = build_prompt(
        encoding.tokenizer,
        [one.images for one in asked],
        [[record.query for record in one.records] for one in asked],
        origins=origins,
        style=encoding.style,
        geometry=encoding.geometry,
        buckets=encoding.buckets,
        slots=max(len(one.images) for one in asked),
    )
    answer, answer_mask = answer_rows(
        encoding.tokenizer,
        [answer for one in asked for answer in one.answers],
        origins=[record.slice_id for record in records],
        lengths=encoding.buckets.answer,
    )
    return Rows(
        prompt=prompt,
        valid=np.array([v for one in asked for v in one.valid], bool),
        sample_id=np.array([record.sample_id for record in records], np.int32),
        answer=answer,
        answer_mask=answer_mask,
    )


def _records(asked: Sequence[Asked]) -> list[Any]:
    return [
        record
        for one in asked
        for record, ok in zip(one.records, one.valid, strict=True)
        if ok
    ]
