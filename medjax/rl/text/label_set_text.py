r"""Read a completion's set of labels on the host; `label_sets.py` is tested against it.

The answer of a picture that shows several classes, or none, is the list of their
letters or names with commas between:

    <answer>A, C</answer>    <answer>edema, mass</answer>    <answer>none</answer>

- The text of the last block `<answer>..</answer>` is cut at every comma of ASCII. Each
  piece has to be a label as `label_text.py` reads one: a name, or a letter as "B",
  "(B)", "B." and so on, white space and case not counting. Letters and names may be
  mixed.
- The order does not matter, and a label that is repeated counts once: "C, A, A" is
  "A, C".
- The empty set is "none", alone: an answer that is empty, or names a class beside it,
  is no set.
- One piece that is no label (an unknown word, an "and", nothing at all as behind a last
  comma) makes the whole no set: a list is right or wrong as it stands.

Reasoning, format and spans are those of `label_text.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int

from medjax.rl.text.label_text import (
    SPACE,
    LabelForms,
    label_forms,
    parse_label_text,
    read_label,
)
from medjax.rl.text.words import encode

NONE = "none"
"""The answer that names no class."""
COMMA = ","


class ParsedLabelSets(NamedTuple):
    """What completions say; spans are (first byte, byte after the last)."""

    shown: Bool[Array | np.ndarray, "*N C"]  # the classes named; none where not parsed
    parsed: Bool[Array | np.ndarray, "*N"]  # there is a set, the empty one included
    well_formed: Bool[Array | np.ndarray, "*N"]  # think, answer, and nothing else
    num_answers: Int[Array | np.ndarray, "*N"]  # closed answer blocks
    think: Int[Array | np.ndarray, "*N 2"]  # span of the reasoning, (0, 0) = none
    think_words: Int[Array | np.ndarray, "*N"]  # words in it, see `words.py`
    answer: Int[Array | np.ndarray, "*N 2"]  # span of the last answer, (0, 0) = none


def label_set_forms(
    names: Sequence[str], *, letters: Sequence[str] | None
) -> LabelForms:
    """What counts as a label in a list: each class's name and letter, or "none".

    Args:
        names: What the C classes are called, in the order of their indices, one or
            more. Case and white space round them do not matter: two names that differ
            in nothing else are refused, and so is an empty one.
        letters: The options' letters, one different ASCII letter a class, in either
            case; None where answers are no options.

    Returns:
        The forms of `label_forms`, and after those of the C classes one more, whose one
        text is "none".

    Raises:
        ValueError: what `label_forms` refuses; a name that holds a comma, which
            separates labels; or a class called "none", which is the empty set's word.
    """
    forms = label_forms(names, letters=letters, grades=None)
    for name in names:
        if COMMA in name:
            raise ValueError(
                f"class name {name!r} holds a comma, which separates the labels of an "
                "answer: rename the class"
            )
        if name.strip(SPACE).casefold() == NONE:
            raise ValueError(
                f"class name {name!r} is the word for a picture that shows no class: "
                "rename the class, or leave it out where it means that"
            )
    return forms._replace(texts=(*forms.texts, (NONE,)))


def read_label_set(answer: str | bytes, forms: LabelForms) -> tuple[int, ...] | None:
    """The classes that an answer names, rising and each once; None where it is no set.

    A set is pieces between commas, each of which is a label, in any order, or "none"
    alone. An empty answer or piece, any other word and bytes that are not UTF-8 make it
    no set.

    Args:
        answer: What stands between the tags, such as "A, C", "edema, mass" or "none".
        forms: What counts as a label, made by `label_set_forms`.

    Returns:
        Indices from 0 to C - 1; () for "none".

    Raises:
        ValueError: forms of `label_forms`, which have no word for the empty set.
    """
    check_set_forms("read_label_set", forms)
    pieces = encode(answer).split(COMMA.encode())
    labels = {read_label(piece, forms) for piece in pieces}
    nothing = len(forms.texts) - 1
    if labels == {nothing} and len(pieces) == 1:
        return ()
    return None if labels & {-1, nothing} else tuple(sorted(labels))


def parse_label_set_text(
    text: str | bytes, forms: LabelForms, *, think: bool = True
) -> ParsedLabelSets:
    """Parse one completion on the host; the fields but `shown` have no leading axis.

    The last `<answer>..</answer>` is read by `read_label_set`: it is a set if each of
    its pieces between commas is a label, in any order, or if it is "none", the empty
    set. The reasoning is what stands between the first `<think>` and the first
    `</think>` after it. Well formed is `<think>..</think><answer>..</answer>` with
    white space alone around and between, each tag once, whatever the answer is.

    Args:
        text: The completion without its special tokens; bytes need not be UTF-8.
        forms: What counts as a label, made by `label_set_forms`.
        think: True counts `<think>..</think><answer>..</answer>` as well formed, False
            the answer alone, without a think tag. Sets are read alike.

    Returns:
        NumPy values: `shown` [C], the classes of the set; `parsed`, whether the last
        answer is one, without which nothing is shown; `well_formed`; `num_answers`, the
        answers that were closed; `think_words`, the words of the reasoning; and the
        spans `think` and `answer` [2] in int32, the first byte of the UTF-8, from 0 on,
        and the byte after the last, (0, 0) for what is not there.

    Raises:
        ValueError: forms of `label_forms`, which have no word for the empty set, or a
            `think` that is not True or False.
    """
    check_set_forms("parse_label_set_text", forms)
    read = parse_label_text(text, forms, think=think)
    first, last = read.answer.tolist()
    found = (
        read_label_set(encode(text)[first:last], forms) if read.num_answers else None
    )
    shown = np.zeros(len(forms.texts) - 1, bool)
    shown[list(found or ())] = True
    rest = {name: getattr(read, name) for name in ParsedLabelSets._fields[2:]}
    return ParsedLabelSets(shown=shown, parsed=np.array(found is not None), **rest)


def check_set_forms(function: str, forms: LabelForms) -> None:
    """Refuse forms of single labels: their last class would be read as "none".

    Args:
        function: The public function's name, with which the message begins.
        forms: What its caller gave.

    Raises:
        ValueError: naming what the forms end with, and how to make the right ones.
    """
    if forms.texts[-1:] != ((NONE,),):
        raise ValueError(
            f"{function}: forms: expected those of label_set_forms, which end with "
            f"{NONE!r}; found {forms.texts[-1:]}"
        )
