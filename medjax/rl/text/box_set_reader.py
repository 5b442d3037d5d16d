"""Read sets of boxes from sampled tokens on the device; see `box_set_text.py`.

Bytes come from the loop of `boxes.py` and drive the automaton of
`box_set_automaton.py`; a box whose bracket is closed is stored with the others.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_arrays, check_flags
from medjax.indexing import look_up
from medjax.masked import masked_mean
from medjax.rl.box_sets import MOST_BOXES
from medjax.rl.text import box_automaton, box_set_automaton
from medjax.rl.text.box_set_text import ParsedSets
from medjax.rl.text.boxes import (
    Numbers,
    ParseTables,
    fold_bytes,
    no_numbers,
    number_values,
    update_numbers,
    zero_rows,
)


class BoxSetTables(NamedTuple):
    """The automaton of sets of boxes; made by `box_set_tables`."""

    transitions: Int[Array | np.ndarray, "S 256"]
    outputs: Int[Array | np.ndarray, "S"]


class _Reader(NamedTuple):
    """Where the automaton stands in a row; every array has the leading shape."""

    state: Array
    numbers: Numbers  # of the box that is being read
    opened: Array  # its first byte
    boxes: Array  # [..., 8, 4]
    spans: Array  # [..., 8, 2]
    count: Array
    num_answers: Array


def box_set_tables(*, think: bool = True) -> BoxSetTables:
    """Tables for `parse_box_sets`, NumPy; the same whatever the vocabulary of tokens.

    They are built in about a second: make them once.

    Args:
        think: True makes `<think>..</think><answer>..</answer>` the right format, False
            the answer alone, without a think tag; static. Sets are read alike.

    Returns:
        An automaton as arrays of integers: put them on the device once.

    Raises:
        ValueError: a `think` that is not True or False.
    """
    check_flags("box_set_tables", think=think)
    return BoxSetTables(*box_set_automaton.build_box_set_automaton(think=think))


def parse_box_sets(
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    tables: ParseTables,
    sets: BoxSetTables,
) -> ParsedSets:
    """Parse completions as `parse_box_set_text` does the bytes of their tokens.

    Between the first `<answer>` and the first `</answer>` after it every `[x1, y1, x2,
    y2]` is a box that stands after `"bbox_2d":`, in a list or alone. An answer `[]` or
    `no finding` is the empty set. The format is right where the text is
    `<think>..</think><answer>..</answer>` with white space alone around and between,
    each tag once, and a set is found. Numbers are read as by `parse_completions`.

    Args:
        tokens: Token ids from 0 to V - 1, with any leading axes, or none; an id outside
            writes nothing. T may be 0, and so may any leading axis.
        mask: True at the tokens of the completion, wherever they stand; the others are
            not read. The stop token may be among them, as special tokens write nothing.
            A row without a token is an empty text.
        tables: Those of the vocabulary, made by `build_tables`; the automaton in them
            is not read.
        sets: Those of `box_set_tables`.

    Returns:
        Boxes in float32 in the order of the text, in pixels of whatever frame the
        completion means, flags, int32 counts and spans in bytes. `found` is False where
        there is no closed answer, where it holds neither a box nor the words for none,
        and where it holds more than 8 boxes; then there are zeros for boxes, and
        `num_boxes` tells the number that was written.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_arrays(
        "parse_box_sets", tokens=(tokens, "*N T", int), mask=(mask, "*N T", bool)
    )
    transitions, outputs = map(jnp.asarray, sets)

    def step(old: _Reader, byte: Array, at: Array, reading: Array) -> _Reader:
        state = look_up(transitions, old.state, byte).astype(jnp.int32)
        state = jnp.where(reading, state, old.state)
        before, output = look_up(outputs, old.state), look_up(outputs, state)
        closes = (before & ~output & box_automaton.INSIDE) > 0
        action = jnp.where(reading, output % box_automaton.SLOT, box_automaton.IDLE)
        opens = action == box_set_automaton.OPEN
        stores = action == box_set_automaton.STORE
        numbers = update_numbers(
            old.numbers,
            jnp.where(opens, box_automaton.RESET, action),
            output // box_automaton.SLOT % 4,
            byte - ord("0"),
        )
        here = [stores & (old.count == n) for n in range(MOST_BOXES)]
        here = jnp.stack(here, axis=-1)[..., None]
        span = jnp.stack([old.opened, at + 1], axis=-1)
        return _Reader(
            state,
            numbers,
            jnp.where(opens, at, old.opened),
            jnp.where(here, number_values(numbers)[..., None, :], old.boxes),
            jnp.where(here, span[..., None, :], old.spans),
            old.count + stores.astype(jnp.int32),
            old.num_answers + (reading & closes).astype(jnp.int32),
        )

    zero = zero_rows(tokens, mask)
    slots = jnp.stack([zero] * MOST_BOXES, axis=-1)
    spans = jnp.stack([slots] * 2, axis=-1)
    boxes = jnp.stack([slots] * 4, axis=-1).astype(jnp.float32)
    reader = _Reader(zero, no_numbers(zero), zero, boxes, spans, zero, zero)
    reader = fold_bytes(step, reader, tokens, mask, tables)

    output = look_up(outputs, reader.state)
    answered = (output & box_set_automaton.ANSWERED) > 0
    none = (output & box_set_automaton.NONE) > 0
    count = jnp.where(answered, reader.count, 0)
    found = none | ((count > 0) & (count <= MOST_BOXES))
    box_valid = jnp.stack([found & (count > n) for n in range(MOST_BOXES)], axis=-1)
    return ParsedSets(
        boxes=jnp.where(box_valid[..., None], reader.boxes, jnp.float32(0)),
        box_valid=box_valid,
        found=found,
        format=found & ((output & box_set_automaton.RIGHT_TAGS) > 0),
        num_boxes=count,
        num_answers=reader.num_answers,
        spans=jnp.where(box_valid[..., None], reader.spans, 0),
    )


def box_confidence(
    logp: Float[Array, "*N T"],
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    spans: Int[Array, "*N K 2"],
    tables: ParseTables,
) -> Float[Array, "*N K"]:
    """The mean probability of the tokens that wrote each box, from 0 to 1.

    A box's tokens are those with a byte in its span: its brackets, its numbers and the
    commas between them, and what else a token at its ends writes. No published measure:
    of greedy answers it is a score to rank boxes by, and is not calibrated.

    Args:
        logp: Of each token under the policy, in nats, 0 or less, as `Rollout.logp`;
            above 0 is not refused and counts as more than 1. A NaN makes the boxes NaN
            whose tokens it is among; what stands outside of `mask` is not read.
        tokens: Token ids from 0 to V - 1, with any leading axes, or none; an id outside
            writes nothing.
        mask: True at the tokens of the completion, wherever they stand.
        spans: (first byte, byte after the last) of K boxes, `ParsedSets.spans`. An
            empty or inverted one, and one outside of the text, holds no token; K and T
            may be 0.
        tables: Those of the vocabulary, made by `build_tables`.

    Returns:
        In the dtype of `logp`, float32 at least; 0 where no token lies in the span, as
        in the empty span of a box that is not there.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_arrays(
        "box_confidence",
        logp=(logp, "*N T", float),
        tokens=(tokens, "*N T", int),
        mask=(mask, "*N T", bool),
        spans=(spans, "*N K 2", int),
    )
    length = jnp.asarray(tables.vocab_length)
    known = mask & (tokens >= 0) & (tokens < length.shape[0])
    size = jnp.where(known, look_up(length, jnp.where(known, tokens, 0)), 0)
    end = jnp.cumsum(size, axis=-1, dtype=jnp.int32)
    first, last = spans[..., None, 0], spans[..., None, 1]
    inside = (end[..., None, :] > first) & ((end - size)[..., None, :] < last)
    inside &= (size > 0)[..., None, :] & (last > first)
    share = jnp.exp(jnp.where(known, logp, 0).astype(_wide(logp)))
    return masked_mean(
        jnp.broadcast_to(share[..., None, :], inside.shape), inside, axis=-1
    )


def _wide(logp: Array) -> jnp.dtype:
    return jnp.promote_types(logp.dtype, jnp.float32)
