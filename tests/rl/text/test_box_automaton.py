"""The byte automaton alone, walked in NumPy, against the host parser."""

import numpy as np
import pytest

from medjax.rl.text import box_automaton
from medjax.rl.text.box_text import parse_text
from tests.oracles.completions import all_short_texts


@pytest.fixture(scope="module")
def machine():
    return box_automaton.build_automaton()


def walk(machine, texts):
    """(final outputs, closed answers) of texts, all of them a byte at a time."""
    width = max(map(len, texts))
    rows = np.array([list(t) + [-1] * (width - len(t)) for t in texts], np.int32)
    state, closed = np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int32)
    for column in rows.T:
        following = np.where(
            column < 0, state, machine.transitions[state, np.maximum(column, 0)]
        )
        was, now = machine.outputs[state], machine.outputs[following]
        closed += (was & ~now & box_automaton.INSIDE) > 0
        state = following
    return machine.outputs[state], closed


def test_tables_are_whole(machine):
    states = len(machine.outputs)
    assert machine.transitions.shape == (states, 256)
    assert machine.transitions.dtype == np.int16 and machine.outputs.dtype == np.int32
    assert set(np.unique(machine.transitions)) == set(range(states))  # none unreachable
    assert np.all(machine.outputs % box_automaton.SLOT <= box_automaton.FRACTION)
    right = (machine.outputs & box_automaton.IN_FORMAT) > 0
    assert np.all(machine.outputs[right] & box_automaton.HAS_BOX)


def test_digits_and_only_digits_grow_a_number(machine):
    digits = np.arange(ord("0"), ord("9") + 1)
    grows = machine.outputs % box_automaton.SLOT >= box_automaton.WHOLE
    others = np.delete(machine.transitions, digits, axis=1)
    assert np.any(grows) and not np.any(grows[others])


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5])
def test_every_short_sequence_of_fragments(machine, length):
    texts = all_short_texts(length)
    output, closed = walk(machine, texts)
    parsed = [parse_text(text) for text in texts]
    for flag, field in (
        (box_automaton.HAS_BOX, "box_found"),
        (box_automaton.IN_FORMAT, "format"),
    ):
        expected = np.array([getattr(p, field) for p in parsed])
        np.testing.assert_array_equal((output & flag) > 0, expected)
    np.testing.assert_array_equal(closed, [p.num_answers for p in parsed])


def test_all_inside_a_right_frame(machine):
    """Sequences of three fragments as the answer of an otherwise right text."""
    texts = [
        b"<think>x</think><answer>" + text + b"</answer>" for text in all_short_texts(3)
    ]
    output, _ = walk(machine, texts)
    expected = [bool(parse_text(text).format) for text in texts]
    np.testing.assert_array_equal((output & box_automaton.IN_FORMAT) > 0, expected)
    assert 50 < sum(expected) < len(texts)


@pytest.mark.parametrize("tag", [b"<", b"</", b"<think", b"</answer"])
def test_a_text_that_ends_inside_a_tag_lacks_the_format(machine, tag):
    text = b'<think>x</think><answer>"bbox_2d":[1,2,3,4]</answer>'
    output, _ = walk(machine, [text, text + b" \n", text + tag])
    np.testing.assert_array_equal(
        (output & box_automaton.IN_FORMAT) > 0, [True, True, False]
    )
    assert not parse_text(text + tag).format
