"""Read boxes from sampled tokens on the device; `box_text.py` says what is read.

Tokens become bytes through a table of the vocabulary, bytes drive the automaton of
`box_automaton.py`, and four registers collect the numbers. Everything is integer work
on arrays of the leading shape, so it runs under jit and vmap and on sharded rows.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from medjax.checks import check_arrays, check_flags
from medjax.indexing import look_up
from medjax.rl.text import box_automaton
from medjax.rl.text.box_text import DECIMALS, LIMIT, Parsed


class ParseTables(NamedTuple):
    """A vocabulary's bytes and the automaton of boxes; made by `build_tables`.

    As arguments of a compiled function or bound to it, of NumPy or on the device, they
    are read alike.
    """

    vocab_bytes: UInt8[Array | np.ndarray, "bytes"]  # every token's, one after another
    vocab_start: Int[Array | np.ndarray, "V"]  # a token's first byte in vocab_bytes
    vocab_length: Int[Array | np.ndarray, "V"]  # 0 = writes nothing, as special tokens
    transitions: Int[Array | np.ndarray, "S 256"]
    outputs: Int[Array | np.ndarray, "S"]


class Numbers(NamedTuple):
    """The registers of a box's four numbers."""

    mantissa: Int[Array, "*N 4"]  # digits
    decimals: Int[Array, "*N 4"]  # how many of the digits stand behind the point
    negative: Bool[Array, "*N 4"]


class _Reader(NamedTuple):
    """Where the automaton stands in a row; every array has the leading shape."""

    state: Array
    numbers: Numbers
    num_answers: Array


def build_tables(token_bytes: list[bytes], *, think: bool = True) -> ParseTables:
    """Tables for a vocabulary, NumPy; put them on the device once.

    Args:
        token_bytes: What each of the V >= 1 tokens writes, in the order of their ids;
            `b""` for special tokens and for ids without a token. A token may be a part
            of a character. `medjax.vocabulary_bytes` reads them off a tokenizer.
        think: False makes `<answer>..</answer>` alone, without a think tag, the right
            format of boxes; the boxes are read alike.

    Returns:
        The bytes of all tokens one after another, where each token's begin and how many
        it has, and the automaton that reads boxes, the same for every vocabulary.

    Raises:
        ValueError: no tokens, one that is not of bytes, which text is not, or a `think`
            that is not True or False.
    """
    check_flags("build_tables", think=think)
    if not token_bytes or not all(isinstance(data, bytes) for data in token_bytes):
        odd = next((x for x in token_bytes if not isinstance(x, bytes)), None)
        found = "none" if odd is None else f"a {type(odd).__name__}: {odd!r}"
        raise ValueError(
            f"build_tables: token_bytes: expected the bytes of one or more tokens, "
            f"found {found}; give text.encode(), b'' for special tokens"
        )
    lengths = np.array([len(data) for data in token_bytes], np.int32)
    # One byte more, so that an empty token at the end has an address too.
    flat = np.frombuffer(b"".join(token_bytes) + b"\0", np.uint8)
    starts = np.cumsum(lengths, dtype=np.int32) - lengths
    machine = box_automaton.build_automaton(think=think)
    return ParseTables(flat, starts, lengths, *machine)


def fold_bytes(
    step: Callable[[Any, Array, Array, Array], Any],
    carry: Any,
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    tables: ParseTables,
    *,
    limit: Int[Array, "*N"] | None = None,
) -> Any:
    """Fold `step` over the bytes of completions, one byte of every row per turn.

    The loop is as long as the longest row has bytes: one reduction over all rows, and
    no other traffic between devices.

    Args:
        step: (carry, byte, at, reading) -> carry. The three are of the leading shape:
            a byte 0-255 (int32), its place in its row's text from 0 on (int32), and
            whether there is one at this turn (bool). Where there is none, because the
            row has ended or its token writes nothing, `step` must leave the row's part
            of the carry as it was; what stands for byte and place means nothing.
        carry: Where the reading starts: any tree of arrays, of the shapes and dtypes
            that `step` gives back. On a mesh of Explicit axes and in `shard_map` make
            it of the tokens, `jnp.zeros_like(limit)` and the like, so that it lies and
            varies over devices as they do.
        tokens: Token ids from 0 to V - 1, with any leading axes, or none; an id outside
            writes nothing. T may be 0, and so may any leading axis.
        mask: True at the tokens of the completion, wherever they stand; the others are
            not read. The stop token may be among them, as special tokens write nothing.
            A row without a token is an empty text.
        tables: Those of the vocabulary; the automaton in them is not read.
        limit: How many bytes to read of each row at most; 0 and negative numbers read
            nothing, None reads all.

    Returns:
        The carry after the last byte of the longest row; `carry` itself, where no row
        has a byte.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_arrays(
        "fold_bytes",
        tokens=(tokens, "*N T", int),
        mask=(mask, "*N T", bool),
        limit=(limit, "*N", int),
    )
    if 0 in tokens.shape:
        return carry
    data, address, length = map(jnp.asarray, tables[:3])
    place = lax.broadcasted_iota(jnp.int32, tokens.shape, tokens.ndim - 1)
    count = jnp.max(jnp.where(mask, place + 1, 0), axis=-1)
    known = (tokens >= 0) & (tokens < length.shape[0])
    ids = jnp.where(known, tokens, 0)
    size = jnp.where(mask & known, look_up(length, ids), 0)
    start = look_up(address, ids)
    turns = jnp.where(place < count[..., None], jnp.maximum(size, 1), 0)
    if limit is not None:
        before = jnp.cumsum(size, axis=-1, dtype=jnp.int32) - size
        turns = jnp.where(before < limit[..., None], turns, 0)

    def read_byte(
        _: Array, reader: tuple[Any, Array, Array, Array]
    ) -> tuple[Any, Array, Array, Array]:
        carry, token, offset, at = reader
        index = jnp.minimum(token, tokens.shape[-1] - 1)
        here = _pick(size, index)
        reading = (token < count) & (offset < here)
        if limit is not None:
            reading &= at < limit
        byte = look_up(data, _pick(start, index) + offset).astype(jnp.int32)
        leaves = offset + 1 >= here
        return (
            step(carry, byte, at, reading),
            token + leaves.astype(jnp.int32),
            jnp.where(leaves, 0, offset + 1),
            at + reading.astype(jnp.int32),
        )

    limits = () if limit is None else (limit[..., None],)
    zero = zero_rows(tokens, mask, *limits)
    most = jnp.max(jnp.sum(turns, axis=-1, dtype=jnp.int32))
    return lax.fori_loop(0, most, read_byte, (carry, zero, zero, zero))[0]


def parse_completions(
    tokens: Int[Array, "*N T"], mask: Bool[Array, "*N T"], tables: ParseTables
) -> Parsed:
    """Parse completions as `parse_text` does the bytes of their tokens.

    The box is the first `"bbox_2d": [x1, y1, x2, y2]` between the first `<answer>` and
    the first `</answer>` after it. Numbers are digits, perhaps with a minus before and
    decimals behind. The format is right where the text is
    `<think>..</think><answer>..</answer>` with white space alone around and between,
    each tag once, and there is a box.

    Whole numbers equal the host's everywhere; decimals do where float32 division is
    correctly rounded (CPU), and within two units in the last place elsewhere. A text of
    any bytes is read: a row without a box has zeros for one, and says so.

    Args:
        tokens: Token ids from 0 to V - 1, with any leading axes, or none; an id outside
            writes nothing. T may be 0, and so may any leading axis.
        mask: True at the tokens of the completion, wherever they stand; the others are
            not read. The stop token may be among them, as special tokens write nothing.
            A row without a token is an empty text.
        tables: Those of the same vocabulary, made by `build_tables`.

    Returns:
        Boxes in float32 (pixels of whatever frame the completion means), flags and
        int32 counts of closed answers; zeros for a box that is not there. Numbers
        beyond 10^8 read as 10^8, and below -10^8 as -10^8.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_arrays(
        "parse_completions", tokens=(tokens, "*N T", int), mask=(mask, "*N T", bool)
    )
    transitions, outputs = jnp.asarray(tables.transitions), jnp.asarray(tables.outputs)

    def step(reader: _Reader, byte: Array, _: Array, reading: Array) -> _Reader:
        state = look_up(transitions, reader.state, byte).astype(jnp.int32)
        state = jnp.where(reading, state, reader.state)
        before, output = look_up(outputs, reader.state), look_up(outputs, state)
        closes = (before & ~output & box_automaton.INSIDE) > 0
        action = jnp.where(reading, output % box_automaton.SLOT, box_automaton.IDLE)
        slot = output // box_automaton.SLOT % 4
        return _Reader(
            state,
            update_numbers(reader.numbers, action, slot, byte - ord("0")),
            reader.num_answers + (reading & closes).astype(jnp.int32),
        )

    zero = zero_rows(tokens, mask)
    reader = _Reader(zero, no_numbers(zero), zero)
    reader = fold_bytes(step, reader, tokens, mask, tables)

    output = look_up(outputs, reader.state)
    box_found = (output & box_automaton.HAS_BOX) > 0
    boxes = number_values(reader.numbers)
    return Parsed(
        boxes=jnp.where(box_found[..., None], boxes, jnp.float32(0)),
        box_found=box_found,
        format=(output & box_automaton.IN_FORMAT) > 0,
        num_answers=reader.num_answers,
    )


def zero_rows(*arrays: Int[Array, "*N _"] | Bool[Array, "*N _"]) -> Int[Array, "*N"]:
    """A 0 for each row, which lies and varies over devices as the arrays together do.

    On a mesh of Explicit axes and in `shard_map`, the carry of a loop has to start so.
    """
    sums = [jnp.sum(x, axis=-1, dtype=jnp.int32) for x in arrays]
    return jnp.zeros_like(functools.reduce(jnp.add, sums))


def _pick(rows: Array, at: Array) -> Array:
    """rows[..., at] for a row's own `at`."""
    return jnp.take_along_axis(rows, at[..., None], axis=-1, mode="clip")[..., 0]


def no_numbers(zero: Int[Array, "*N"]) -> Numbers:
    """Registers of 0, made of `zero_rows`."""
    zeros = jnp.stack([zero] * 4, axis=-1)
    return Numbers(zeros, zeros, zeros > 0)


def update_numbers(
    numbers: Numbers, action: Int[Array, "*N"], slot: Int[Array, "*N"], digit: Array
) -> Numbers:
    """The registers after a byte.

    Args:
        numbers: Before it.
        action: What it does to a number, of `box_automaton`'s actions.
        slot: To which of the four.
        digit: The byte's value as a digit; it is read where the action adds one.
    """
    mine = jnp.stack([slot == number for number in range(4)], axis=-1)
    action, digit = action[..., None], digit[..., None]
    reset = mine & (action == box_automaton.RESET)
    whole = mine & (action == box_automaton.WHOLE)
    room = numbers.mantissa < LIMIT // 10
    fraction = mine & (action == box_automaton.FRACTION) & room
    fraction &= numbers.decimals < DECIMALS
    longer = numbers.mantissa * 10 + digit
    mantissa = jnp.where(fraction | (whole & room), longer, numbers.mantissa)
    mantissa = jnp.where(whole & ~room, LIMIT, mantissa)
    negative = numbers.negative | (mine & (action == box_automaton.SIGN))
    return Numbers(
        jnp.where(reset, 0, mantissa),
        jnp.where(reset, 0, numbers.decimals + fraction.astype(jnp.int32)),
        negative & ~reset,
    )


def number_values(numbers: Numbers) -> Float[Array, "*N 4"]:
    """The numbers in the registers, float32."""
    powers = jnp.asarray([10.0**n for n in range(DECIMALS + 1)], jnp.float32)
    values = numbers.mantissa.astype(jnp.float32) / look_up(powers, numbers.decimals)
    return jnp.where(numbers.negative, -values, values)
