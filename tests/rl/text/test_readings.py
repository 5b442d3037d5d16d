"""Completions are read as in recorded audits, or `READERS` is another number."""

import hashlib
import random

import numpy as np

from medjax.rl.text import READERS
from medjax.rl.text.box_set_text import parse_box_set_text
from medjax.rl.text.box_text import parse_text
from medjax.rl.text.label_set_text import label_set_forms, parse_label_set_text
from medjax.rl.text.label_text import parse_label_text
from medjax.rl.text.recitation_text import recitation_score
from tests.oracles import completions, label_completions

# Of what 4 x 300 generated completions are read as, by the number of the readers.
DIGESTS = {1: "187d21014e9c6e48"}
COUNT = 300


def told(parsed):
    """A reading as bytes, whatever it holds."""
    return repr([np.asarray(x).tolist() for x in parsed]).encode()


def test_a_reading_that_changes_raises_the_number_of_the_readers():
    rng = random.Random(16)
    digest = hashlib.sha256()
    sets = label_set_forms(("cyst", "mass", "nodule"), letters=None)
    for _ in range(COUNT):
        text = completions.random_text(rng)
        digest.update(told(parse_text(text)))
        digest.update(told(parse_text(text, think=False)))
        text = completions.random_set_text(rng)
        digest.update(told(parse_box_set_text(text)))
        text = label_completions.random_completion(rng, label_completions.BOTH)
        digest.update(told(parse_label_text(text, label_completions.BOTH)))
        for answer in ("cyst, nodule", "None", "mass mass", "cyst and mass"):
            whole = f"<think>{answer} seen</think><answer>{answer}</answer>"
            digest.update(told(parse_label_set_text(whole, sets)))
    for reasoning in ("a dark round organ", "dark dark dark", ""):
        score = recitation_score(reasoning, ("a dark, round organ",))
        digest.update(f"{score:.6f}".encode())
    assert digest.hexdigest()[:16] == DIGESTS[READERS], (
        "completions are read otherwise than before: raise medjax.rl.text.READERS and "
        "add the digest under the new number, so that older audits are refused"
    )
