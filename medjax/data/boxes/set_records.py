"""Questions that are answered by a set of boxes: their records, answers and arrays."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from medjax.data.batches import Draw, Encoding, Shown, drawn_image, encode_rows
from medjax.data.boxes.views import View, box_sets, loosen_box
from medjax.data.prompting.chat import set_answer_text
from medjax.data.prompting.layout import resize_image
from medjax.rl.box_sets import MOST_BOXES
from medjax.rl.boxes import convert_boxes
from medjax.types import BoxSetBatch


class SetRecord(NamedTuple):
    """One question of an evaluation, as a report shows it."""

    sample_id: int
    image: UInt8[np.ndarray, "h w 3"]  # as shown to the policy
    query: str
    structure: str
    boxes: Float[np.ndarray, "k 4"]  # pixels of `image`; none: nothing is to be found
    slice_id: str  # pictures of one slice are resampled together
    plane: str
    position: int  # of the slice across its plane
    columns: Mapping[str, Any]  # what else the data says about it


def make_set_draw(
    view: View,
    chosen: list[int],
    phrasing: list[int],
    ids: list[int],
    encoding: Shown,
    valid: int,
) -> Draw[SetRecord]:
    """A view with chosen questions that are answered by sets of boxes.

    Args:
        view: Its structures have 0 to 8 boxes each.
        chosen: Which structures are asked for.
        phrasing: Which of its questions each is asked by.
        ids: The sample ids.
        encoding: How pictures are shown and answers written.
        valid: So many of the questions count, the others fill a row.

    Raises:
        ValueError: The view has reasons, which answers that are sets do not say.
    """
    if view.reasons:
        raise ValueError(
            f"{view.origin}: reasons with answers that are sets; expected one box a "
            "question, data.answers=one"
        )
    images = tuple(resize_image(image, encoding.geometry) for image in view.images)
    shown, size = images[-1], view.images[-1].shape[:2]
    sets = [
        np.asarray(
            convert_boxes(
                boxes, "original", "resized", size=size, resized=shown.shape[:2]
            )
        )
        for boxes in box_sets(view)
    ]
    records = tuple(
        SetRecord(
            sample_id=sample_id,
            image=shown,
            query=view.questions[m][p],
            structure=view.names[m],
            boxes=sets[m],
            slice_id=view.origin,
            plane=view.plane,
            position=view.position,
            columns=view.columns[m] if view.columns else {},
        )
        for m, p, sample_id in zip(chosen, phrasing, ids, strict=True)
    )
    answers = tuple(
        set_answer_text(r.boxes, r.structure, style=encoding.style.answer)
        for r in records
    )
    images = tuple(drawn_image(image, encoding) for image in images)
    return Draw(images, records, answers, tuple(i < valid for i in range(len(chosen))))


def loose_set_answers(
    records: Sequence[SetRecord],
    rng: np.random.Generator,
    factors: tuple[float, float],
    encoding: Encoding,
) -> tuple[str, ...]:
    """Supervised answers whose boxes are too large, each by factors of its own.

    Args:
        records: What is asked.
        rng: Decides the factors and the places, see `loosen_box`.
        factors: The lowest and the highest, 1 or more.
        encoding: Its style is the form of the answers.
    """
    return tuple(
        set_answer_text(
            [
                loosen_box(box, r.image.shape[:2], rng, factors=factors)
                for box in r.boxes
            ],
            r.structure,
            style=encoding.style.answer,
        )
        for r in records
    )


def collate_sets(draws: Sequence[Draw[SetRecord]], encoding: Encoding) -> BoxSetBatch:
    """M views of Q questions each as one batch of B = M * Q rows of NumPy arrays.

    Args:
        draws: M of them, at least one, all with Q questions.
        encoding: How they become arrays; what none of its buckets holds is refused.

    Raises:
        ValueError: A set has more than 8 boxes; or a question, an answer or an image is
            too long for the buckets.
    """
    padded = [
        pad_set(record.boxes, record.slice_id)
        for draw in draws
        for record in draw.records
    ]
    boxes, flags = (np.stack(part) for part in zip(*padded, strict=True))
    rows = encode_rows(draws, encoding)._asdict()
    return BoxSetBatch(boxes=boxes, box_valid=flags, **rows)


def pad_set(
    boxes: Float[np.ndarray, "k 4"], origin: str
) -> tuple[Float[np.ndarray, "8 4"], Bool[np.ndarray, "8"]]:
    """A set in 8 places, and which of them hold a box; the others are 0.

    Args:
        boxes: k of them, 0 to 8.
        origin: What an error calls the picture.

    Raises:
        ValueError: There are more than 8.
    """
    if len(boxes) > MOST_BOXES:
        raise ValueError(
            f"{origin}: {len(boxes)} boxes in one answer; expected {MOST_BOXES} at "
            "most, which are matched exactly: ask for fewer kinds of things at a time"
        )
    free = MOST_BOXES - len(boxes)
    places = np.concatenate([boxes, np.zeros((free, 4))]).astype(np.float32)
    return places, np.arange(MOST_BOXES) < len(boxes)
