"""Grades for the tiny policy of `tests/tiny.py`: tokens that write whole answers.

Tokens below ANSWERS think and answer, rightly or wrongly formed, so that a random
policy earns rewards that differ.
"""

import numpy as np

from medjax.rl.text.boxes import build_tables
from medjax.rl.text.label_text import label_forms
from medjax.rl.text.labels import label_tables
from medjax.rl.text.reference_tables import recitation_tables
from medjax.types import LabelBatch
from tests.tiny import ANSWERS, PAD, STOP, VOCAB, tiny_batch

CLASSES = ("none", "small", "medium", "large")
KNOWLEDGE = (
    "nothing of it is seen",
    "a narrow dark slit",
    "a dark gap of some width",
    "a wide dark space that fills the middle",
)
FORMS = label_forms(CLASSES, letters=None, grades=range(4))
LABELS = label_tables(FORMS)
REFERENCES = recitation_tables(KNOWLEDGE)
_REASONS = (*KNOWLEDGE, "a dark gap", "", "middle of it", "some other words")


def answer_of(token):
    """Every reason with every grade, and some answers that are none."""
    reason, label = _REASONS[token % 8], token // 8
    answer = str(label) if label < 4 else ("large", "2 or 3")[label - 4]
    return f"<think>{reason}</think><answer>{answer}</answer>"


def token_texts():
    texts = [answer_of(n) for n in range(ANSWERS)] + ["word"] * (STOP - ANSWERS)
    return texts + [""] * (VOCAB - STOP)


def tiny_label_tables():
    return build_tables([text.encode() for text in token_texts()])


def written_answers():
    """How each grade is answered, for the evaluation to rank."""
    tokens = np.array([[8 * n, STOP, PAD] for n in range(4)], np.int32)
    return {"answers": tokens, "answers_mask": tokens != PAD}


def tiny_labels(**options):
    """`tiny_batch` with a grade a row and an answer that is right."""
    batch = tiny_batch(**options)
    rng = np.random.default_rng(len(batch.valid))
    label = rng.integers(0, 4, len(batch.valid)).astype(np.int32)
    answer = np.stack(
        [8 * label, np.full(len(label), STOP), np.full(len(label), PAD)], axis=1
    )
    return LabelBatch(
        prompt=batch.prompt,
        label=label,
        valid=batch.valid,
        sample_id=batch.sample_id,
        answer=answer.astype(np.int32),
        answer_mask=answer != PAD,
    )
