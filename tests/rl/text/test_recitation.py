"""The recitation reward on the device against the host's BLEU."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from medjax.data.prompting.tokenizer import ANSWER_TAGS, parse_tables, train_tokenizer
from medjax.rl.rewards import combine_rewards
from medjax.rl.text.boxes import build_tables
from medjax.rl.text.label_text import label_forms, parse_label_text
from medjax.rl.text.labels import label_tables, parse_labels
from medjax.rl.text.recitation import bleu, recitation_reward
from medjax.rl.text.recitation_text import recitation_score
from medjax.rl.text.reference_tables import recitation_tables
from medjax.rl.text.repetition import repeated_ngrams
from medjax.rl.text.word_reader import Words, count_different, read_words
from medjax.rl.text.words import split_words
from tests.oracles.completions import mutate
from tests.oracles.descriptions import ORGANS, SENTENCES, real_sentences, recite
from tests.oracles.label_completions import random_completion
from tests.oracles.vocabulary import Vocabulary

FORMS = label_forms([f"class {n}" for n in range(8)], letters=None, grades=range(8))
LABELS = label_tables(FORMS)
TABLES = {"whole": recitation_tables(ORGANS), "parts": recitation_tables(SENTENCES)}
REFERENCES = {"whole": ORGANS, "parts": sum(SENTENCES, ())}
# float32: four quotients, two roots and an exponential.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def single():
    return Vocabulary(build_tables([bytes([b]) for b in range(256)] + [b""]), 1)


@pytest.fixture(scope="module")
def small():
    corpus = [*ORGANS, *ANSWER_TAGS] * 3
    tokenizer = train_tokenizer(corpus, 512, extra_tokens=ANSWER_TAGS)
    return Vocabulary(parse_tables(tokenizer, 512), 12)


@functools.partial(
    jax.jit, static_argnames=("leak_label", "max_words", "min_different")
)
def reward_of(tokens, mask, tables, references, target=None, **options):
    think = parse_labels(tokens, mask, tables, LABELS).think
    return recitation_reward(
        tokens, mask, think, tables, references, target=target, **options
    )


def reasoning(text):
    return text[slice(*parse_label_text(text, FORMS).think)]


def texts_of(rng, count, pool):
    texts = []
    for _ in range(count):
        text = f"<think>{recite(rng, pool)}</think><answer>{rng.randrange(8)}</answer>"
        text = text.encode()
        for _ in range(rng.choice((0, 0, 0, 1, 3))):
            text = mutate(text, rng)
        text = text if rng.random() < 0.9 else random_completion(rng, FORMS)
        texts.append(text[:700])  # a batch is as slow as its longest row
    return texts


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_equal_to_the_host(small, name):
    rng = random.Random(name)
    texts = texts_of(rng, 2048, ORGANS)
    rows = [small.split(text, rng) for text in texts]
    tokens, mask = small.pad(rows)
    for limit in (None, 20):
        reward = reward_of(tokens, mask, small.tables, TABLES[name], max_words=limit)
        assert reward.dtype == jnp.float32
        # Without a limit the first T words are read: here that is all of them.
        expected = [
            recitation_score(reasoning(t), REFERENCES[name], max_words=limit)
            for t in texts
        ]
        np.testing.assert_allclose(reward, expected, rtol=0, atol=TOLERANCE)
        assert np.mean(np.array(expected) > 0.2) > 0.3


def test_equal_to_the_host_on_real_texts(single):
    rng = random.Random(1)
    sentences = [text for text in real_sentences() if split_words(text)]
    for count in (1, 10):
        references = rng.sample(sentences, count)
        texts = texts_of(rng, 1024, [*references, *rng.sample(sentences, 5)])
        tokens, mask = single.pad([list(text) for text in texts])
        reward = reward_of(tokens, mask, single.tables, recitation_tables(references))
        expected = [recitation_score(reasoning(t), references) for t in texts]
        np.testing.assert_allclose(reward, expected, rtol=0, atol=TOLERANCE)


def score(vocabulary, thoughts, references, **options):
    rows = [
        list(f"<think>{thought}</think><answer>1</answer>".encode())
        for thought in thoughts
    ]
    tokens, mask = vocabulary.pad(rows)
    tables = recitation_tables(references)
    return np.asarray(reward_of(tokens, mask, vocabulary.tables, tables, **options))


@pytest.mark.parametrize(
    "references",
    [
        ["a"],  # no pair of words at all
        ["a b"],
        ["a b c"],
        ["a a a a a a"],
        ["a b c d", "a b", "b c d a b c d", "D C B A"],
        ["abc ab a b bc c", "ab", "c"],  # words that begin other words
    ],
)
def test_edge_cases(single, references):
    thoughts = ["", " ", ".", "a", "A", "ab", "abc", "a b", "a b c", "a b c d"]
    thoughts += ["a a", "a a a a a a a", "x", "a x", "x y z w", "a b c d " * 9]
    thoughts += ["d c b a", "a-b,c\nd", "ab c", "é", "a\u00a0b", "b c d a b c d"]
    expected = [recitation_score(thought, references) for thought in thoughts]
    found = score(single, thoughts, references)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_words_as_the_host_splits_them(small):
    rng = random.Random(5)
    texts = texts_of(rng, 512, ORGANS)
    tokens, mask = small.pad([small.split(text, rng) for text in texts])
    spans = np.array([parse_label_text(text, FORMS).think for text in texts])
    words = jax.jit(read_words)(tokens, mask, spans, small.tables, TABLES["whole"])
    words = jax.device_get(words)
    known = {w for text in ORGANS for w in split_words(text)}
    known = {w: n for n, w in enumerate(sorted(known))}
    for row, count, text in zip(words.index, words.count, texts, strict=True):
        expected = [known.get(w, -1) for w in split_words(reasoning(text))]
        assert int(count) == len(expected) <= len(row)
        np.testing.assert_array_equal(row[: len(expected)], expected)
        assert np.all(row[len(expected) :] == -1)


def open_r1_scaling(words, n):
    """The formula of open-r1's repetition penalty, of words that are split already."""
    if len(words) < n:
        return 0.0
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("limit", [None, 5])
def test_repeated_ngrams_as_open_r1_counts_them(small, n, limit):
    rng = random.Random(13)
    pool = ["a", "A", "ab", "b", "é", "É", "wall", "Wall", "髄膜"]
    said = [" ".join(rng.choices(pool[: 1 + k % 9], k=k % 14)) for k in range(300)]
    texts = [f"<think>{x}</think><answer>1</answer>".encode() for x in said]
    texts += texts_of(rng, 64, ORGANS)
    tokens, mask = small.pad([small.split(text, rng) for text in texts])
    spans = np.array([parse_label_text(text, FORMS).think for text in texts])
    read = jax.jit(read_words, static_argnames="max_words")
    words = read(tokens, mask, spans, small.tables, TABLES["whole"], max_words=limit)
    found = jax.jit(repeated_ngrams, static_argnames="n")(words, n=n)
    expected = [open_r1_scaling(split_words(reasoning(x))[:limit], n) for x in texts]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert limit or n > 3 or len(set(expected)) > 5


def test_repeated_ngrams_need_a_length():
    words = Words(
        jnp.zeros((1, 3), jnp.int32), jnp.array([3]), jnp.ones((1, 3), jnp.uint32)
    )
    assert float(repeated_ngrams(words, n=2)[0]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="repeated_ngrams: n: .* at least 1"):
        repeated_ngrams(words, n=0)
    with pytest.raises(ValueError, match=r"repeated_ngrams: words\.key: expected"):
        repeated_ngrams(words._replace(key=words.key.astype(jnp.float32)), n=2)


@pytest.mark.parametrize("limit", [None, 5])
def test_different_words_as_the_host_counts_them(small, limit):
    """Random texts, and a pool so small that most words are said again."""
    rng = random.Random(11)
    pool = ["a", "A", "ab", "b", "é", "É", "wall", "Wall", "wal", "l2", "2", "髄膜"]
    texts = texts_of(rng, 256, ORGANS)
    for _ in range(256):
        said = rng.choice(" -,.").join(rng.choices(pool, k=rng.randrange(9)))
        texts.append(f"<think>{said}</think><answer>1</answer>".encode())
    tokens, mask = small.pad([small.split(text, rng) for text in texts])
    spans = np.array([parse_label_text(text, FORMS).think for text in texts])
    read = jax.jit(read_words, static_argnames="max_words")
    words = read(tokens, mask, spans, small.tables, TABLES["whole"], max_words=limit)
    expected = [len(set(split_words(reasoning(text))[:limit])) for text in texts]
    np.testing.assert_array_equal(count_different(words), expected)
    assert len(set(expected)) > 5


def test_a_repeated_word_is_no_reasoning(small):
    rng = random.Random(12)
    texts = texts_of(rng, 256, ORGANS)
    texts += [
        f"<think>{said}</think><answer>1</answer>".encode()
        for said in ("wall", "wall wall Wall WALL", "thin wall", "thin grey wall")
    ]
    tokens, mask = small.pad([small.split(text, rng) for text in texts])
    options = {"min_different": 3, "without_words": 1.0}
    found = reward_of(tokens, mask, small.tables, TABLES["whole"], **options)
    expected = [recitation_score(reasoning(t), ORGANS, **options) for t in texts]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(found[-4:-1], 1)
    assert found[-1] < 1
    with pytest.raises(ValueError, match="score_words: min_different: .* found 0"):
        reward_of(tokens, mask, small.tables, TABLES["whole"], min_different=0)


def test_the_first_words_are_read(single):
    thoughts = ["a b c d e f", "a b x x x x", "x x a b"]
    found = score(single, thoughts, ["a b"], max_words=2)
    np.testing.assert_array_equal(found, [1, 1, 0])
    with pytest.raises(ValueError, match="read_words: max_words: .* found 0"):
        score(single, thoughts, ["a b"], max_words=0)


def test_tokens_of_several_words_go_beyond_the_default():
    """Two tokens that hold three words: T = 7 words are read, 9 on demand."""
    tables = build_tables([b"<think>", b"a b c ", b"x y", b"</think>"])
    tokens = jnp.asarray([[0, 1, 1, 1, 3, 2, 2]], jnp.int32)
    mask = jnp.ones_like(tokens, bool)
    for limit, width in ((None, 7), (9, 9), (99, 9)):
        reward = reward_of(
            tokens, mask, tables, recitation_tables(["a b c"]), max_words=limit
        )
        want = recitation_score("a b c a b c a b c", ["a b c"], max_words=width)
        np.testing.assert_allclose(reward, [want], rtol=1e-6)


def test_silence_gets_what_the_caller_says(single):
    thoughts, references = ["", ".", "a b", "x"], ["a b"]
    np.testing.assert_array_equal(score(single, thoughts, references), [0, 0, 1, 0])
    found = score(single, thoughts, references, without_words=1.0)
    np.testing.assert_array_equal(found, [1, 1, 1, 0])


def test_leaking_the_label_holds_against_the_true_class_only(small):
    rng = random.Random(6)
    texts = texts_of(rng, 1024, ORGANS)
    target = np.array([rng.randrange(8) for _ in texts], np.int32)
    tokens, mask = small.pad([small.split(text, rng) for text in texts])
    found = reward_of(
        tokens, mask, small.tables, TABLES["parts"], target, leak_label=True
    )
    expected = [
        recitation_score(reasoning(text), SENTENCES[label])
        for text, label in zip(texts, target, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    # Off by default: the target is not looked at.
    closed = reward_of(tokens, mask, small.tables, TABLES["parts"], target)
    other = reward_of(tokens, mask, small.tables, TABLES["parts"])
    np.testing.assert_array_equal(closed, other)
    assert np.any(np.asarray(found) != closed)
    with pytest.raises(ValueError, match="leak_label needs the target"):
        reward_of(tokens, mask, small.tables, TABLES["parts"], leak_label=True)


def test_order_of_references_does_not_matter(single):
    rng = random.Random(7)
    thoughts = [recite(rng, ORGANS) for _ in range(256)]
    found = score(single, thoughts, ORGANS)
    shuffled = rng.sample(ORGANS, len(ORGANS))
    np.testing.assert_array_equal(found, score(single, thoughts, shuffled))
    grouped = [ORGANS[:3], ORGANS[3:]]  # of which class they are does not, either
    np.testing.assert_array_equal(found, score(single, thoughts, grouped))
    assert np.all((found >= 0) & (found <= 1)) and np.all(
        score(single, ORGANS, ORGANS) == 1
    )


def test_the_weight_decides_the_sign(single):
    found = jnp.asarray(score(single, ["a b", "a x", "x"], ["a b"]))[None]
    for weight in (-0.5, 0.0, 0.5):
        total, _, _ = combine_rewards({"recitation": found}, {"recitation": weight})
        np.testing.assert_allclose(total, weight * found)
        assert np.all(np.sign(np.diff(total[0])) == -np.sign(weight))


def batch(shape, seed, width=160):
    rng = random.Random(seed)
    rows = [list(t[:width]) for t in texts_of(rng, np.prod(shape), ORGANS)]
    rng.shuffle(rows)
    tokens = np.array([row + [0] * (width - len(row)) for row in rows], np.int32)
    mask = np.arange(width) < np.array([len(row) for row in rows])[:, None]
    return tuple(jnp.asarray(x).reshape(*shape, width) for x in (tokens, mask))


def test_leading_axes_jit_vmap_and_loop_agree(single):
    tokens, mask = batch((3, 4), 8)
    references = jax.tree.map(jnp.asarray, TABLES["parts"])
    expected = reward_of(tokens, mask, single.tables, references)
    assert expected.shape == (3, 4) and np.any(expected > 0)
    mapped = jax.vmap(jax.vmap(reward_of, (0, 0, None, None)), (0, 0, None, None))
    np.testing.assert_array_equal(
        mapped(tokens, mask, single.tables, references), expected
    )
    alone = reward_of(tokens[1, 2], mask[1, 2], single.tables, references)
    np.testing.assert_array_equal(alone, expected[1, 2])


def test_sharded_rows_stay_where_they_are(single):
    """Eight devices give the same; the two loops' lengths cross between them."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    rows = batch((16, 2), 9)
    tables = (single.tables, jax.tree.map(jnp.asarray, TABLES["whole"]))
    expected = reward_of(*rows, *tables)
    inputs = (*jax.device_put(rows, split), *jax.device_put(tables, whole))
    compiled = reward_of.lower(*inputs).compile()
    found = compiled(*inputs)
    assert found.sharding.is_equivalent_to(split, found.ndim)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    program = compiled.as_text()
    assert program.count(" all-reduce(") == 2
    assert not any(f" {name}(" in program for name in ("all-gather", "all-to-all"))


def test_memory_does_not_grow_with_the_references():
    """1024 words against ten references of 200 words: a few arrays of [rows, words]."""
    rng = random.Random(10)
    words = [f"w{n}" for n in range(500)]
    tables = recitation_tables([" ".join(rng.choices(words, k=200)) for _ in range(10)])
    rows, width = 64, 1024
    index, key = (jnp.zeros((rows, width), kind) for kind in (jnp.int32, jnp.uint32))
    read = Words(index, jnp.zeros(rows, jnp.int32), key)
    compiled = jax.jit(bleu).lower(read, tables).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 16 * 4 * rows * width
