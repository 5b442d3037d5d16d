"""The frame's and the answers' automata alone, walked in NumPy."""

import itertools
import sys

import numpy as np
import pytest

from medjax.rl.text import label_automaton
from medjax.rl.text.label_text import (
    label_forms,
    option_letters,
    parse_label_text,
    read_label,
)
from tests.oracles.label_completions import BOTH, GRADES, NAMES, ORGANS

TAGS = (b"<think>", b"</think>", b"<answer>", b"</answer>", b" ", b"b", b"<")


def walk(transitions, columns, texts):
    lengths = np.array([len(text) for text in texts])
    width = lengths.max()
    rows = np.frombuffer(b"".join(t.ljust(width, b"\0") for t in texts), np.uint8)
    state = np.zeros(len(texts), np.int64)
    for at, byte in enumerate(rows.reshape(-1, width).T):
        state = np.where(at < lengths, transitions[state, columns[byte]], state)
    return state


def test_the_frame_of_every_short_sequence():
    """Well-formed or not, as the host's expressions say; no state is unreachable."""
    frame = label_automaton.build_frame()
    assert set(np.unique(frame.transitions)) == set(range(len(frame.outputs)))
    texts = [
        b"".join(parts) for n in range(6) for parts in itertools.product(TAGS, repeat=n)
    ]
    flags = frame.outputs[walk(frame.transitions, np.arange(256), texts)]
    parsed = [parse_label_text(text, ORGANS) for text in texts]
    right = (flags & label_automaton.WELL_FORMED) > 0
    np.testing.assert_array_equal(right, [p.well_formed for p in parsed])
    assert 5 < right.sum()


@pytest.mark.parametrize("forms", [ORGANS, GRADES, BOTH])
def test_the_reader_of_short_texts(forms):
    """All sequences of three pieces, against `read_label`."""
    reader = label_automaton.build_reader(forms)
    assert reader.columns.dtype == np.uint8 and reader.transitions.dtype == np.int32
    assert not np.any(reader.transitions[1] != 1) and reader.labels[1] == -1
    pieces = ["", " ", "\n", "a", "B", "(", ")", ".", ":", "0", "1", "-", "ß", "\u00a0"]
    pieces += sorted({t for texts in forms.texts for t in (texts[0], texts[-1])})
    texts = ["".join(p) for p in itertools.product(pieces, repeat=3)]
    state = walk(reader.transitions, reader.columns, [t.encode() for t in texts])
    found = reader.labels[state]
    np.testing.assert_array_equal(found, [read_label(t, forms) for t in texts])
    assert set(found) == {-1, *range(len(forms.texts))}


def test_every_character_of_unicode_folds_as_on_the_host():
    """In place of each letter of a name, every character there is."""
    forms = label_forms(["ksß", "ﬃ", "ǰ"], letters=None, grades=None)
    reader = label_automaton.build_reader(forms)
    characters = [chr(n) for n in range(0x20000) if not 0xD800 <= n < 0xE000]
    for template in ("{}", "k{}ß", "f{}"):
        texts = [template.format(c) for c in characters]
        state = walk(reader.transitions, reader.columns, [t.encode() for t in texts])
        expected = [read_label(t, forms) for t in texts]
        np.testing.assert_array_equal(reader.labels[state], expected)
    three = "".join(c for c in characters if c.casefold() == "s")
    assert three == "Ssſ" and all(read_label(f"k{c}ß", forms) == 0 for c in three)
    above = map(chr, range(0x20000, sys.maxunicode + 1))
    assert all(c.casefold() == c for c in above)


def test_size_grows_with_the_names():
    """Letter and name stand after one another: the table is no product of the two."""
    names = [f"{name} of patient group {n}" for n in range(13) for name in NAMES[:2]]
    forms = label_forms(names, letters=option_letters(26), grades=range(26))
    reader = label_automaton.build_reader(forms)
    assert len(reader.labels) < 60 * len(names)
    for label, name in enumerate(names):
        state = walk(reader.transitions, reader.columns, [name.encode()])
        assert reader.labels[state] == label
