"""The device parser against the host's, on completions cut into tokens anyhow."""

import base64
import functools
import importlib.util
import pathlib
import random

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from medjax.data.prompting.tokenizer import ANSWER_TAGS, parse_tables, train_tokenizer
from medjax.rl.text.box_text import parse_text
from medjax.rl.text.boxes import build_tables, parse_completions
from tests.oracles.completions import PIECES, random_text
from tests.oracles.vocabulary import Vocabulary

PARSE = jax.jit(parse_completions)
RIGHT = b'<think>lung</think><answer>{"bbox_2d": [1, -2.5, 30, 400]}</answer>'


def parse(vocabulary, rows):
    return jax.device_get(PARSE(*vocabulary.pad(rows), vocabulary.tables))


@pytest.fixture(scope="module")
def single():
    return Vocabulary(build_tables([bytes([b]) for b in range(256)] + [b""]), 1)


@pytest.fixture(scope="module")
def small():
    corpus = [RIGHT.decode(), "Find the left lung.", *ANSWER_TAGS] * 4
    tokenizer = train_tokenizer(corpus, 400, extra_tokens=ANSWER_TAGS)
    return Vocabulary(parse_tables(tokenizer, 448), 10)


@pytest.fixture(scope="module")
def real():
    """Qwen's 151,643 tokens, straight from the rank file, and padding rows."""
    spec = importlib.util.find_spec("dashscope")
    if spec is None:
        pytest.skip("dashscope is not installed; it holds Qwen's vocabulary")
    path = pathlib.Path(spec.origin).parent / "resources" / "qwen.tiktoken"
    texts = [
        base64.b64decode(line.split()[0]) for line in path.read_bytes().splitlines()
    ]
    return Vocabulary(build_tables(texts + [b""] * (152064 - len(texts))), 16)


def stack(texts):
    parsed = [parse_text(text) for text in texts]
    return type(parsed[0])(*(np.stack(field) for field in zip(*parsed, strict=True)))


def assert_same(parsed, expected, texts):
    for name, got, want in zip(expected._fields, parsed, expected, strict=True):
        differ = np.flatnonzero((got != want).reshape(len(texts), -1).any(-1))
        shown = [(texts[at], got[at], want[at]) for at in differ[:3]]
        assert not differ.size, f"{name} of {differ.size} completions: {shown}"
        assert got.dtype == want.dtype and got.shape == want.shape


def fuzz(vocabulary, count, seed):
    rng = random.Random(seed)
    texts = [random_text(rng) for _ in range(count)]
    # The longest come last: a batch is as slow as its longest row.
    texts.sort(key=len)
    parts = [texts[at : at + 8192] for at in range(0, count, 8192)]
    expected = [stack(part) for part in parts]
    for part, want in zip(parts, expected, strict=True):
        parsed = parse(vocabulary, [vocabulary.split(text, rng) for text in part])
        assert_same(parsed, want, part)
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *expected)


def test_hundred_thousand_completions(small):
    expected = fuzz(small, 13 * 8192, seed=0)
    # The generator is worth its name: every outcome is common, numbers are varied.
    for share in (expected.box_found, ~expected.box_found, expected.format):
        assert share.mean() > 0.1
    assert np.mean(expected.box_found & ~expected.format) > 0.03
    assert np.mean(expected.num_answers > 1) > 0.01
    assert np.mean(expected.boxes != np.floor(expected.boxes)) > 0.02
    assert np.mean(expected.boxes < 0) > 0.01
    assert np.mean(expected.boxes == 1e8) > 0.001


def test_the_real_vocabulary(real):
    fuzz(real, 8192, seed=1)


@pytest.mark.parametrize("name", ["small", "real"])
def test_token_soup(name, request):
    """Ids a policy without any sense would sample, with some sense strewn in."""
    vocabulary = request.getfixturevalue(name)
    rng = random.Random(2)
    rows = []
    for _ in range(4096):
        pieces = rng.choices(PIECES, k=rng.randrange(5))
        if rng.random() < 0.5:
            pieces = [b"<answer>", *pieces, b"</answer>"]
        row = []
        for piece in pieces:
            row += rng.choices(range(len(vocabulary.bytes)), k=rng.choice((0, 0, 1, 9)))
            row += vocabulary.split(piece, rng)
        rows.append(row)
    texts = [b"".join(vocabulary.bytes[token] for token in row) for row in rows]
    expected = stack(texts)
    assert_same(parse(vocabulary, rows), expected, texts)
    assert expected.box_found.any()


def test_cuts_do_not_matter(small, real, single):
    rng = random.Random(3)
    texts = [RIGHT] * 50 + [random_text(rng) for _ in range(200)]
    bytewise = parse(single, [list(text) for text in texts])
    assert bytewise.format[:50].all()
    for vocabulary in (small, real):
        parsed = parse(vocabulary, [vocabulary.split(text, rng) for text in texts])
        assert_same(parsed, bytewise, texts)


def test_every_cut_into_two_tokens():
    """Also with nothing but zero-byte tokens between, before and after the halves."""
    cuts = range(1, len(RIGHT))
    halves = [half for at in cuts for half in (RIGHT[:at], RIGHT[at:])]
    tables = build_tables([*halves, b""])
    none = len(halves)
    rows = [[none, 2 * n, none, none, 2 * n + 1, none] for n in range(len(cuts))]
    tokens = jnp.asarray(rows, jnp.int32)
    parsed = PARSE(tokens, jnp.ones_like(tokens, bool), tables)
    assert parsed.format.all() and parsed.box_found.all()
    np.testing.assert_array_equal(parsed.boxes, [[1, -2.5, 30, 400]] * len(rows))


def test_masked_tokens_are_not_read(single):
    width = len(RIGHT) + 9
    tokens = np.full((4, width), ord("<"), np.int32)
    mask = np.zeros((4, width), bool)
    tokens[0, : len(RIGHT)], mask[0, : len(RIGHT)] = list(RIGHT), True
    tokens[1], mask[1] = tokens[0], mask[0]
    mask[1, len(RIGHT) - 1] = False  # the closing bracket
    tokens[2, 9:], mask[2, 9:] = list(RIGHT), True  # padding on the left
    parsed = PARSE(tokens, mask, single.tables)
    np.testing.assert_array_equal(parsed.format, [True, False, True, False])
    np.testing.assert_array_equal(parsed.box_found, parsed.format)
    np.testing.assert_array_equal(parsed.num_answers, [1, 0, 1, 0])
    assert not parsed.boxes[1].any() and not parsed.boxes[3].any()


def test_leading_axes_jit_vmap_and_loop_agree(single):
    rng = random.Random(4)
    rows = [list(random_text(rng)[:120]) for _ in range(24)]
    tokens = np.array([row + [0] * (120 - len(row)) for row in rows], np.int32)
    mask = np.arange(120) < np.array([len(row) for row in rows])[:, None]
    tokens, mask = (jnp.asarray(x).reshape(6, 4, 120) for x in (tokens, mask))
    expected = PARSE(tokens, mask, single.tables)
    assert expected.boxes.shape == (6, 4, 4)
    assert expected.boxes.dtype == jnp.float32
    assert expected.num_answers.dtype == jnp.int32
    parse = functools.partial(parse_completions, tables=single.tables)
    mapped = jax.jit(jax.vmap(jax.vmap(parse)))(tokens, mask)
    alone = parse(tokens[2, 3], mask[2, 3])  # neither jitted nor with leading axes
    chex.assert_trees_all_equal(mapped, expected)
    chex.assert_trees_all_equal(alone, jax.tree.map(lambda x: x[2, 3], expected))


def test_sharded_rows_stay_where_they_are(single):
    """Eight devices give the same, and only the loop's length crosses between them."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rng = random.Random(5)
    rows = [list(random_text(rng)[:100]) for _ in range(32)]
    tokens = np.array([row + [0] * (100 - len(row)) for row in rows], np.int32)
    mask = np.arange(100) < np.array([len(row) for row in rows])[:, None]
    tokens, mask = (jnp.asarray(x).reshape(16, 2, 100) for x in (tokens, mask))
    expected = PARSE(tokens, mask, single.tables)
    split = NamedSharding(mesh, PartitionSpec("data"))
    tables = jax.device_put(single.tables, NamedSharding(mesh, PartitionSpec()))
    inputs = (*jax.device_put((tokens, mask), split), tables)
    compiled = PARSE.lower(*inputs).compile()
    parsed = compiled(*inputs)
    chex.assert_trees_all_equal(parsed, expected)
    assert all(x.sharding.is_equivalent_to(split, x.ndim) for x in parsed)
    program = compiled.as_text()
    assert program.count(" all-reduce(") == 1
    assert not any(f" {name}(" in program for name in ("all-gather", "all-to-all"))


def test_shapes_must_agree(single):
    with pytest.raises(
        ValueError, match="parse_completions: mask: .*N = 2 from tokens, T = 5"
    ):
        parse_completions(
            jnp.zeros((2, 5), jnp.int32), jnp.ones(5, bool), single.tables
        )
