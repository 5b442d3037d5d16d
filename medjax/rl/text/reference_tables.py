"""Tables of descriptions for `recitation_reward`, built on the host with NumPy."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int, UInt8

from medjax.rl.text.recitation_text import ORDER, grams
from medjax.rl.text.words import KINDS, split_words


class RecitationTables(NamedTuple):
    """References of C classes: R texts with M_n different n-grams, M_1 words."""

    columns: UInt8[Array | np.ndarray, "256"]  # of a byte in the trie; A is a
    kinds: UInt8[Array | np.ndarray, "256"]
    transitions: Int[Array | np.ndarray, "S columns"]  # row 0 starts, row 1 is lost
    words: Int[Array | np.ndarray, "S"]  # the word that ends in a state, -1 = none
    pairs: tuple[Int[Array | np.ndarray, "M"], ...]  # of 2, 3, 4 words, sorted:
    # index of the first n - 1 words * M_1 + index of the last
    limits: tuple[Int[Array | np.ndarray, "rows M"], ...]  # most of each n-gram in one
    # reference, n = 1 ... 4: row 0 over all classes, row 1 + c over class c's
    lengths: Int[Array | np.ndarray, "R"]  # words of a reference
    owners: Int[Array | np.ndarray, "R"]  # its class


def recitation_tables(
    descriptions: Sequence[str | Sequence[str]],
) -> RecitationTables:
    """Tables for `recitation_reward`, NumPy; put them on the device once.

    Args:
        descriptions: What the prompt tells of each class: one text, which is one
            reference, or several, each a reference of its own. Each must hold a word,
            as `split_words` counts them.
            Short references suit short reasoning: the brevity penalty takes the one of
            closest length.

    Returns:
        The words and n-grams (n = 1 to 4) of all descriptions, and how often each
        stands in one of them.

    Raises:
        ValueError: no classes, a text in place of their list, a description or a part
            of one without words, or so many n-grams that their 32-bit indices run out.
    """
    if isinstance(descriptions, str) or not descriptions:
        raise ValueError("expected one or more descriptions, one a class")
    references, owners = [], []
    for label, texts in enumerate(descriptions):
        texts = [texts] if isinstance(texts, str) else list(texts)
        parts = [split_words(text) for text in texts]
        if not parts or not all(parts):
            empty = texts[parts.index([])] if parts else texts
            raise ValueError(f"description {empty!r} of class {label} holds no words")
        references += parts
        owners += [label] * len(parts)

    index = {w: n for n, w in enumerate(sorted({w for r in references for w in r}))}
    indices = {(w,): n for w, n in index.items()}
    pairs, limits = [], [_limits(indices, references, owners, 1)]
    for n in range(2, ORDER + 1):
        found = {gram for r in references for gram in grams(r, n)}
        keys = {
            gram: indices[gram[:-1]] * len(index) + index[gram[-1]] for gram in found
        }
        order = sorted(keys, key=keys.__getitem__)
        if order and keys[order[-1]] >= 2**31:
            raise ValueError(
                f"{len(indices)} sequences of {n - 1} words out of {len(index)}: too "
                "many for 32-bit indices; shorten the descriptions"
            )
        pairs.append(np.array([keys[gram] for gram in order], np.int32))
        indices = {gram: at for at, gram in enumerate(order)}
        limits.append(_limits(indices, references, owners, n))
    return RecitationTables(
        *_build_trie(index),
        tuple(pairs),
        tuple(limits),
        np.array([len(r) for r in references], np.int32),
        np.array(owners, np.int32),
    )


def _limits(
    indices: dict[tuple[bytes, ...], int],
    references: list[list[bytes]],
    owners: list[int],
    n: int,
) -> Int[np.ndarray, "rows M"]:
    table = np.zeros((2 + max(owners), len(indices)), np.int32)
    for words, owner in zip(references, owners, strict=True):
        for gram, count in Counter(grams(words, n)).items():
            at = indices[gram]
            table[0, at] = max(table[0, at], count)
            table[1 + owner, at] = max(table[1 + owner, at], count)
    return table


def _build_trie(
    index: dict[bytes, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(columns, kinds, transitions, words) that read a word byte by byte."""
    used = sorted({byte for word in index for byte in word})
    columns = np.zeros(256, np.uint8)
    columns[used] = np.arange(1, len(used) + 1, dtype=np.uint8)
    capitals = np.arange(ord("A"), ord("Z") + 1)
    columns[capitals] = columns[capitals + 32]
    rows, words = [np.ones(len(used) + 1, np.int32) for _ in range(2)], [-1, -1]
    for word, at in index.items():
        state = 0
        for column in columns[list(word)]:
            if rows[state][column] == 1:
                rows[state][column] = len(rows)
                rows.append(np.ones(len(used) + 1, np.int32))
                words.append(-1)
            state = rows[state][column]
        words[state] = at
    return columns, KINDS, np.stack(rows), np.array(words, np.int32)
