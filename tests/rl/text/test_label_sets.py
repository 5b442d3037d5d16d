"""Sets of labels: the host's definition by hand, and the device's parser against it."""

import random

import jax
import numpy as np
import pytest

from medjax.rl.text.boxes import build_tables
from medjax.rl.text.label_set_text import (
    label_set_forms,
    parse_label_set_text,
    read_label_set,
)
from medjax.rl.text.label_sets import label_set_tables, parse_label_sets
from medjax.rl.text.label_text import label_forms, option_letters
from medjax.rl.text.labels import label_tables, parse_labels
from tests.oracles.completions import mutate
from tests.oracles.label_completions import NAMES, PIECES, SPACES, answer
from tests.oracles.vocabulary import Vocabulary

ORGANS = label_set_forms(NAMES, letters=option_letters(8))
PLAIN = label_set_forms(("edema", "mass", "no finding"), letters=None)
SINGLE = label_forms(NAMES, letters=option_letters(8), grades=None)
PARSE = jax.jit(parse_label_sets)


def single():
    return Vocabulary(build_tables([bytes([b]) for b in range(256)] + [b""]), 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A, C", (0, 2)),
        ("C,A", (0, 2)),
        (" c , a,A, (a), A. liver ", (0, 2)),  # any order, and each once
        ("left kidney, Liver", (0, 1)),
        ("B", (1,)),
        ("none", ()),
        (" NONE\n", ()),
        ("", None),
        (" ", None),
        ("A,", None),
        (",A", None),
        ("A,,C", None),
        ("A C", None),
        ("A and C", None),
        ("A; C", None),
        ("A, none", None),
        ("none, none", None),
        ("none.", None),
        ("A, spleen", None),
        ("A. left kidney, C", None),  # a letter and another class's name
        ("I", None),  # "none" has no letter
        ("A, <b>", None),
        ("A\uff0c C", None),
        (b"A, \xff", None),
    ],
)
def test_what_a_list_names(text, expected):
    assert read_label_set(text, ORGANS) == expected
    data = text if isinstance(text, bytes) else text.encode()
    whole = b"<think>dark</think><answer>" + data + b"</answer>"
    parsed = parse_label_set_text(whole, ORGANS)
    assert parsed.parsed == (expected is not None)
    assert np.flatnonzero(parsed.shown).tolist() == list(expected or ())
    assert parsed.well_formed and parsed.think_words == 1 and parsed.num_answers == 1
    tokens = np.frombuffer(whole, np.uint8).astype(np.int32)
    found = PARSE(
        tokens, np.ones(len(tokens), bool), single().tables, label_set_tables(ORGANS)
    )
    for got, want in zip(found, parsed, strict=True):
        assert np.array_equal(got, want) and got.dtype == want.dtype


def test_the_last_closed_answer_is_read():
    for text, expected in (
        ("<answer>A</answer><answer>B, C</answer>", [1, 2]),
        ("<answer>A</answer><answer>B, x</answer>", None),
        ("<answer>A</answer><answer>B", [0]),
        ("A, B", None),
    ):
        parsed = parse_label_set_text(text, ORGANS)
        assert parsed.parsed == (expected is not None)
        assert np.flatnonzero(parsed.shown).tolist() == (expected or [])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("edema", "None"), "'None' is the word for a picture that shows no class"),
        (("edema", " none "), "is the word for a picture"),
        (("normal, benign", "edema"), "holds a comma, which separates the labels"),
        (("edema", "Edema"), "would name two classes"),
        ((), "expected a list"),
    ],
)
def test_classes_that_no_list_can_name(names, message):
    with pytest.raises(ValueError, match=message):
        label_set_forms(names, letters=None)


def random_list(rng, forms):
    """A completion whose answer is a list, right more often than not."""
    pieces = [answer(rng, SINGLE) for _ in range(rng.choice((0, 1, 1, 2, 3, 5)))]
    if not pieces or rng.random() < 0.05:
        pieces.insert(rng.randrange(len(pieces) + 1), b"none")
    if rng.random() < 0.5:
        letters = rng.choices(forms.letters, k=rng.randrange(1, 6))
        pieces = [(x + rng.choice(SPACES[:5])).encode() for x in letters]
    text = rng.choice((b",", b", ", b", ", b" ,", b";", b" ")).join(pieces)
    think = b" ".join(rng.choices(PIECES[10:], k=rng.randrange(4)))
    text = b"<think>" + think + b"</think><answer>" + text + b"</answer>"
    if rng.random() < 0.2:
        text += b"<answer>" + answer(rng, SINGLE) + rng.choice((b"</answer>", b""))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        text = mutate(text, rng)
    return text


def test_the_device_reads_what_the_host_does():
    rng, vocabulary = random.Random(5), single()
    tables = label_set_tables(ORGANS)
    texts = sorted((random_list(rng, ORGANS) for _ in range(8192)), key=len)
    tokens, mask = vocabulary.pad([vocabulary.split(text, rng) for text in texts])
    found = jax.device_get(PARSE(tokens, mask, vocabulary.tables, tables))
    rows = [parse_label_set_text(text, ORGANS) for text in texts]
    for name, got in zip(found._fields, found, strict=True):
        want = np.stack([getattr(row, name) for row in rows])
        wrong = np.flatnonzero((got != want).reshape(len(texts), -1).any(axis=-1))
        assert not wrong.size, (name, texts[wrong[0]], got[wrong[0]], want[wrong[0]])
        assert got.dtype == want.dtype and got.shape == want.shape
    sizes = np.bincount(found.shown[found.parsed].sum(axis=1), minlength=4)
    assert (sizes[:4] > 100).all() and 0.3 < found.parsed.mean() < 0.8


def test_order_and_repetition_change_nothing():
    rng, vocabulary = random.Random(6), single()
    for _ in range(50):
        labels = rng.sample("ABCDEFGH", rng.randrange(1, 6))
        other = [*labels, *rng.choices(labels, k=rng.randrange(3))]
        rng.shuffle(other)
        texts = [f"<answer>{', '.join(x)}</answer>".encode() for x in (labels, other)]
        rows = vocabulary.pad([vocabulary.split(text, rng) for text in texts])
        found = PARSE(*rows, vocabulary.tables, label_set_tables(ORGANS))
        assert found.parsed.all() and np.array_equal(*found.shown)
        assert found.shown[0].sum() == len(labels)


def test_names_without_letters():
    for text, expected in (("mass, edema", (0, 1)), ("No Finding", (2,)), ("A", None)):
        assert read_label_set(text, PLAIN) == expected


def test_one_label_is_read_as_before():
    """The tables of single labels do not know of "none"."""
    rng, vocabulary = random.Random(7), single()
    texts = [random_list(rng, ORGANS) for _ in range(512)]
    rows = vocabulary.pad([vocabulary.split(text, rng) for text in texts])
    one = parse_labels(*rows, vocabulary.tables, label_tables(SINGLE))
    many = PARSE(*rows, vocabulary.tables, label_set_tables(ORGANS))
    assert len(SINGLE.texts) == 8 and one.label.max() == 7
    single_named = np.asarray(one.parsed)
    assert np.array_equal(
        np.asarray(many.shown)[single_named],
        np.eye(8, dtype=bool)[one.label][single_named],
    )
    for name in many._fields[2:]:
        assert np.array_equal(getattr(one, name), getattr(many, name))
