r"""Read a completion's set of boxes on the host: what `box_set_reader.py` does too.

Text, white space, answer and numbers are those of `box_text.py`.

- A *box* is `[NUM, NUM, NUM, NUM]` in the answer, white space allowed round numbers,
  where the bracket follows, perhaps after white space, `"bbox_2d":`, a `[`, a comma or
  the start of the answer. So both of these are read, and any mixture of them:
  `[[1, 2, 30, 40], [5, 6, 7, 8]]` and `[{"bbox_2d": [1, 2, 30, 40], "label": "a"}]`.
  Four numbers under another key are no box.
- The answer says that there is *none* if the whole of it is `[]`, or `no finding` or
  `no findings` in any case and perhaps with a full stop; a fence (three backticks,
  `json` behind the opening one) may stand round it.
- A set is *found* where the answer holds 1 to 8 boxes or says that there is none. More
  than 8 are counted and not read: no exact matching is made of them. An answer that
  says anything else is no empty set.
- The *format* is right if the tags are as in `box_text.py` and a set is found.
"""

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_flags
from medjax.rl.box_sets import MOST_BOXES
from medjax.rl.text.box_text import (
    ANSWER,
    NUMBER,
    has_right_tags,
    read_number,
)

_BOX = re.compile(
    rb'(?:\A|"bbox_2d"\s*:|[\[,])\s*(\[' + rb",".join([NUMBER] * 4) + rb"\])"
)
_NONE = re.compile(
    rb"\s*(?:```(?:json)?\s*)?(?:\[\s*\]|no findings?\.?)\s*(?:```\s*)?", re.IGNORECASE
)


class ParsedSets(NamedTuple):
    """What completions say; zeros stand where there is no box."""

    boxes: Float[Array | np.ndarray, "*N 8 4"]  # (x1, y1, x2, y2) as written, in order
    box_valid: Bool[Array | np.ndarray, "*N 8"]  # the first `num_boxes` of a found set
    found: Bool[Array | np.ndarray, "*N"]  # 1 to 8 boxes, or said that there is none
    format: Bool[Array | np.ndarray, "*N"]  # think, answer, nothing else, and a set
    num_boxes: Int[Array | np.ndarray, "*N"]  # boxes of the first answer, also above 8
    num_answers: Int[Array | np.ndarray, "*N"]  # closed answer blocks
    # a box's bytes in its row's text, from the bracket on: (first, after the last)
    spans: Int[Array | np.ndarray, "*N 8 2"]


def parse_box_set_text(text: str | bytes, *, think: bool = True) -> ParsedSets:
    """Parse one completion on the host; the fields have no leading axis.

    Between the first `<answer>` and the first `</answer>` after it every `[x1, y1, x2,
    y2]` is a box that stands after `"bbox_2d":`, in a list or alone. An answer `[]` or
    `no finding` is the empty set. The format is right where the text is
    `<think>..</think><answer>..</answer>` with white space alone around and between,
    each tag once, and a set is found.

    Args:
        text: The completion without its special tokens; bytes need not be UTF-8.
        think: False asks for the answer alone, without a think tag, as the right
            format.

    Returns:
        NumPy arrays: 8 places for boxes, float32 in the unit that the text means, as
        written and in that order, swapped corners staying swapped, and which of them
        hold one, `box_valid`; numbers are read as by `parse_text`. `spans` [8, 2] says
        where a box stands in the bytes of the UTF-8: its first, and the one after its
        last.
        `found` is False where there is no closed answer, where it holds neither a box
        nor the words for none, and where it holds more than 8 boxes; then there are
        zeros for boxes, and `num_boxes` tells the number that was written.

    Raises:
        ValueError: a `think` that is not True or False.
    """
    check_flags("parse_box_set_text", think=think)
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    answer = ANSWER.search(data)
    matches = list(_BOX.finditer(answer[1])) if answer else []
    none = bool(answer and not matches and _NONE.fullmatch(answer[1]))
    found = none or 1 <= len(matches) <= MOST_BOXES
    boxes = np.zeros((MOST_BOXES, 4), np.float32)
    spans = np.zeros((MOST_BOXES, 2), np.int32)
    for n, match in enumerate(matches if found else []):
        boxes[n] = [read_number(digits) for digits in match.groups()[1:]]
        spans[n] = np.add(match.span(1), answer.start(1) if answer else 0)
    return ParsedSets(
        boxes=boxes,
        box_valid=np.arange(MOST_BOXES) < (len(matches) if found else 0),
        found=np.array(found),
        format=np.array(found and has_right_tags(data, think=think)),
        num_boxes=np.array(len(matches), np.int32),
        num_answers=np.array(len(ANSWER.findall(data)), np.int32),
        spans=spans,
    )
