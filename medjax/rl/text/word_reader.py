"""The words of a span of each row's bytes, read on the device.

Bytes walk a trie of the references' words, so that each word gets its index, or -1 if
no reference has it: no hash, no collision. Only `count_different` goes by a hash, as it
also compares words that no reference has: of 2^32 pairs of different words one counts
as a repetition.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt32

from medjax.checks import check_arrays, check_integers
from medjax.indexing import look_up
from medjax.rl.text import words as word
from medjax.rl.text.boxes import ParseTables, fold_bytes, zero_rows
from medjax.rl.text.reference_tables import RecitationTables

_BASIS, _PRIME = 2166136261, 16777619  # of FNV-1a in 32 bits


class Words(NamedTuple):
    """The words of each row, W at most."""

    index: Int[Array, "*N W"]  # among the references' words; -1 = of none, or no word
    count: Int[Array, "*N"]
    key: UInt32[Array, "*N W"]  # FNV-1a hash of a word's bytes, 0 = no word


class _Reader(NamedTuple):
    state: Array  # of the trie
    key: Array  # hash of the word so far
    in_word: Array
    words: Words


def read_words(
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    span: Int[Array, "*N 2"],
    tables: ParseTables,
    references: RecitationTables,
    *,
    max_words: int | None = None,
) -> Words:
    """The words that stand in a span of each row's bytes.

    Args:
        tokens: Token ids from 0 to V - 1, with any leading axes, or none; an id outside
            writes nothing. T may be 0, and so may any leading axis.
        mask: True at the tokens of the completion, wherever they stand; the others are
            not read. The stop token may be among them, as special tokens write nothing.
            A row without a token is an empty text.
        span: (first byte, byte after the last) of what is read, in bytes of the text
            from 0 on. An empty or inverted span has no words, one past the text's end
            reads to the end, and a negative first byte is the text's first. A word that
            an end of the span cuts is read as far as it lies inside.
        tables: Those of the vocabulary, made by `build_tables`.
        references: Those of the descriptions: a word gets its index among theirs.
        max_words: Only the first so many words are kept and counted, a Python integer
            (static) of 1 or more; None stands for T, so that of a text with more words
            than tokens the last are left out.

    Returns:
        The first W words of each row, W being `max_words`: their index among the
        references' words (-1 for a word of no reference and where there is no word),
        their number and their hashes (0 where there is no word).

    Raises:
        ValueError: shapes or dtypes that do not fit, or a `max_words` that is traced,
            below 1 or no integer.
    """
    check_arrays(
        "read_words",
        tokens=(tokens, "*N T", int),
        mask=(mask, "*N T", bool),
        span=(span, "*N 2", int),
    )
    width = max(tokens.shape[-1], 1) if max_words is None else max_words
    check_integers("read_words", max_words=(width, 1, None))
    columns, kinds, transitions, found = map(jnp.asarray, references[:4])

    def end_word(reader: _Reader, ends: Array) -> Words:
        index, count, key = reader.words
        keeps = ends & (count < width)
        put = jnp.where(keeps, count, width)
        index, key = (
            _put(index, put, look_up(found, reader.state)),
            _put(key, put, reader.key),
        )
        return Words(index, count + keeps.astype(jnp.int32), key)

    def step(reader: _Reader, byte: Array, at: Array, reading: Array) -> _Reader:
        kind = look_up(kinds, byte)
        inside = (kind > word.BREAK) & (at >= span[..., 0])
        starts = inside & (~reader.in_word | (kind == word.INITIAL))
        ends = reader.in_word & (starts | ~inside)
        column = look_up(columns, byte).astype(jnp.int32)
        state = look_up(transitions, jnp.where(starts, 0, reader.state), column)
        small = jnp.where((byte >= ord("A")) & (byte <= ord("Z")), byte + 32, byte)
        key = jnp.where(starts, jnp.uint32(_BASIS), reader.key)
        key = (key ^ small.astype(jnp.uint32)) * jnp.uint32(_PRIME)
        return _Reader(
            jnp.where(reading, state, reader.state),
            jnp.where(reading, key, reader.key),
            jnp.where(reading, inside, reader.in_word),
            end_word(reader, reading & ends),
        )

    zero = zero_rows(tokens, mask, span)
    index = jnp.broadcast_to(zero[..., None] - 1, (*zero.shape, width))
    key = jnp.zeros_like(index, jnp.uint32)
    reader = _Reader(zero, key[..., 0], zero > 0, Words(index, zero, key))
    reader = fold_bytes(step, reader, tokens, mask, tables, limit=span[..., 1])
    return end_word(reader, reader.in_word)


def count_different(words: Words) -> Int[Array, "*N"]:
    """How many different words each row has, capitals and small letters being one.

    Args:
        words: What `read_words` found; a row without words has 0. Words are told apart
            by a hash of 32 bits, so one in 4e9 pairs of different ones counts as equal.

    Returns:
        int32, from 0 to W, the number of words that `read_words` keeps of a row.

    Raises:
        ValueError: words of shapes or dtypes that do not fit each other.
    """
    check_words("count_different", words)
    place = jax.lax.broadcasted_iota(jnp.int32, words.key.shape, words.key.ndim - 1)
    key = jnp.where(place < words.count[..., None], words.key, 0)
    ordered = jnp.sort(key, axis=-1)
    first = jnp.concatenate(
        [ordered[..., :1] > 0, ordered[..., 1:] != ordered[..., :-1]], axis=-1
    )
    return jnp.sum(first, axis=-1, dtype=jnp.int32)


def check_words(function: str, words: Words) -> None:
    """Refuse words whose arrays do not belong together.

    Args:
        function: The public function's name, with which the message begins.
        words: Theirs; `count` gives the rows.

    Raises:
        ValueError: naming the array, what was expected and what was found.
    """
    check_arrays(
        function,
        **{
            "words.count": (words.count, "*N", int),
            "words.index": (words.index, "*N W", int),
            "words.key": (words.key, "*N W", int),
        },
    )


def _put(
    rows: Int[Array, "*N W"], at: Int[Array, "*N"], values: Int[Array, "*N"]
) -> Int[Array, "*N W"]:
    """rows[..., at] = values, one a row; W or more is nowhere."""

    def put(row: Array, at: Array, value: Array) -> Array:
        return row.at[at].set(value, mode="drop")

    for _ in range(at.ndim):
        put = jax.vmap(put)
    return put(rows, at, values)
