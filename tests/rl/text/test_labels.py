"""The device's label parser against the host's, on completions cut into tokens."""

import functools
import random

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from medjax.data.prompting.tokenizer import ANSWER_TAGS, parse_tables, train_tokenizer
from medjax.rl.text.boxes import build_tables
from medjax.rl.text.label_text import parse_label_text
from medjax.rl.text.labels import label_tables, parse_labels
from tests.oracles.label_completions import (
    BOTH,
    GRADES,
    NAMES,
    ORGANS,
    random_completion,
)
from tests.oracles.vocabulary import Vocabulary

PARSE = jax.jit(parse_labels)
FORMS = {"organs": ORGANS, "grades": GRADES, "both": BOTH}
TABLES = {name: label_tables(forms) for name, forms in FORMS.items()}
RIGHT = b"<think>It is big.</think><answer>(b) left kidney</answer>"


@pytest.fixture(scope="module")
def single():
    return Vocabulary(build_tables([bytes([b]) for b in range(256)] + [b""]), 1)


@pytest.fixture(scope="module")
def small():
    corpus = [RIGHT.decode(), "the left lung is dark", *NAMES, *ANSWER_TAGS] * 4
    tokenizer = train_tokenizer(corpus, 400, extra_tokens=ANSWER_TAGS)
    return Vocabulary(parse_tables(tokenizer, 448), 10)


def stack(texts, forms):
    parsed = [parse_label_text(text, forms) for text in texts]
    return type(parsed[0])(*(np.stack(field) for field in zip(*parsed, strict=True)))


def assert_same(parsed, expected, texts):
    for name, got, want in zip(expected._fields, parsed, expected, strict=True):
        differ = np.flatnonzero((got != want).reshape(len(texts), -1).any(-1))
        shown = [(texts[at], got[at], want[at]) for at in differ[:3]]
        assert not differ.size, f"{name} of {differ.size} completions: {shown}"
        assert got.dtype == want.dtype and got.shape == want.shape


@pytest.mark.parametrize(("name", "parts"), [("organs", 7), ("grades", 5), ("both", 1)])
def test_hundred_thousand_completions(small, name, parts):
    rng = random.Random(name)
    forms, labels = FORMS[name], jax.tree.map(jnp.asarray, TABLES[name])
    texts = [random_completion(rng, forms) for _ in range(parts * 8192)]
    texts.sort(key=len)  # a batch is as slow as its longest row
    seen = []
    for at in range(0, len(texts), 8192):
        part = texts[at : at + 8192]
        tokens, mask = small.pad([small.split(text, rng) for text in part])
        parsed = jax.device_get(PARSE(tokens, mask, small.tables, labels))
        seen.append(stack(part, forms))
        assert_same(parsed, seen[-1], part)
    seen = jax.tree.map(lambda *arrays: np.concatenate(arrays), *seen)
    # The generator is worth its name: every outcome is common.
    for share in (seen.parsed, ~seen.parsed, seen.well_formed, ~seen.well_formed):
        assert share.mean() > 0.2
    assert np.mean(seen.parsed & ~seen.well_formed) > 0.1
    assert np.mean(seen.well_formed & ~seen.parsed) > 0.05
    assert np.mean(seen.num_answers > 1) > 0.05
    assert np.mean(seen.think_words > 5) > 0.1
    counts = np.bincount(seen.label[seen.parsed], minlength=len(forms.texts))
    assert counts.min() > 0.02 * len(texts) / len(forms.texts)


def test_token_soup(small):
    """Ids a policy without any sense would sample, with some sense strewn in."""
    rng = random.Random(2)
    tags = [tag.encode() for tag in ANSWER_TAGS]
    rows = []
    for _ in range(4096):
        row = []
        for piece in rng.choices(
            [*tags, *tags[2:], b"B", b"left", b" "], k=rng.randrange(9)
        ):
            row += rng.choices(
                range(len(small.bytes)), k=rng.choice((0, 0, 0, 0, 0, 0, 1, 5))
            )
            row += small.split(piece, rng)
        rows.append(row)
    texts = [b"".join(small.bytes[token] for token in row) for row in rows]
    parsed = jax.device_get(PARSE(*small.pad(rows), small.tables, TABLES["organs"]))
    expected = stack(texts, ORGANS)
    assert_same(parsed, expected, texts)
    assert expected.parsed.sum() > 50


def test_every_cut_into_two_tokens():
    """Also with nothing but zero-byte tokens between, before and after the halves."""
    cuts = range(1, len(RIGHT))
    tables = build_tables([h for at in cuts for h in (RIGHT[:at], RIGHT[at:])] + [b""])
    none = 2 * len(cuts)
    rows = [[none, 2 * n, none, none, 2 * n + 1, none] for n in range(len(cuts))]
    tokens = jnp.asarray(rows, jnp.int32)
    parsed = PARSE(tokens, jnp.ones_like(tokens, bool), tables, TABLES["organs"])
    want = parse_label_text(RIGHT, ORGANS)
    wide = jax.tree.map(lambda x, y: np.broadcast_to(y, x.shape), parsed, want)
    chex.assert_trees_all_equal(parsed, wide)


def test_masked_tokens_are_not_read(single):
    width = len(RIGHT) + 9
    tokens = np.full((4, width), ord("<"), np.int32)
    mask = np.zeros((4, width), bool)
    tokens[0, : len(RIGHT)], mask[0, : len(RIGHT)] = list(RIGHT), True
    tokens[1], mask[1] = tokens[0], mask[0]
    mask[1, len(RIGHT) - 1] = False  # the closing bracket
    tokens[2, 9:], mask[2, 9:] = list(RIGHT), True  # padding on the left
    parsed = PARSE(tokens, mask, single.tables, TABLES["organs"])
    np.testing.assert_array_equal(parsed.label, [1, -1, 1, -1])
    np.testing.assert_array_equal(parsed.well_formed, [True, False, True, False])
    np.testing.assert_array_equal(parsed.num_answers, [1, 0, 1, 0])
    np.testing.assert_array_equal(parsed.think_words, [3, 3, 3, 0])
    assert not parsed.answer[1].any() and not parsed.think[3].any()


def batch(shape, seed):
    rng = random.Random(seed)
    rows = [list(random_completion(rng, ORGANS)[:120]) for _ in range(np.prod(shape))]
    tokens = np.array([row + [0] * (120 - len(row)) for row in rows], np.int32)
    mask = np.arange(120) < np.array([len(row) for row in rows])[:, None]
    return tuple(jnp.asarray(x).reshape(*shape, 120) for x in (tokens, mask))


def test_leading_axes_jit_vmap_and_loop_agree(single):
    tokens, mask = batch((6, 4), 4)
    labels = jax.tree.map(jnp.asarray, TABLES["organs"])
    expected = PARSE(tokens, mask, single.tables, labels)
    assert expected.label.shape == (6, 4) and expected.think.shape == (6, 4, 2)
    parse = functools.partial(parse_labels, tables=single.tables, labels=labels)
    mapped = jax.jit(jax.vmap(jax.vmap(parse)))(tokens, mask)
    alone = parse(tokens[2, 3], mask[2, 3])  # neither jitted nor with leading axes
    chex.assert_trees_all_equal(mapped, expected)
    chex.assert_trees_all_equal(alone, jax.tree.map(lambda x: x[2, 3], expected))


def test_sharded_rows_stay_where_they_are(single):
    """Eight devices give the same, and only the loop's length crosses between them."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    rows = batch((16, 2), 5)
    tables = (single.tables, jax.tree.map(jnp.asarray, TABLES["organs"]))
    expected = PARSE(*rows, *tables)
    inputs = (*jax.device_put(rows, split), *jax.device_put(tables, whole))
    compiled = PARSE.lower(*inputs).compile()
    parsed = compiled(*inputs)
    chex.assert_trees_all_equal(parsed, expected)
    assert all(x.sharding.is_equivalent_to(split, x.ndim) for x in parsed)
    program = compiled.as_text()
    assert program.count(" all-reduce(") == 1
    assert not any(f" {name}(" in program for name in ("all-gather", "all-to-all"))


def test_shapes_must_agree(single):
    with pytest.raises(
        ValueError, match="parse_labels: mask: .*N = 2 from tokens, T = 5"
    ):
        tokens, mask = jnp.zeros((2, 5), jnp.int32), jnp.ones(5, bool)
        parse_labels(tokens, mask, single.tables, TABLES["organs"])
