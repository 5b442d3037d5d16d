"""Calls of `medjax.rl` that read tokens and text."""

import functools

import jax.numpy as jnp
import numpy as np

from medjax import rl
from tests.reuse.calls import Call

HOST = {
    "box_set_tables": "makes NumPy tables",
    "build_tables": "a list of bytes becomes NumPy tables",
    "label_forms": "reads names",
    "label_set_forms": "reads names",
    "label_set_tables": "text becomes NumPy tables",
    "label_tables": "text becomes NumPy tables",
    "option_letters": "makes text",
    "parse_box_set_text": "reads text",
    "parse_label_set_text": "reads text",
    "parse_label_text": "reads text",
    "parse_text": "reads text",
    "read_label": "reads text",
    "read_label_set": "reads text",
    "recitation_score": "reads text",
    "recitation_tables": "text becomes NumPy tables",
    "sentence_bleu": "reads lists of words",
    "split_words": "reads text",
}

TOKENS = [bytes([n]) for n in range(256)] + [b"<think>", b"</think>", b""]
TABLES = rl.build_tables(TOKENS)
FORMS = rl.label_forms(["liver", "kidney"], letters=["A", "B"], grades=None)
LABELS = rl.label_tables(FORMS)
SETS = rl.box_set_tables()
LABEL_SETS = rl.label_set_tables(rl.label_set_forms(["liver", "kidney"], letters="AB"))
REFERENCES = rl.recitation_tables(["a large red organ", ["two of them", "bean shaped"]])
TEXTS = [
    b'<think>a red organ</think><answer>{"bbox_2d": [1, 2.5, -30, 4]}</answer>',
    b"<think>two of them, bean</think> <answer>B. kidney</answer>",
    b"<answer>A</answer><answer>liver</answer>",
    b"<answer>b, A,liver</answer>",
    b'<think>a a a a</think><answer>"bbox_2d":[9,9,9,9</answer>',
    b"<think>Large red ORGAN of two</think><answer>(A) liver</answer>",
    "<think>größer</think><answer>liver kidney</answer>".encode(),
    b'<answer>[{"bbox_2d":[0.5,1,12345678901,2]},[1,2,3,4]]</answer>',
]
LENGTH = max(map(len, TEXTS))
IDS = np.stack([np.pad([*text], (0, LENGTH - len(text))) for text in TEXTS])
IDS = IDS.astype(np.int32)
MASK = np.stack([np.arange(LENGTH) < len(text) for text in TEXTS])
SPANS = np.stack([rl.parse_box_set_text(text).spans for text in TEXTS])
LOGP = -np.random.default_rng(1).random(IDS.shape).astype(np.float32)
THINK = np.stack([rl.parse_label_text(text, FORMS).think for text in TEXTS])
TARGET = (np.arange(8) % 2).astype(np.int32)


def words_by_hand():
    """As `read_words` finds them, of 6 words a row."""
    rng = np.random.default_rng(0)
    count = np.array([0, 1, 2, 3, 4, 5, 6, 6], np.int32)
    inside = np.arange(6) < count[:, None]
    index = np.where(inside, rng.integers(-1, 4, (8, 6)), -1)
    key = np.where(inside, rng.integers(1, 9, (8, 6)), 0)
    return rl.Words(index.astype(np.int32), count, key.astype(np.uint32))


WORDS = words_by_hand()


def longest_byte(carry, byte, at, reading):
    """A fold: the largest byte so far, and how many bytes were read."""
    largest, count = carry
    del at
    return (
        jnp.where(reading, jnp.maximum(largest, byte), largest),
        count + reading.astype(jnp.int32),
    )


def fold(tokens, mask):
    zero = jnp.zeros_like(tokens[..., 0])
    return rl.fold_bytes(longest_byte, (zero, zero), tokens, mask, TABLES)


def fold_first_bytes(tokens, mask, limit):
    zero = jnp.zeros_like(limit)
    return rl.fold_bytes(longest_byte, (zero, zero), tokens, mask, TABLES, limit=limit)


def parse_boxes(tokens, mask):
    return rl.parse_completions(tokens, mask, TABLES)


def parse_box_sets(tokens, mask):
    return rl.parse_box_sets(tokens, mask, TABLES, SETS)


def parse_labels(tokens, mask):
    return rl.parse_labels(tokens, mask, TABLES, LABELS)


def parse_sets(tokens, mask):
    return rl.parse_label_sets(tokens, mask, TABLES, LABEL_SETS)


def read_words(tokens, mask, span):
    return rl.read_words(tokens, mask, span, TABLES, REFERENCES, max_words=5)


def recite(tokens, mask, think, target):
    return rl.recitation_reward(
        tokens, mask, think, TABLES, REFERENCES, target=target, leak_label=True
    )


def score_words(words, target):
    return rl.score_words(words, REFERENCES, target, 2, -1.0)


def in_groups(array):
    """Rows as [8, 1]: any leading axes will do."""
    return array[:, None]


CALLS = [
    Call("fold_bytes", fold, (IDS, MASK), (0, 0)),
    Call("fold_bytes[limit]", fold_first_bytes, (IDS, MASK, TARGET * 20), (0, 0, 0)),
    Call("parse_completions", parse_boxes, (IDS, MASK), (0, 0)),
    Call(
        "parse_completions[groups]",
        parse_boxes,
        (in_groups(IDS), in_groups(MASK)),
        (0, 0),
    ),
    Call(
        "parse_completions[one group]", parse_boxes, (IDS[None], MASK[None]), (1, 1), 1
    ),
    Call(
        "parse_completions[tables]",
        rl.parse_completions,
        (IDS, MASK, TABLES),
        (0, 0, None),
    ),
    Call("parse_box_sets", parse_box_sets, (IDS, MASK), (0, 0)),
    Call(
        "parse_box_sets[tables]",
        rl.parse_box_sets,
        (IDS, MASK, TABLES, SETS),
        (0, 0, None, None),
    ),
    Call(
        "box_confidence",
        functools.partial(rl.box_confidence, tables=TABLES),
        (LOGP, IDS, MASK, SPANS),
        (0, 0, 0, 0),
    ),
    Call("parse_labels", parse_labels, (IDS, MASK), (0, 0)),
    Call(
        "parse_labels[tables]",
        rl.parse_labels,
        (IDS, MASK, TABLES, LABELS),
        (0, 0, None, None),
    ),
    Call("parse_label_sets", parse_sets, (IDS, MASK), (0, 0)),
    Call(
        "parse_label_sets[tables]",
        rl.parse_label_sets,
        (IDS, MASK, TABLES, LABEL_SETS),
        (0, 0, None, None),
    ),
    Call("read_words", read_words, (IDS, MASK, THINK), (0, 0, 0)),
    Call("recitation_reward", recite, (IDS, MASK, THINK, TARGET), (0, 0, 0, 0)),
    Call(
        "recitation_reward[tables]",
        rl.recitation_reward,
        (IDS, MASK, THINK, TABLES, REFERENCES),
        (0, 0, 0, None, None),
    ),
    Call("score_words", score_words, (WORDS, TARGET), (0, 0)),
    Call("count_different", rl.count_different, (WORDS,), (0,)),
    *(
        Call(
            f"repeated_ngrams[{n}]",
            functools.partial(rl.repeated_ngrams, n=n),
            (WORDS,),
            (0,),
        )
        for n in (1, 2)
    ),
    Call("bleu", functools.partial(rl.bleu, references=REFERENCES), (WORDS,), (0,)),
    Call(
        "bleu[target]",
        lambda words, target: rl.bleu(words, REFERENCES, target),
        (WORDS, TARGET),
        (0, 0),
    ),
]
