"""What an answer about boxes says, and why nothing could be read of it."""

import json
import re
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from medjax.data.prompting.chat import Style, asks_for_sets
from medjax.recipes.policy.replies import Read, ReadFn
from medjax.rl.box_sets import MOST_BOXES
from medjax.rl.text.box_set_text import parse_box_set_text
from medjax.rl.text.box_text import ANSWER, box_span, parse_text


def box_reader(style: Style) -> ReadFn:
    """The function that reads completions of this style: a box each, or a set.

    Args:
        style: Its `answer` and `think` say what is right.
    """
    read = read_box_set if asks_for_sets(style) else read_box
    return partial(read, think=style.think)


def read_box(data: bytes, *, think: bool) -> Read:
    """The one box of a completion, as `rl.parse_text` reads it.

    Args:
        data: The completion's bytes.
        think: Whether the right format begins with reasoning.
    """
    parsed = parse_text(data, think=think)
    found = bool(parsed.box_found)
    boxes = parsed.boxes[None] if found else np.zeros((0, 4), np.float32)
    why = _odd(boxes) if found else _no_answer(data, int(parsed.num_answers))
    return Read(
        parsed=found,
        well_formed=bool(parsed.format),
        why=why,
        labels=_labels(data, len(boxes)),
        boxes=boxes,
        spans=(box_span(data),) if found else (),
    )


def read_box_set(data: bytes, *, think: bool) -> Read:
    """The boxes of a completion, as `rl.parse_box_set_text` reads them; 0 to 8.

    Args:
        data: The completion's bytes.
        think: Whether the right format begins with reasoning.
    """
    parsed = parse_box_set_text(data, think=think)
    valid = np.asarray(parsed.box_valid)
    boxes = np.asarray(parsed.boxes)[valid]
    why = _odd(boxes)
    if not parsed.found:
        why = _no_answer(data, int(parsed.num_answers))
        if parsed.num_boxes > MOST_BOXES:
            why = f"{int(parsed.num_boxes)} boxes; at most {MOST_BOXES} are read"
    return Read(
        parsed=bool(parsed.found),
        well_formed=bool(parsed.format),
        why=why,
        labels=_labels(data, len(boxes)),
        boxes=boxes,
        spans=tuple(map(tuple, np.asarray(parsed.spans)[valid].tolist())),
    )


def _no_answer(data: bytes, answers: int) -> str:
    if not answers:
        return "no <answer>..</answer>"
    if b'"bbox_2d"' in data:
        return "no box of four numbers behind bbox_2d in the first answer"
    return "no bbox_2d in the first answer"


def _odd(boxes: Float[np.ndarray, "k 4"]) -> str:
    """A box that covers nothing is read as it was written, and said to be odd."""
    empty = ((boxes[:, 2:] - boxes[:, :2]) <= 0).any(axis=1)
    return "a box without area: its second corner is not below and right" * bool(
        empty.any()
    )


def _labels(data: bytes, count: int) -> tuple[str, ...]:
    """The labels beside the boxes where the answer is JSON with one for each."""
    answer = ANSWER.search(data)
    try:
        found: Any = (
            json.loads(re.sub(rb"```(json)?", b"", answer[1])) if answer else []
        )
    except (ValueError, RecursionError):
        return ()
    listed = found if isinstance(found, list) else [found]
    labels = [x["label"] for x in listed if isinstance(x, dict) and "label" in x]
    right = len(labels) == count and all(isinstance(x, str) for x in labels)
    return tuple(labels) if right else ()
