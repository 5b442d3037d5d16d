"""The references' tables against counts made in loops."""

from collections import Counter

import numpy as np
import pytest

from medjax.rl.text.recitation_text import grams
from medjax.rl.text.reference_tables import recitation_tables
from medjax.rl.text.words import split_words
from tests.oracles.descriptions import ORGANS, SENTENCES


def read_word(tables, word):
    state = 0
    for byte in word:
        state = tables.transitions[state, tables.columns[byte]]
    return tables.words[state]


@pytest.mark.parametrize("descriptions", [ORGANS, SENTENCES, ["a"], ["a b", "A B"]])
def test_tables_hold_every_reference(descriptions):
    tables = recitation_tables(descriptions)
    texts = [[t] if isinstance(t, str) else t for t in descriptions]
    texts = [(c, split_words(t)) for c, parts in enumerate(texts) for t in parts]
    np.testing.assert_array_equal(tables.owners, [c for c, _ in texts])
    np.testing.assert_array_equal(tables.lengths, [len(words) for _, words in texts])
    index = {w: int(read_word(tables, w)) for _, words in texts for w in words}
    assert sorted(index.values()) == list(range(len(index)))
    names = {number: (word,) for word, number in index.items()}
    for n, limits in enumerate(tables.limits, 1):
        if n > 1:
            keys = tables.pairs[n - 2]
            assert np.all(np.diff(keys) > 0)
            names = {
                at: names[key // len(index)] + (*_word(index, key % len(index)),)
                for at, key in enumerate(keys)
            }
        assert limits.shape == (1 + len(descriptions), len(names))
        for at, gram in names.items():
            counts = [(c, Counter(grams(words, n))[gram]) for c, words in texts]
            assert limits[0, at] == max(count for _, count in counts)
            for label in range(len(descriptions)):
                most = max(count for c, count in counts if c == label)
                assert limits[1 + label, at] == most
    assert {x.dtype.name for x in (*tables.pairs, *tables.limits)} == {"int32"}


def _word(index, number):
    return [word for word, at in index.items() if at == number]


def test_the_trie_knows_words_and_nothing_else():
    tables = recitation_tables(ORGANS)
    for word in (b"liver", b"LIVER", b"Liver", "größe".encode(), "肝".encode(), b"2"):
        assert read_word(tables, word) >= 0
        assert read_word(tables, word) == read_word(tables, word.lower())
    for word in (b"", b"live", b"livers", b"iver", "肝臓".encode(), b"22", b"\xff"):
        assert read_word(tables, word) == -1


@pytest.mark.parametrize(
    ("descriptions", "message"),
    [
        ([], "expected one or more descriptions"),
        ("the liver", "expected one or more descriptions"),
        (["the liver", ""], "description '' of class 1 holds no words"),
        (["the liver", " .,"], "description ' .,' of class 1 holds no words"),
        ([["the liver", "-"]], "description '-' of class 0 holds no words"),
        (["the liver", []], "of class 1 holds no words"),
    ],
)
def test_empty_descriptions_are_refused(descriptions, message):
    with pytest.raises(ValueError, match=message):
        recitation_tables(descriptions)


def test_too_many_words_for_the_indices_are_refused():
    words = [f"w{n}" for n in range(50_000)]
    with pytest.raises(ValueError, match="too many for 32-bit indices"):
        recitation_tables([" ".join(words)])
