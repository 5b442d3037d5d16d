"""The device reader of sets against the host's, and the confidence of boxes."""

import random

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from medjax.data.prompting.tokenizer import ANSWER_TAGS, parse_tables, train_tokenizer
from medjax.rl.text.box_set_automaton import build_box_set_automaton
from medjax.rl.text.box_set_reader import (
    box_confidence,
    box_set_tables,
    parse_box_sets,
)
from medjax.rl.text.box_set_text import parse_box_set_text
from medjax.rl.text.boxes import build_tables
from tests.oracles.completions import all_short_set_texts, random_set_text
from tests.oracles.vocabulary import Vocabulary

PARSE = jax.jit(parse_box_sets)
RIGHT = b"<think>x</think><answer>[[1, -2.5, 30, 400], [5, 6, 7, 8]]</answer>"


@pytest.fixture(scope="module")
def sets():
    return jax.tree.map(jnp.asarray, box_set_tables())


@pytest.fixture(scope="module")
def single():
    return Vocabulary(build_tables([bytes([b]) for b in range(256)] + [b""]), 1)


@pytest.fixture(scope="module")
def small():
    corpus = [RIGHT.decode(), "Find all lesions.", *ANSWER_TAGS] * 4
    tokenizer = train_tokenizer(corpus, 400, extra_tokens=ANSWER_TAGS)
    return Vocabulary(parse_tables(tokenizer, 448), 10)


def stack(texts):
    parsed = [parse_box_set_text(text) for text in texts]
    return type(parsed[0])(*(np.stack(field) for field in zip(*parsed, strict=True)))


def assert_same(parsed, expected, texts):
    for name, got, want in zip(expected._fields, parsed, expected, strict=True):
        differ = np.flatnonzero((got != want).reshape(len(texts), -1).any(-1))
        shown = [(texts[at], got[at], want[at]) for at in differ[:3]]
        assert not differ.size, f"{name} of {differ.size} completions: {shown}"
        assert got.dtype == want.dtype and got.shape == want.shape


def test_fuzzed_completions(small, sets):
    rng = random.Random(0)
    texts = sorted((random_set_text(rng) for _ in range(2 * 8192)), key=len)
    for at in range(0, len(texts), 8192):
        part = texts[at : at + 8192]
        rows = [small.split(text, rng) for text in part]
        parsed = jax.device_get(PARSE(*small.pad(rows), small.tables, sets))
        assert_same(parsed, stack(part), part)
    expected = stack(texts)
    # The generator is worth its name: every outcome is common.
    none = expected.found & (expected.num_boxes == 0)
    for share in (expected.format, ~expected.found, expected.num_boxes > 1):
        assert share.mean() > 0.1
    assert none.mean() > 0.05 and np.mean(expected.num_boxes > 8) > 0.02
    assert np.mean(expected.found & ~expected.format) > 0.03
    assert np.mean(expected.num_answers > 1) > 0.01


def test_every_short_answer(single, sets):
    texts = [text for length in range(5) for text in all_short_set_texts(length)]
    expected = stack(texts)
    parsed = jax.device_get(
        PARSE(*single.pad([list(text) for text in texts]), single.tables, sets)
    )
    assert_same(parsed, expected, texts)
    assert (expected.found & (expected.num_boxes == 0)).sum() > 10
    assert (expected.num_boxes > 0).sum() > 100


def test_tables_are_whole():
    machine = build_box_set_automaton()
    states = len(machine.outputs)
    assert machine.transitions.shape == (states, 256) and states < 1000
    assert set(np.unique(machine.transitions)) == set(range(states))


def test_leading_axes_jit_vmap_and_devices_agree(single, sets):
    rng = random.Random(1)
    rows = [list(random_set_text(rng)[:100]) for _ in range(32)]
    tokens = np.array([row + [0] * (100 - len(row)) for row in rows], np.int32)
    mask = np.arange(100) < np.array([len(row) for row in rows])[:, None]
    tokens, mask = (jnp.asarray(x).reshape(16, 2, 100) for x in (tokens, mask))
    expected = PARSE(tokens, mask, single.tables, sets)
    assert expected.boxes.shape == (16, 2, 8, 4) and expected.spans.shape[2:] == (8, 2)
    mapped = jax.jit(jax.vmap(parse_box_sets, (0, 0, None, None)))(
        tokens, mask, single.tables, sets
    )
    chex.assert_trees_all_equal(mapped, expected)
    alone = parse_box_sets(tokens[2, 1], mask[2, 1], single.tables, sets)
    chex.assert_trees_all_equal(alone, jax.tree.map(lambda x: x[2, 1], expected))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))
    inputs = (
        *jax.device_put((tokens, mask), split),
        *jax.device_put((single.tables, sets), whole),
    )
    compiled = PARSE.lower(*inputs).compile()
    chex.assert_trees_all_equal(compiled(*inputs), expected)
    program = compiled.as_text()
    assert program.count(" all-reduce(") == 1
    assert not any(f" {name}(" in program for name in ("all-gather", "all-to-all"))


def test_confidence_is_the_mean_probability_of_a_boxs_tokens(small, sets):
    """By hand: the tokens that have a byte of the box in them, found by counting."""
    rng = random.Random(2)
    texts = [RIGHT, *(random_set_text(rng) for _ in range(200))]
    rows = [small.split(text, rng) for text in texts]
    tokens, mask = small.pad(rows)
    logp = -np.random.default_rng(0).exponential(1, tokens.shape).astype(np.float32)
    logp[~mask] = np.nan  # what is not of the completion is not read
    parsed = jax.device_get(PARSE(tokens, mask, small.tables, sets))
    got = box_confidence(logp, tokens, mask, parsed.spans, small.tables)
    assert got.shape == parsed.box_valid.shape and parsed.box_valid.sum() > 100
    for n, row in enumerate(rows):
        ends = np.cumsum([len(small.bytes[token]) for token in row])
        starts = np.concatenate([[0], ends[:-1]])
        for k, (first, last) in enumerate(parsed.spans[n]):
            inside = [
                np.exp(float(logp[n, t]))
                for t in range(len(row))
                if starts[t] < last and ends[t] > first and ends[t] > starts[t]
            ]
            expected = np.mean(inside) if parsed.box_valid[n, k] else 0
            np.testing.assert_allclose(got[n, k], expected, rtol=1e-5)


def test_shapes_must_agree(single, sets):
    with pytest.raises(ValueError, match="parse_box_sets: mask: .*T = 5"):
        parse_box_sets(
            jnp.zeros((2, 5), jnp.int32), jnp.ones(5, bool), single.tables, sets
        )
    with pytest.raises(ValueError, match="box_confidence: spans"):
        box_confidence(
            jnp.zeros((2, 5)),
            jnp.zeros((2, 5), jnp.int32),
            jnp.ones((2, 5), bool),
            jnp.zeros((2, 8), jnp.int32),
            single.tables,
        )
