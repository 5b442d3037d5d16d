"""Views to batches: endless for training, every question once for evaluation.

Everything is a function of (seed, index): a draw does not depend on the batch's size,
on the number of hosts, or on what was drawn before. Where the style of an encoding asks
for sets of boxes, records are `SetRecord` and batches `BoxSetBatch`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Float, UInt8

from medjax.data.batches import (
    STRIDE,
    Draw,
    Encoding,
    Shown,
    drawn_image,
    encode_rows,
    find_drawn,
    gather,
    stream,
)
from medjax.data.boxes.set_records import (
    SetRecord,
    collate_sets,
    loose_set_answers,
    make_set_draw,
)
from medjax.data.boxes.views import View, Views, loosen_box
from medjax.data.orders import choose, evaluation_order, rows_of, shuffled
from medjax.data.prompting.chat import answer_text, asks_for_sets
from medjax.data.prompting.layout import resize_image
from medjax.rl.boxes import convert_boxes
from medjax.types import BoxSetBatch, GroundingBatch


class Record(NamedTuple):
    """One question of an evaluation, as a report shows it."""

    sample_id: int
    image: UInt8[np.ndarray, "h w 3"]  # as shown to the policy
    query: str
    structure: str
    box: Float[np.ndarray, "4"]  # pixels of `image`
    slice_id: str  # pictures of one slice are resampled together
    area_fraction: float  # of the image
    plane: str
    position: int  # of the slice across its plane
    columns: Mapping[str, Any]  # what else the data says about it


AnyRecord = Record | SetRecord  # by the encoding's style


def train_batches(
    views: Views,
    encoding: Encoding,
    *,
    batch: int,
    seed: int,
    loose: tuple[float, float] | None,
    process_index: int,
    process_count: int,
) -> grain.IterDataset:
    """An endless stream of `GroundingBatch` of NumPy arrays, `batch` contexts each.

    Its iterator has `get_state` and `set_state`. Views come in a new order each epoch;
    hosts take their parts of a batch in turn. `sample_id` is unique to draw and
    question.

    Args:
        views: The training part; every view is shown once an epoch.
        encoding: How they become arrays. Its Q structures of a view are asked for
            without repetition while there are enough.
        batch: How many views a batch of this host has; its arrays have `batch` * Q
            rows.
        seed: Decides the order, how views are moved, and what is asked.
        loose: (low, high) factor, 1 or more, by which boxes of the supervised answers
            are enlarged, as coarse labels are; the rewards' targets stay tight. None
            leaves answers tight.
        process_index: The number of this host, from 0.
        process_count: How many hosts share the draws, 1 or more.
    """

    def draw(index: int, view: int) -> Draw[Any]:
        rng = np.random.default_rng((seed, index))
        return ask(views.view(view, rng), index, rng, encoding, loose)

    return stream(
        shuffled(views.count, seed),
        draw,
        partial(collate, encoding=encoding),
        batch=batch,
        process_index=process_index,
        process_count=process_count,
    )


def find_records(
    views: Views, encoding: Encoding, *, seed: int
) -> Callable[[Sequence[int]], list[AnyRecord]]:
    """A function from training sample ids to their records, for rewards in Python.

    What the stream drew is drawn again, so the arguments must be those that
    `train_batches` had.

    Args:
        views: The training part.
        encoding: How pictures become arrays, and Q.
        seed: What decided the draws.
    """
    order = shuffled(views.count, seed)

    def draw(index: int) -> Draw[Any]:
        rng = np.random.default_rng((seed, index))
        return ask(views.view(order[index], rng), index, rng, encoding, None)

    return find_drawn(draw, encoding.questions)


def eval_batches(
    views: Views,
    encoding: Encoding,
    *,
    batch: int,
    seed: int,
    limit: int | None = None,
) -> Iterator[tuple[GroundingBatch | BoxSetBatch, list[AnyRecord]]]:
    """Every question of every view, once, with the records of the valid rows in order.

    Rows that only fill the last batch, or the last questions of a view, are not valid.

    Args:
        views: The part that is tested.
        encoding: How they become arrays; a view with more than its Q structures takes
            several rows of Q.
        batch: How many rows of Q questions a batch has, 1 or more.
        seed: See `eval_draws`, like `limit`.
        limit: So many questions at most; None asks all.
    """
    draws = eval_draws(views, encoding, seed=seed, limit=limit)
    return gather(draws, partial(collate, encoding=encoding), batch=batch)


def eval_draws(
    views: Views, encoding: Shown, *, seed: int, limit: int | None = None
) -> Iterator[Draw[Any]]:
    """Every question of every view, once, as pictures and words.

    A view is drawn from (seed, its index), so a moved test is the same each time.

    Args:
        views: The part that is tested.
        encoding: How they are shown; a view with more than its Q structures takes
            several draws of Q.
        seed: Decides how views are moved, and their order under `limit`.
        limit: Views come in a random but fixed order, and end after so many questions.
            None asks all, in the order of the views.
    """
    left = limit
    for index in evaluation_order(views.count, seed=seed, limit=limit).tolist():
        view = views.view(index, np.random.default_rng((seed, index)))
        for draw in _ask_all(view, index, encoding, left):
            yield draw
            left = None if left is None else left - sum(draw.valid)
        if left == 0:
            return


def ask(
    view: View,
    index: int,
    rng: np.random.Generator,
    encoding: Encoding,
    loose: tuple[float, float] | None,
) -> Draw[Any]:
    """Choose Q structures of a view, without repetition while there are enough.

    Args:
        view: It shows at least one structure.
        index: The number of the draw, from which the sample ids follow.
        rng: Decides structures, phrasings and, with `loose`, the enlarged boxes.
        encoding: How the view becomes arrays, and Q.
        loose: (low, high) factor by which the answers' boxes are enlarged; None leaves
            them.
    """
    wanted = encoding.questions
    chosen = choose(len(view.names), wanted, rng)
    ids = range(index * wanted, (index + 1) * wanted)
    phrasing = [int(rng.integers(len(view.questions[m]))) for m in chosen]
    named = (view, chosen.tolist(), phrasing, list(ids), encoding, wanted)
    if asks_for_sets(encoding.style):
        sets = make_set_draw(*named)
        answers = loose_set_answers(sets.records, rng, loose, encoding) if loose else ()
        return sets._replace(answers=answers or sets.answers)
    tight = make_draw(*named)
    if loose is None:
        return tight
    answers = tuple(
        answer_text(
            loosen_box(r.box, r.image.shape[:2], rng, factors=loose),
            r.structure,
            style=encoding.style.answer,
            reason=view.reasons[m] if view.reasons else "",
        )
        for r, m in zip(tight.records, chosen, strict=True)
    )
    return tight._replace(answers=answers)


def collate(
    draws: Sequence[Draw[Any]], encoding: Encoding
) -> GroundingBatch | BoxSetBatch:
    """M views of Q questions each as one batch of B = M * Q rows of NumPy arrays.

    Args:
        draws: M of them, at least one, all with Q questions.
        encoding: How they become arrays; what none of its buckets holds is refused.

    Raises:
        ValueError: a question, an answer or an image that is too long for the buckets.
    """
    if asks_for_sets(encoding.style):
        return collate_sets(draws, encoding)
    rows = encode_rows(draws, encoding)
    boxes = [record.box for draw in draws for record in draw.records]
    return GroundingBatch(boxes=np.stack(boxes).astype(np.float32), **rows._asdict())


def _ask_all(
    view: View, index: int, encoding: Shown, left: int | None
) -> Iterator[Draw[Any]]:
    """All structures of a view in rows of Q, the last row filled with its last one."""
    for chosen, valid in rows_of(len(view.names), encoding.questions, left):
        phrasing = [(index + m) % len(view.questions[m]) for m in chosen]
        ids = [index * STRIDE + m for m in chosen]
        make = make_set_draw if asks_for_sets(encoding.style) else make_draw
        yield make(view, chosen, phrasing, ids, encoding, valid)


def make_draw(
    view: View,
    chosen: list[int],
    phrasing: list[int],
    ids: list[int],
    encoding: Shown,
    valid: int,
) -> Draw[Record]:
    """A view with chosen questions that are answered by one box each.

    Args:
        view: Every structure of it has one box.
        chosen: Which structures are asked for.
        phrasing: Which of its questions each is asked by.
        ids: The sample ids.
        encoding: How pictures are shown and answers written.
        valid: So many of the questions count, the others fill a row.

    Raises:
        ValueError: Some structure has several boxes, or none.
    """
    if view.counts is not None and set(view.counts) != {1}:
        raise ValueError(
            f"{view.origin}: structures with {view.counts} boxes; expected one each: "
            "choose data.answers=set to train on sets of boxes"
        )
    images = tuple(resize_image(image, encoding.geometry) for image in view.images)
    shown, size = images[-1], view.images[-1].shape[:2]
    boxes = np.asarray(
        convert_boxes(
            view.boxes, "original", "resized", size=size, resized=shown.shape[:2]
        )
    )
    sides = boxes[:, 2:] - boxes[:, :2]
    fractions = np.prod(sides, axis=-1) / (shown.shape[0] * shown.shape[1])
    records = tuple(
        Record(
            sample_id=sample_id,
            image=shown,
            query=view.questions[m][p],
            structure=view.names[m],
            box=boxes[m],
            slice_id=view.origin,
            area_fraction=float(fractions[m]),
            plane=view.plane,
            position=view.position,
            columns=view.columns[m] if view.columns else {},
        )
        for m, p, sample_id in zip(chosen, phrasing, ids, strict=True)
    )
    answers = tuple(
        answer_text(
            r.box,
            r.structure,
            style=encoding.style.answer,
            reason=view.reasons[m] if view.reasons else "",
        )
        for r, m in zip(records, chosen, strict=True)
    )
    flags = tuple(i < valid for i in range(len(chosen)))
    drawn = tuple(drawn_image(image, encoding) for image in images)
    return Draw(drawn, records, answers, flags)
