"""Descriptions of classes and texts that recite them more or less, for BLEU's tests."""

import pathlib
import re

ORGANS = (
    "The liver is the largest organ of the upper abdomen, on the right, of homogeneous "
    "soft-tissue density with branching vessels.",
    "The left kidney is bean shaped, lies beside the spine and enhances brightly; the "
    "renal pelvis opens towards the spine.",
    "The left lung is dark, as it is full of air, with fine branching vessels and a "
    "sharp border.",
    "Die Größe der Milz: länglich, glatt, links.",
    "肝臓は右上腹部にある大きな臓器です。",
    "A cat.",
    "The lesion is smaller than 2 cm, round, with a smooth margin.",
    "The street is wide and wide and wide.",
)
# Sentences of a class, each a reference.
SENTENCES = tuple(tuple(re.split(r"(?<=[,;:]) ", text)) for text in ORGANS)


def real_sentences():
    """The sentences of the project's own pages."""
    root = pathlib.Path(__file__).resolve().parents[2]
    text = " ".join(
        (root / name).read_text() for name in ("README.md", "CONTRIBUTING.md")
    )
    sentences = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text))
    return [sentence for sentence in sentences if re.search(r"[a-z]", sentence)]


def recite(rng, texts, *, words=40):
    """A text of up to `words` words: pieces of `texts` and words that are in none."""
    parts, count = [], rng.randrange(words + 1)
    while count > 0:
        pool = rng.choice(texts).split()
        start = rng.randrange(len(pool))
        piece = pool[start : start + rng.choice((1, 1, 2, 3, 5, 9, 40))]
        piece = rng.choice((piece, piece, piece[:1] * 3, ["unheard-of"], ["5.2mm"]))
        piece = piece[:count]
        parts += [rng.choice((str, str, str.upper, str.title))(w) for w in piece]
        count -= len(piece)
    return rng.choice((" ", " ", "\n", ", ")).join(parts)
