"""What every pipeline of pictures and questions shares, whatever the answer is.

Everything is a function of (seed, index): a draw does not depend on the batch's size,
on the number of hosts, or on what was drawn before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import grain
import numpy as np
from jaxtyping import Bool, Int, UInt8

from medjax.data.audit.records import Pictures, Sample
from medjax.data.lists.reading import Bad
from medjax.data.prompting.chat import Style, written
from medjax.data.prompting.layout import Geometry
from medjax.data.prompting.prompts import Buckets, answer_rows, build_prompt
from medjax.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STRIDE = 1 << 10  # more questions than there are about one picture of an evaluation


class Question(Protocol):
    """What the record of a question has at least, whatever its answer is."""

    @property
    def sample_id(self) -> int:
        """Its number, unique in a run's training or in an evaluation."""
        ...

    @property
    def query(self) -> str:
        """The question as the policy reads it, without the style's suffix."""
        ...

    @property
    def slice_id(self) -> str:
        """What errors call the picture."""
        ...


SourceT = TypeVar("SourceT")  # `Views` or `Pictures`
RecordT = TypeVar("RecordT", bound=Question)
BatchT = TypeVar("BatchT")


class Parts(NamedTuple, Generic[SourceT]):
    """Training and test part, and what a resumed run must find unchanged."""

    train: SourceT
    test: SourceT
    identity: Mapping[str, Any]  # goes into a checkpoint as JSON
    samples: tuple[Sample, ...] = ()  # every row of a user's data; else none
    dropped: tuple[Bad, ...] = ()  # lines of a user's data that were left out
    notes: tuple[str, ...] = ()  # how far readers agree, what a new domain is
    pictures: Pictures | None = None  # of a user's data, where they were decoded
    single: bool = False  # whether each picture of a user's data has one class
    copies: tuple[str, ...] = ()  # equal pictures that an .npz has in two parts


class Encoding(NamedTuple):
    """How pictures become arrays; the same for training and evaluation."""

    tokenizer: "PreTrainedTokenizerBase"
    style: Style
    geometry: Geometry
    buckets: Buckets
    questions: int  # Q asked about each picture
    ramps: bool = False  # see `add_ramps`
    blank: bool = False  # show `blank_image` of each picture: nothing of it is seen
    # Pictures that a context has room for; None: as many as a batch needs, whose shape
    # then follows from its contexts. Processes that make parts of one batch need a
    # number, since each sees its own part alone.
    slots: int | None = None


class Shown(Protocol):
    """How pictures are shown and asked about: an `Encoding`, or a `Showing`."""

    @property
    def style(self) -> Style:
        """The words around a question, and the form of its answer."""
        ...

    @property
    def geometry(self) -> Geometry:
        """How pictures are cut."""
        ...

    @property
    def questions(self) -> int:
        """Q, asked about each picture."""
        ...

    @property
    def ramps(self) -> bool:
        """See `add_ramps`."""
        ...

    @property
    def blank(self) -> bool:
        """Show `blank_image` of each picture."""
        ...


class Showing(NamedTuple):
    """How pictures are shown where nothing is made into tokens: no policy is asked."""

    style: Style
    geometry: Geometry
    questions: int = 1
    ramps: bool = False
    blank: bool = False


class Draw(NamedTuple, Generic[RecordT]):
    """One picture with the Q questions that are asked about it."""

    images: tuple[UInt8[np.ndarray, "h w 3"], ...]  # as shown
    records: tuple[RecordT, ...]
    answers: tuple[str, ...]  # the supervised ones
    valid: tuple[bool, ...]  # False: the row only fills the batch


def stream(
    order: grain.MapDataset,
    draw: Callable[[int, int], Draw],
    collate: Callable[[Sequence[Draw]], Any],
    *,
    batch: int,
    process_index: int,
    process_count: int,
) -> grain.IterDataset:
    """Draws of (index, picture) collated `batch` at a time, the hosts in turn.

    Of the n * batch draws of a step host 0 takes the first `batch`, host 1 the next:
    one after the other they are the batch that one host would draw. Its iterator has
    `get_state` and `set_state`; where it stands does not depend on n.

    Args:
        order: The picture of each draw, by the draw's index; see `shuffled`.
        draw: (index of the draw, number of the picture) -> a sample.
        collate: Makes a batch of `batch` samples.
        batch: How many samples of a batch come from this host, 1 or more.
        process_index: The number i of this host, from 0.
        process_count: The number n of hosts, each of which sees other draws.
    """
    draws = order.map_with_index(draw)
    batches = draws.batch(batch, drop_remainder=True, batch_fn=collate)
    batches = batches[process_index::process_count]
    # One thread: a batch costs far less than a step, and the cores belong to the step.
    return batches.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    )


def find_drawn(
    draw: Callable[[int], Draw[RecordT]], questions: int
) -> Callable[[Sequence[int]], list[RecordT]]:
    """A function from training sample ids to their records, for rewards in Python.

    A batch holds arrays only; the rest of a sample is drawn again from its index.

    Args:
        draw: Gives for an index what the stream drew there.
        questions: How many the stream asks about each picture, 1 or more; draw i has
            the sample ids from i * questions on.

    Returns:
        A function of sample ids, in any order, that gives one record each.
    """

    def find(sample_ids: Sequence[int]) -> list[RecordT]:
        drawn: dict[int, Draw[RecordT]] = {}
        records = []
        for sample_id in sample_ids:
            index, question = divmod(int(sample_id), questions)
            if index not in drawn:
                drawn[index] = draw(index)
            records.append(drawn[index].records[question])
        return records

    return find


def gather(
    draws: Iterable[Draw[RecordT]],
    collate: Callable[[Sequence[Draw[RecordT]]], BatchT],
    *,
    batch: int,
) -> Iterator[tuple[BatchT, list[RecordT]]]:
    """Batches, each with the records of its valid rows.

    The last one is filled up with copies of its last draw that are not valid.

    Args:
        draws: They are taken one after the other; none gives no batch.
        collate: Makes a batch of `batch` draws.
        batch: How many draws a batch has, 1 or more.
    """
    waiting: list[Draw[RecordT]] = []
    for draw in draws:
        waiting.append(draw)
        if len(waiting) == batch:
            yield collate(waiting), valid_records(waiting)
            waiting = []
    if waiting:
        filler = waiting[-1]._replace(valid=(False,) * len(waiting[-1].valid))
        rows = waiting + [filler] * (batch - len(waiting))
        yield collate(rows), valid_records(rows)


class Rows(NamedTuple):
    """The arrays that batches of every kind hold; B = M * Q."""

    prompt: Prompt
    valid: Bool[np.ndarray, "B"]
    sample_id: Int[np.ndarray, "B"]
    answer: Int[np.ndarray, "B T"]
    answer_mask: Bool[np.ndarray, "B T"]


def encode_rows(draws: Sequence[Draw], encoding: Encoding) -> Rows:
    """M pictures of Q questions each as arrays.

    Args:
        draws: At least one, all with equally many questions.
        encoding: How they become arrays; what none of its buckets holds is refused.

    Raises:
        ValueError: a question, an answer or an image that is too long for the buckets.
    """
    records = [record for draw in draws for record in draw.records]
    origins = [draw.records[0].slice_id for draw in draws]
    prompt = build_prompt(
        encoding.tokenizer,
        [draw.images for draw in draws],
        [[record.query for record in draw.records] for draw in draws],
        origins=origins,
        style=encoding.style,
        geometry=encoding.geometry,
        buckets=encoding.buckets,
        slots=max(len(draw.images) for draw in draws)
        if encoding.slots is None
        else encoding.slots,
    )
    answer, answer_mask = answer_rows(
        encoding.tokenizer,
        written([x for draw in draws for x in draw.answers], encoding.style),
        origins=[record.slice_id for record in records],
        lengths=encoding.buckets.answer,
    )
    return Rows(
        prompt=prompt,
        valid=np.array([ok for draw in draws for ok in draw.valid], bool),
        sample_id=np.array([record.sample_id for record in records], np.int32),
        answer=answer,
        answer_mask=answer_mask,
    )


def drawn_image(
    image: UInt8[np.ndarray, "h w 3"], encoding: Shown
) -> UInt8[np.ndarray, "h w 3"]:
    """A resized picture as the policy gets it: blank or not, with ramps or without.

    Args:
        image: A picture after `resize_image`.
        encoding: Its `blank` takes the picture away, its `ramps` draw in where a pixel
            lies, which a blank picture still tells.

    Raises:
        ValueError: Ramps are wanted in a coloured image, see `add_ramps`.
    """
    image = blank_image(image) if encoding.blank else image
    return add_ramps(image) if encoding.ramps else image


def blank_image(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of the same size with nothing on it: each colour is its mean, rounded.

    A policy that answers as well without the picture has answered from the question,
    and from what is usual. Its mean and its size are left, so that the policy sees
    brightness that it knows.

    Args:
        image: A picture of at least one pixel, 0 to 255.
    """
    mean = np.round(image.mean(axis=(0, 1), dtype=np.float64))
    return np.broadcast_to(mean.astype(image.dtype), image.shape).copy()


def add_ramps(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A grey image in red; green tells the column, blue the row, from 0 to 255.

    Rotary embeddings are relative: where in the image a patch lies, a pretrained policy
    has learnt to infer and one that starts from nothing would have to, in minutes. So
    it is told (CoordConv, Liu et al. 2018), by the one free input that the architecture
    has: the colours of a grey image.

    Args:
        image: A picture as it is shown whose three colours are equal.

    Raises:
        ValueError: The image is coloured.
    """
    if (image != image[..., :1]).any():
        raise ValueError(
            "ramps take the place of colours: set data.ramps=False here, and start "
            "from a policy without them, such as model=fresh"
        )
    height, width = image.shape[:2]
    ramps = np.empty_like(image)
    ramps[..., 0] = image[..., 0]
    ramps[..., 1] = np.round((np.arange(width) + 0.5) / width * 255)[None]
    ramps[..., 2] = np.round((np.arange(height) + 0.5) / height * 255)[:, None]
    return ramps


def valid_records(draws: Iterable[Draw[RecordT]]) -> list[RecordT]:
    """The records of the questions that count, in order.

    Args:
        draws: Their other rows only fill a batch.
    """
    return [
        record
        for draw in draws
        for record, ok in zip(draw.records, draw.valid, strict=True)
        if ok
    ]
