r"""Read a completion's box on the host: what `boxes.py` is tested against.

The text is a string of bytes (UTF-8); white space is ASCII's: space, \t \n \v \f \r.

- The *answer* is what stands between the first `<answer>` and the first `</answer>`
  after it. Tags inside it do not nest; without the closing tag there is no answer.
- The *box* is the first match in the answer, and nowhere else, of
  `"bbox_2d"\s*:\s*\[\s*NUM\s*,\s*NUM\s*,\s*NUM\s*,\s*NUM\s*\]` with NUM =
  `-?[0-9]+(\.[0-9]+)?`: floats and negative numbers count, `+1`, `1.`, `.5` and `1e3`
  do not. Corners are returned as written, swapped or outside the image.
- The *format* is right if the text without surrounding white space is
  `<think>..</think>`, optional white space, `<answer>..</answer>`, each of the four
  tags occurs once, and there is a box.
- A number is M / 10^F in float32: M is the whole part's digits followed by the first F
  decimals, F <= 10 the largest that keeps M below 10^8, so seven digits are read
  exactly. A whole part of 10^8 or more reads as 10^8.

A box and a right format are independent otherwise: a box may be found in a text of
wrong format. JSON is not parsed. Unlike VLM-R1's parser (first list of four whole
numbers) the key is required and decimals are kept.
"""

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_flags

LIMIT = 10**8  # what a number's digits stay below, and where whole parts saturate
DECIMALS = 10  # 10^10 is the last power of ten that float32 holds exactly
TAGS = (b"<think>", b"</think>", b"<answer>", b"</answer>")

NUMBER = rb"\s*(-?[0-9]+(?:\.[0-9]+)?)\s*"
ANSWER = re.compile(rb"<answer>(.*?)</answer>", re.DOTALL)
_BOX = re.compile(rb'"bbox_2d"\s*:\s*\[' + rb",".join([NUMBER] * 4) + rb"\]")
_FORMAT = re.compile(rb"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL)
_ANSWER_ALONE = re.compile(rb"\s*<answer>.*</answer>\s*", re.DOTALL)


class Parsed(NamedTuple):
    """What completions say; rows without a box have zeros for one."""

    boxes: Float[Array | np.ndarray, "*N 4"]  # (x1, y1, x2, y2) as written
    box_found: Bool[Array | np.ndarray, "*N"]  # the first closed answer holds a box
    # think and answer (or the answer alone), nothing else, and a box
    format: Bool[Array | np.ndarray, "*N"]
    num_answers: Int[Array | np.ndarray, "*N"]  # closed answer blocks


def parse_text(text: str | bytes, *, think: bool = True) -> Parsed:
    """Parse one completion on the host; the fields have no leading axis.

    The box is the first `"bbox_2d": [x1, y1, x2, y2]` between the first `<answer>` and
    the first `</answer>` after it. Numbers are digits, perhaps with a minus before and
    decimals behind; +1, 1., .5 and 1e3 are none. White space may stand round numbers,
    colon and brackets, and is that of ASCII. Without a closed answer there is no box,
    and a box of a later answer is not read. The format is right where the text is
    `<think>..</think><answer>..</answer>` with white space alone around and between,
    each tag once, and there is a box.

    Args:
        text: The completion without its special tokens; bytes need not be UTF-8.
        think: False asks for `<answer>..</answer>` alone, without a think tag, as the
            right format; boxes are read alike.

    Returns:
        NumPy scalars and a float32 box [4] in the unit that the text means, as written:
        swapped corners stay swapped. Without a box four zeros and `box_found` False.
        Seven digits are read exactly. A number of 10^8 or more reads as 10^8, one of
        -10^8 or less as -10^8. `num_answers` counts all closed answers.

    Raises:
        ValueError: a `think` that is not True or False.

    Differs from VLM-R1: the key `bbox_2d` is required, and decimals are kept.
    """
    check_flags("parse_text", think=think)
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    answers = ANSWER.findall(data)
    match = _find_box(data)
    box = [read_number(digits) for digits in match.groups()] if match else [0.0] * 4
    return Parsed(
        boxes=np.array(box, np.float32),
        box_found=np.array(match is not None),
        format=np.array(match is not None and has_right_tags(data, think=think)),
        num_answers=np.array(len(answers), np.int32),
    )


def box_span(text: str | bytes) -> tuple[int, int]:
    """Where the box that `parse_text` reads stands, from its `[` to its `]`.

    Args:
        text: The completion without its special tokens; bytes need not be UTF-8.

    Returns:
        The first byte and the byte after the last, those of the UTF-8 of a str; (0, 0)
        where there is no box.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    match = _find_box(data)
    return (data.index(b"[", match.start()), match.end()) if match else (0, 0)


def _find_box(data: bytes) -> re.Match[bytes] | None:
    """The first box of the first closed answer, its groups the four numbers."""
    answer = ANSWER.search(data)
    return _BOX.search(data, *answer.span(1)) if answer else None


def has_right_tags(data: bytes, *, think: bool = True) -> bool:
    """Whether the text is thinking and one answer, each tag once and nothing else.

    Args:
        data: The completion.
        think: False asks for the answer alone, without a tag of thinking.
    """
    form, counts = (_FORMAT, (1, 1, 1, 1)) if think else (_ANSWER_ALONE, (0, 0, 1, 1))
    right = all(data.count(tag) == n for tag, n in zip(TAGS, counts, strict=True))
    return right and bool(form.fullmatch(data))


def read_number(digits: bytes) -> np.float32:
    """M / 10^F in float32 of digits that match `NUMBER`, see the module."""
    whole, _, decimals = digits.lstrip(b"-").partition(b".")
    whole = whole.lstrip(b"0")
    # Compare lengths before values: int() refuses thousands of digits.
    if len(whole) >= len(str(LIMIT)):
        whole, decimals = str(LIMIT).encode(), b""
    decimals = decimals[:DECIMALS]
    while decimals and int(whole + decimals) >= LIMIT:
        decimals = decimals[:-1]
    value = np.float32(int(whole + decimals or b"0")) / np.float32(10 ** len(decimals))
    return -value if digits.startswith(b"-") else value
