"""Pictures with classes to batches: endless for training, each once for evaluation.

As `data.boxes.batches` for boxes; what both share is `data.batches`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import UInt8

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
from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.tasks import (
    Wording,
    labels_answer,
    labels_name,
    question_texts,
)
from medjax.data.orders import choose, evaluation_order, rows_of, shuffled
from medjax.data.prompting.layout import resize_image
from medjax.types import LabelBatch


class LabelRecord(NamedTuple):
    """One question about one picture, as a report shows it."""

    sample_id: int
    image: UInt8[np.ndarray, "h w 3"]  # as shown to the policy
    query: str
    question: str  # name of the task's question
    labels: tuple[int, ...]  # indices of the true classes; one, unless the task says so
    name: str  # of the true class or classes
    slice_id: str  # what the picture is called
    group: str  # pictures of one group are resampled together
    plane: str
    columns: Mapping[str, Any]  # what else the data says about it
    several: bool = False  # of a task of several labels

    @property
    def label(self) -> int:
        """Index of the true class, where there is exactly one."""
        (label,) = self.labels
        return label


def train_label_batches(
    pictures: Pictures,
    wording: Wording,
    encoding: Encoding,
    *,
    batch: int,
    seed: int,
    noise: float,
    process_index: int,
    process_count: int,
) -> grain.IterDataset:
    """An endless stream of `LabelBatch` of NumPy arrays, `batch` pictures each.

    Its iterator has `get_state` and `set_state`. Pictures come in a new order each
    epoch; hosts take their parts of a batch in turn. `sample_id` is unique to draw and
    question. A picture's questions are asked without repetition while there are enough,
    then again in phrasings drawn anew.

    Args:
        pictures: The training part; every picture is shown once an epoch.
        wording: The words of the task, and how many phrasings are in use.
        encoding: How pictures become arrays; its style's `answer` is
            "letter", "name" or "grade".
        batch: How many pictures a batch of this host has; its arrays have `batch` * Q
            rows.
        seed: Decides the order, how pictures are moved, and what is asked how.
        noise: The share, 0 to 1, of the supervised answers that name another class, as
            coarse labels do: of an ordinal task a neighbouring grade, of a task of
            several labels one fewer, or one where there is none. `label` stays true.
        process_index: The number of this host, from 0.
        process_count: How many hosts share the draws, 1 or more.
    """

    def draw(index: int, picture: int) -> Draw[LabelRecord]:
        return _draw(pictures, picture, index, wording, encoding, seed, noise)

    return stream(
        shuffled(pictures.count, seed),
        draw,
        partial(collate, encoding=encoding, classes=_num_marks(wording)),
        batch=batch,
        process_index=process_index,
        process_count=process_count,
    )


def find_label_records(
    pictures: Pictures, wording: Wording, encoding: Encoding, *, seed: int
) -> Callable[[Sequence[int]], list[LabelRecord]]:
    """A function from training sample ids to their records, for rewards in Python.

    What the stream drew is drawn again, so the arguments must be those that
    `train_label_batches` had.

    Args:
        pictures: The training part.
        wording: The words of the task.
        encoding: How pictures become arrays, and Q.
        seed: What decided the draws.
    """
    order = shuffled(pictures.count, seed)

    def draw(index: int) -> Draw[LabelRecord]:
        return _draw(pictures, order[index], index, wording, encoding, seed, 0.0)

    return find_drawn(draw, encoding.questions)


def eval_label_batches(
    pictures: Pictures,
    wording: Wording,
    encoding: Encoding,
    *,
    batch: int,
    seed: int,
    limit: int | None = None,
) -> Iterator[tuple[LabelBatch, list[LabelRecord]]]:
    """Every question of every picture, once, with the records of the valid rows.

    Rows that only fill the last batch, or the last questions of a picture, are not
    valid.

    Args:
        pictures: The part that is tested.
        wording: The words of the task, and how many phrasings are in use.
        encoding: How pictures become arrays; a task of more than its Q questions takes
            several rows of Q a picture.
        batch: How many rows of Q questions a batch has, 1 or more.
        seed: See `eval_label_draws`, like `limit`.
        limit: So many questions at most; None asks all.
    """
    draws = eval_label_draws(pictures, wording, encoding, seed=seed, limit=limit)
    together = partial(collate, encoding=encoding, classes=_num_marks(wording))
    return gather(draws, together, batch=batch)


def eval_label_draws(
    pictures: Pictures,
    wording: Wording,
    encoding: Shown,
    *,
    seed: int,
    limit: int | None = None,
) -> Iterator[Draw[LabelRecord]]:
    """Every question of every picture, once, as pictures and words.

    A picture is drawn from (seed, its index), so a moved test is the same each time.

    Args:
        pictures: The part that is tested.
        wording: The words of the task, and how many phrasings are in use.
        encoding: How pictures are shown; a task of more than its Q questions takes
            several draws of Q a picture.
        seed: Decides how pictures are moved, and their order under `limit`.
        limit: Pictures come in a random but fixed order, and end after so many
            questions. None asks all, in the order of the pictures.
    """
    count, left = len(wording.task.questions), limit
    for index in evaluation_order(pictures.count, seed=seed, limit=limit).tolist():
        picture = pictures.picture(index, np.random.default_rng((seed, index)))
        for chosen, valid in rows_of(count, encoding.questions, left):
            yield _make_draw(
                picture,
                pictures.labels[index].tolist(),
                chosen,
                [(index + m) % wording.phrasings for m in chosen],
                [index * STRIDE + m for m in chosen],
                wording,
                encoding,
                valid,
            )
            left = None if left is None else left - valid
        if left == 0:
            return


def collate(
    draws: Sequence[Draw[LabelRecord]],
    encoding: Encoding,
    *,
    classes: int | None = None,
) -> LabelBatch:
    """M pictures of Q questions each as one batch of B = M * Q rows of NumPy arrays.

    Args:
        draws: M of them, at least one, all with Q questions.
        encoding: How they become arrays; what none of its buckets holds is refused.
        classes: C of a task of several labels, whose `label` is [B, C]; None where each
            picture has one, and `label` is [B].

    Raises:
        ValueError: a question, an answer or an image that is too long for the buckets.
    """
    rows = encode_rows(draws, encoding)
    records = [record for draw in draws for record in draw.records]
    if classes is None:
        label = np.array([record.label for record in records], np.int32)
    else:
        label = np.zeros((len(records), classes), bool)
        for n, record in enumerate(records):
            label[n, list(record.labels)] = True
    return LabelBatch(label=label, **rows._asdict())


def _draw(
    pictures: Pictures,
    which: int,
    index: int,
    wording: Wording,
    encoding: Encoding,
    seed: int,
    noise: float,
) -> Draw[LabelRecord]:
    rng = np.random.default_rng((seed, index))
    picture = pictures.picture(which, rng)
    wanted = encoding.questions
    chosen = choose(len(wording.task.questions), wanted, rng).tolist()
    phrasing = rng.integers(wording.phrasings, size=wanted).tolist()
    ids = list(range(index * wanted, (index + 1) * wanted))
    labels = pictures.labels[which].tolist()
    true = _make_draw(
        picture, labels, chosen, phrasing, ids, wording, encoding, len(chosen)
    )
    # Drawn last, and also where they are not used: noise changes nothing but answers.
    draws = rng.random((wanted, 2))
    if not noise:
        return true
    answers = [
        _mistake(record.labels, wording, m, share) if turned < noise else record.labels
        for record, m, (turned, share) in zip(
            true.records, chosen, draws.tolist(), strict=True
        )
    ]
    return true._replace(answers=_answers(answers, wording, encoding))


def _num_marks(wording: Wording) -> int | None:
    return len(wording.task.classes) if wording.task.multi else None


def _mistake(
    labels: tuple[int, ...], wording: Wording, question: int, share: float
) -> tuple[int, ...]:
    """Another answer, chosen by `share`.

    Another option, of an ordinal task a neighbour; of several labels all but one, or
    one where there is none: no longer than what is right.
    """
    options = wording.task.questions[question].options
    if wording.task.multi:
        wrong = int(share * len(labels or options))
        return labels[:wrong] + labels[wrong + 1 :] if labels else (options[wrong],)
    (label,) = labels
    others = [n for n in options if n != label]
    if wording.task.ordinal:
        nearest = min(abs(n - label) for n in others)
        others = [n for n in others if abs(n - label) == nearest]
    return (others[int(share * len(others))],)


def _answers(
    labels: Sequence[tuple[int, ...]], wording: Wording, encoding: Shown
) -> tuple[str, ...]:
    answer = encoding.style.answer
    return tuple(labels_answer(wording, some, answer=answer) for some in labels)


def _make_draw(
    picture: Picture,
    labels: Sequence[int],
    chosen: Sequence[int],
    phrasing: Sequence[int],
    ids: Sequence[int],
    wording: Wording,
    encoding: Shown,
    valid: int,
) -> Draw[LabelRecord]:
    task, shown = wording.task, resize_image(picture.image, encoding.geometry)
    records = []
    for m, p, sample_id in zip(chosen, phrasing, ids, strict=True):
        texts = question_texts(
            wording, m, plane=picture.plane, answer=encoding.style.answer
        )
        true = tuple(np.flatnonzero(labels).tolist()) if task.multi else (labels[m],)
        records.append(
            LabelRecord(
                sample_id=sample_id,
                image=shown,
                query=texts[p],
                question=task.questions[m].name,
                labels=true,
                name=labels_name(task, true),
                slice_id=picture.origin,
                group=picture.group,
                plane=picture.plane,
                columns=picture.columns,
                several=task.multi,
            )
        )
    return Draw(
        images=(drawn_image(shown, encoding),),
        records=tuple(records),
        answers=_answers([record.labels for record in records], wording, encoding),
        valid=tuple(n < valid for n in range(len(chosen))),
    )
