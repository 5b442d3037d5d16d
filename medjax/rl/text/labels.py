"""Read labels from sampled tokens on the device; `label_text.py` says what is read.

Bytes come from the loop of `boxes.py` and drive the two automata of
`label_automaton.py`. All is integer work on arrays of the leading shape.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from medjax.checks import check_arrays, check_flags
from medjax.indexing import look_up
from medjax.rl.text import label_automaton, words
from medjax.rl.text.boxes import ParseTables, fold_bytes, zero_rows
from medjax.rl.text.label_automaton import IN_ANSWER, IN_THINK, WELL_FORMED
from medjax.rl.text.label_text import LabelForms, ParsedLabels


class LabelTables(NamedTuple):
    """The classes' automata; made by `label_tables`."""

    frame: Int[Array | np.ndarray, "F 256"]
    flags: Int[Array | np.ndarray, "F"]
    columns: UInt8[Array | np.ndarray, "256"]
    transitions: Int[Array | np.ndarray, "S columns"]
    labels: Int[Array | np.ndarray, "S"]
    word_kinds: UInt8[Array | np.ndarray, "256"]


class _Place(NamedTuple):
    """What is remembered at a `<`, which may turn out to start a closing tag."""

    at: Array
    answer: Array  # state of the answer's automaton before it
    words: Array  # of the reasoning before it


class _Reader(NamedTuple):
    """Where a row stands; every array has the leading shape."""

    frame: Array
    answer: Array  # state since the last <answer>
    words: Array  # started since the last byte that was outside the reasoning
    in_word: Array
    mark: _Place
    think_opened: Array  # first byte after <think>
    answer_opened: Array
    read: ParsedLabels


def label_tables(forms: LabelForms, *, think: bool = True) -> LabelTables:
    """Tables for `parse_labels`, NumPy; the same whatever the vocabulary of tokens.

    Args:
        forms: What counts as an answer for each class, made by `label_forms`. A class
            takes a few dozen states of the table.
        think: True counts `<think>..</think><answer>..</answer>` as well formed, False
            `<answer>..</answer>` alone, without a think tag; static. Labels and
            reasoning are read alike.

    Returns:
        Two automata as arrays of integers, which find the blocks and read what stands
        in the answer: put them on the device once.

    Raises:
        ValueError: a `think` that is not True or False.
    """
    check_flags("label_tables", think=think)
    frame = label_automaton.build_frame(think=think)
    reader = label_automaton.build_reader(forms)
    return LabelTables(*frame, *reader, words.KINDS)


def parse_labels(
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    tables: ParseTables,
    labels: LabelTables,
) -> ParsedLabels:
    """Parse completions as `parse_label_text` does the bytes of their tokens.

    The last `<answer>..</answer>` is read, and counts only if the whole of it is a
    name, a grade or a letter of one class (`label_forms`). The reasoning is what stands
    between the first `<think>` and the first `</think>` after it, its words are those
    of `split_words`. Well formed is `<think>..</think><answer>..</answer>` with white
    space alone around and between, each tag once, whatever the answer is.

    Args:
        tokens: Token ids from 0 to V - 1, with any leading axes, or none; an id outside
            writes nothing. T may be 0, and so may any leading axis.
        mask: True at the tokens of the completion, wherever they stand; the others are
            not read. The stop token may be among them, as special tokens write nothing.
            A row without a token is an empty text.
        tables: Those of the vocabulary, made by `build_tables`.
        labels: Those of the classes, made by `label_tables`.

    Returns:
        Of each row `label` and `parsed` (whether there is one), `well_formed` (the
        reasoning, the answer, and nothing else), `num_answers` (answers that were
        closed), `think` and `think_words` (the reasoning and its words) and `answer`
        (the last one): int32 and bool. Label -1 and spans (0, 0) are where there is
        nothing to read. A span [.., 2] is the first byte of the row's text, from 0 on,
        and the byte after its last.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_arrays(
        "parse_labels", tokens=(tokens, "*N T", int), mask=(mask, "*N T", bool)
    )
    labels = LabelTables(*map(jnp.asarray, labels))

    def step(old: _Reader, byte: Array, at: Array, reading: Array) -> _Reader:
        frame = look_up(labels.frame, old.frame, byte).astype(jnp.int32)
        was, now = look_up(labels.flags, old.frame), look_up(labels.flags, frame)
        opens, closes = now & ~was, was & ~now
        kind = look_up(labels.word_kinds, byte)
        in_word = kind > words.BREAK
        starts = in_word & (~old.in_word | (kind == words.INITIAL))
        at_tag = byte == ord("<")
        column = look_up(labels.columns, byte).astype(jnp.int32)
        new = _Reader(
            frame,
            jnp.where(
                (opens & IN_ANSWER) > 0,
                0,
                look_up(labels.transitions, old.answer, column),
            ),
            jnp.where((was & IN_THINK) > 0, old.words + starts.astype(jnp.int32), 0),
            in_word,
            _choose(at_tag, _Place(at, old.answer, old.words), old.mark),
            jnp.where((opens & IN_THINK) > 0, at + 1, old.think_opened),
            jnp.where((opens & IN_ANSWER) > 0, at + 1, old.answer_opened),
            _close(old, labels.labels, closes),
        )
        return _choose(reading, new, old)

    zero = zero_rows(tokens, mask)
    none = zero > 0
    span = jnp.stack([zero, zero], axis=-1)
    nothing = ParsedLabels(zero - 1, none, none, zero, span, zero, span)
    place = _Place(zero, zero, zero)
    reader = _Reader(zero, zero, zero, none, place, zero, zero, nothing)
    reader = fold_bytes(step, reader, tokens, mask, tables)
    right = (look_up(labels.flags, reader.frame) & WELL_FORMED) > 0
    return reader.read._replace(parsed=reader.read.label >= 0, well_formed=right)


def _close(reader: _Reader, label_of: Array, closes: Array) -> ParsedLabels:
    """What is known once a closing tag is read: the block ended before its `<`."""
    read, mark = reader.read, reader.mark
    answered, thought = (closes & IN_ANSWER) > 0, (closes & IN_THINK) > 0
    answer = jnp.stack([reader.answer_opened, mark.at], axis=-1)
    think = jnp.stack([reader.think_opened, mark.at], axis=-1)
    return read._replace(
        label=jnp.where(answered, look_up(label_of, mark.answer), read.label),
        num_answers=read.num_answers + answered.astype(jnp.int32),
        answer=jnp.where(answered[..., None], answer, read.answer),
        think=jnp.where(thought[..., None], think, read.think),
        think_words=jnp.where(thought, mark.words, read.think_words),
    )


def _choose(condition: Array, new: Any, old: Any) -> Any:
    """Leaf by leaf; a leaf may have one axis more than the condition."""

    def choose(a: Array, b: Array) -> Array:
        wide = condition[..., None] if a.ndim > condition.ndim else condition
        return jnp.where(wide, a, b)

    return jax.tree.map(choose, new, old)
