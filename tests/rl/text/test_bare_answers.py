"""Answers without reasoning: what is well formed, on the host and on the device."""

import random
import re

import jax
import numpy as np
import pytest

from medjax.rl import (
    box_set_tables,
    build_tables,
    label_forms,
    label_set_forms,
    label_set_tables,
    label_tables,
    parse_box_set_text,
    parse_box_sets,
    parse_completions,
    parse_label_set_text,
    parse_label_sets,
    parse_label_text,
    parse_labels,
    parse_text,
)
from tests.oracles.vocabulary import Vocabulary

BYTES = [bytes([b]) for b in range(256)] + [b""]
BARE = Vocabulary(build_tables(BYTES, think=False), 1)
FORMS = label_forms(["liver", "spleen"], letters="AB", grades=None)
SET_FORMS = label_set_forms(["liver", "spleen"], letters="AB")
PIECES = (
    *("<answer>", "</answer>", "<think>", "</think>", " ", "\n", "word", "<", "</ans"),
    *("A", "A, B", "none", '{"bbox_2d": [1, 2, 30, 40]}', "[]", "[[1, 2, 3, 4]]"),
)
RIGHT = re.compile(r"\s*<answer>((?!</?answer>|</?think>).)*</answer>\s*", re.DOTALL)


def texts():
    """Right ones, right ones of the other form, and random joins of pieces."""
    rng = random.Random(0)
    found = [
        f"{think}<answer>{answer}</answer>{after}"
        for think in ("", " \n", "<think></think>", "<think>a disc</think>", "so: ")
        for answer in PIECES[9:]
        for after in ("", "\n", "<answer>A</answer>", "!")
    ]
    return found + [
        "".join(rng.choices(PIECES, k=rng.randrange(9))) for _ in range(400)
    ]


@pytest.fixture(scope="module")
def read():
    rows = texts()
    tokens, mask = BARE.pad([list(text.encode()) for text in rows])

    @jax.jit
    def parse(tokens, mask):
        tables = BARE.tables
        return (
            parse_completions(tokens, mask, tables),
            parse_box_sets(tokens, mask, tables, box_set_tables(think=False)),
            parse_labels(tokens, mask, tables, label_tables(FORMS, think=False)),
            parse_label_sets(
                *(tokens, mask, tables, label_set_tables(SET_FORMS, think=False))
            ),
        )

    return rows, jax.device_get(parse(tokens, mask))


def test_the_device_reads_what_the_host_does(read):
    rows, found = read
    for n, text in enumerate(rows):
        host = (
            parse_text(text, think=False),
            parse_box_set_text(text, think=False),
            parse_label_text(text, FORMS, think=False),
            parse_label_set_text(text, SET_FORMS, think=False),
        )
        for mine, theirs in zip(found, host, strict=True):
            for name in theirs._fields:
                np.testing.assert_array_equal(
                    getattr(mine, name)[n], getattr(theirs, name), err_msg=(text, name)
                )


def test_the_right_format_is_an_answer_alone(read):
    """Once more in other words, and all else is read as with a reasoning."""
    rows, (boxes, sets, labels, label_sets) = read
    right = np.array([bool(RIGHT.fullmatch(text)) for text in rows])
    assert 20 < right.sum() < len(rows) - 20
    np.testing.assert_array_equal(labels.well_formed, right)
    np.testing.assert_array_equal(label_sets.well_formed, right)
    np.testing.assert_array_equal(boxes.format, right & boxes.box_found)
    np.testing.assert_array_equal(sets.format, right & sets.found)
    for n, text in enumerate(rows):
        whole = parse_text(text)
        assert bool(whole.box_found) == bool(boxes.box_found[n])
        assert not (bool(whole.format) and boxes.format[n])
        label = parse_label_text(text, FORMS)
        assert int(label.label) == int(labels.label[n])
        np.testing.assert_array_equal(label.think, labels.think[n])
