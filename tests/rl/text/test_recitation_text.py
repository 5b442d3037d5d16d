"""The host's sentence BLEU against sacrebleu and nltk, and by hand."""

import math
import random

import pytest

from medjax.rl.text.recitation_text import grams, recitation_score, sentence_bleu
from medjax.rl.text.words import split_words
from tests.oracles.descriptions import ORGANS, real_sentences, recite


def sacre(words, references):
    """Words as opaque names, so that no tokenizer of theirs can cut them."""
    sacrebleu = pytest.importorskip("sacrebleu")
    names = {w: f"w{n}" for n, w in enumerate({*words, *sum(references, [])})}
    texts = [" ".join(names[w] for w in text) for text in (words, *references)]
    score = sacrebleu.sentence_bleu(
        texts[0],
        texts[1:],
        smooth_method="add-k",
        smooth_value=1,
        tokenize="none",
        use_effective_order=True,
    )
    return score.score / 100


def nltk_method2(words, references):
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smoothing = bleu.SmoothingFunction().method2
    return bleu.sentence_bleu(references, words, smoothing_function=smoothing)


def pairs(kind, count):
    rng = random.Random(kind)
    if kind == "letters":  # few words: repeats and clipping everywhere
        for _ in range(count):
            texts = [
                [rng.choice((b"a", b"b", b"c")) for _ in range(rng.randrange(1, 15))]
                for _ in range(rng.randrange(2, 6))
            ]
            yield texts[0][: rng.randrange(15)], texts[1:]
        return
    texts = ORGANS if kind == "descriptions" else real_sentences()
    for _ in range(count):
        references = [split_words(t) for t in rng.sample(texts, rng.randrange(1, 9))]
        yield split_words(recite(rng, texts)), [r for r in references if r] or [[b"x"]]


@pytest.mark.parametrize(
    ("kind", "count"), [("letters", 3000), ("descriptions", 2000), ("real", 2000)]
)
def test_equal_to_sacrebleu_and_nltk(kind, count):
    scores = []
    for words, references in pairs(kind, count):
        score = sentence_bleu(words, references)
        assert score == pytest.approx(sacre(words, references), abs=1e-9)
        if len(words) >= 4:  # for less their conventions differ
            assert score == pytest.approx(nltk_method2(words, references), abs=1e-9)
        scores.append(score)
    assert sum(0.05 < score < 0.95 for score in scores) > 0.3 * count
    assert sum(score == 0 for score in scores) > 0.01 * count


@pytest.mark.parametrize(
    ("text", "references", "score"),
    [
        ("", ["a b"], 0),
        (" ,.", ["a b"], 0),
        ("c", ["a b"], 0),
        ("a", ["a"], 1),
        ("A b.", ["a b"], 1),
        ("a b c", ["a b c"], 1),  # shorter than four words, and complete
        ("a", ["a b"], math.exp(-1)),
        ("a b", ["x y z", "a b"], 1),
        # one of two words: (1/2 * 1/2 * 1 * 1)^(1/4)
        ("a x", ["a b"], 0.25**0.25),
        # clipped at two of four; bigrams (1+1)/(3+1), then 1/3 and 1/2
        ("a a a a", ["a a"], (1 / 2 * 1 / 2 * 1 / 3 * 1 / 2) ** 0.25),
        # the same bigram twice counts once in each reference, not twice over two
        ("a b a b", ["a b", "c a b"], (2 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25),
        # lengths 2 and 4 are equally near to 3: the shorter one, no penalty
        ("a b c", ["a x", "b x c x"], (1 * 1 / 3 * 1 / 2 * 1) ** 0.25),
    ],
)
def test_by_hand(text, references, score):
    assert recitation_score(text, references) == pytest.approx(score, abs=1e-12)


def test_short_texts_differ_from_nltk():
    words, references = [b"a", b"b", b"c"], [[b"a", b"b", b"c"]]
    assert sentence_bleu(words, references) == 1
    assert nltk_method2(words, references) == pytest.approx(0.5**0.25)


def test_references_in_any_order_and_often():
    rng = random.Random(0)
    for words, references in pairs("letters", 200):
        shuffled = rng.sample(references, len(references)) + references[:1]
        assert sentence_bleu(words, shuffled) == sentence_bleu(words, references)


def test_only_the_first_words_are_read():
    assert recitation_score("a b x y", ["a b"], max_words=2) == 1
    assert grams([1, 2, 3], 2) == [(1, 2), (2, 3)] and grams([1], 2) == []


@pytest.mark.parametrize("references", [[], [[]], [[b"a"], []]])
def test_references_must_hold_words(references):
    with pytest.raises(ValueError, match="each with a word"):
        sentence_bleu([b"a"], references)
