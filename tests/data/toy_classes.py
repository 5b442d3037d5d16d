"""A small task of drawn pictures, its words and a tokenizer: no files, no network."""

import numpy as np

from medjax.data.batches import Encoding
from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.tasks import (
    ClassQuestion,
    ClassTask,
    Wording,
    class_answers,
    wording_texts,
)
from medjax.data.prompting.chat import Style, corpus
from medjax.data.prompting.layout import Geometry
from medjax.data.prompting.prompts import plan_buckets
from medjax.data.prompting.tokenizer import ANSWER_TAGS, train_tokenizer

GEOMETRY = Geometry(
    patch=7, merge=2, temporal=2, window=28, min_pixels=14 * 14, max_pixels=56 * 56
)
KNOWLEDGE = ("dark all over", "grey all over", "light all over")
SIDES = ("left", "right")
TASK = ClassTask(
    "tones",
    ("dark", "grey", "light", *SIDES),
    (
        ClassQuestion("tone", ("Which tone?", "Name the tone here."), (0, 1, 2)),
        ClassQuestion("side", ("Where is it?", "On which {plane} side?"), (3, 4)),
    ),
)
GRADED = ClassTask(
    "grades",
    ("low", "middle", "high"),
    (ClassQuestion("tone", ("How light?", "Grade the tone."), (0, 1, 2)),),
    ordinal=True,
    first_grade=1,
)


def make_wording(task=TASK, knowledge=KNOWLEDGE):
    told = None if knowledge is None else (*knowledge, *SIDES)[: len(task.classes)]
    reasons = (*KNOWLEDGE, *SIDES)[: len(task.classes)]
    return Wording(task, told, reasons, 2)


def make_pictures(count=12, questions=2):
    """A bar of one of three tones on one of two sides, with drawn noise."""
    index = np.arange(count)
    labels = np.stack([index % 3, 3 + index // 3 % 2], axis=-1)[:, :questions]

    def picture(n, rng):
        image = rng.integers(0, 30, (28, 28, 3)).astype(np.uint8)
        side = slice(0, 14) if n // 3 % 2 == 0 else slice(14, 28)
        image[:, side] += np.uint8(40 + 80 * (n % 3))
        return Picture(image, f"toy {n}", f"patient {n // 2}", "axial", {"n": n})

    return Pictures(
        count, picture, labels.astype(np.int32), ((28, 28),), ("axial", "coronal")
    )


def make_encoding(wording, *, answer="letter", questions=2):
    style = Style(system=None, suffix="", answer=answer)
    texts = wording_texts(wording, ("axial", "coronal"), answer=answer)
    answers = class_answers(wording, answer=answer)
    tokenizer = train_tokenizer(
        corpus(texts, answers, style), 450, extra_tokens=ANSWER_TAGS
    )
    buckets = plan_buckets(
        tokenizer,
        texts,
        answers,
        [(28, 28)],
        style=style,
        geometry=GEOMETRY,
        slots=1,
        multiple=4,
    )
    return Encoding(tokenizer, style, GEOMETRY, buckets, questions)
