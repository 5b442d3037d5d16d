"""Completions that answer with labels, for the parsers' fuzz tests."""

from medjax.rl.text.label_text import label_forms, option_letters
from tests.oracles.completions import mutate

NAMES = (
    "Liver",
    "left kidney",
    "left",
    "Größe",
    "肝臓",
    "A cat",
    "size <2 cm",
    "Straße",
)
ORGANS = label_forms(NAMES, letters=option_letters(8), grades=None)
STAGES = ("none", "mild", "Moderate", "severe", *(f"stage {n}" for n in range(8)))
GRADES = label_forms(STAGES, letters=None, grades=range(-2, 10))
BOTH = label_forms(STAGES[:4], letters="ADEF", grades=range(4))
PIECES = (
    b"<think>",
    b"</think>",
    b"<answer>",
    b"</answer>",
    b"<answer><answer>",
    b"<think",
    b"</answer",
    b"<",
    b"</",
    b">",
    b"B",
    b"(b)",
    b"C:",
    b"a, b",
    b"AB",
    b"A cat",
    b"2",
    b"10",
    b"-1",
    b"+2",
    b"02",
    b"2.0",
    b"two",
    b" \n",
    b"\v\f\r\t",
    "\u00a0".encode(),
    "größe".encode(),
    "肝臓".encode(),
    b"foie",
    b"liver liver",
    b"It is a dark, round organ.",
    b"T2-weighted",
    b"\xff\xfe",
    b"\xe8",
    b"\0",
    b'"',
)
SPACES = ("", "", "", " ", "\n", " \t", "\r\n\v\f", "\u00a0", "\u3000")
# Characters that fold to ASCII letters, or that are folded to by several.
LOOKALIKES = {"k": "\u212a", "s": "\u017f", "ss": "ß", "st": "\ufb06", "ß": "ẞ"}


def random_completion(rng, forms):
    """One completion by `rng`, a random.Random; half are near a right one."""
    kind = rng.random()
    if kind < 0.55:
        text = right_completion(rng, forms)
        for _ in range(rng.choice((0, 0, 1, 2, 4))):
            text = mutate(text, rng)
        return text
    if kind < 0.8:
        blocks = [
            b"<answer>" + answer(rng, forms) + b"</answer>"
            for _ in range(rng.choice((1, 1, 2, 3)))
        ]
        return rng.choice(PIECES).join(blocks)
    if kind < 0.95:
        count = rng.randrange(11)
        return b"".join(rng.choice((*PIECES, answer(rng, forms))) for _ in range(count))
    return rng.randbytes(rng.randrange(60))


def right_completion(rng, forms):
    think = b" ".join(rng.choices(PIECES[10:], k=rng.randrange(8)))
    space = rng.choice((b"", b"", b"\n", b" "))
    parts = (b"", b"<think>" + think + b"</think>")
    parts += (b"<answer>" + answer(rng, forms) + b"</answer>",)
    return space.join(parts) + space


def answer(rng, forms):
    """An answer, right more often than not."""
    kind, label = rng.random(), rng.randrange(len(forms.texts))
    text = rng.choice(forms.texts[label])
    if forms.letters and rng.random() < 0.6:
        letter = forms.letters[label]
        text = rng.choice(("", text, text, rng.choice(rng.choice(forms.texts))))
        shapes = ("{}", "{} ", "({}){}{}", "{}.{}{}", "{}){}{}", "{}:{}{}", "{}-{}{}")
        text = rng.choice(shapes).format(letter, rng.choice(SPACES), text)
    if kind < 0.2:
        text = rng.choice((str.upper, str.title, str.swapcase))(text)
    elif kind < 0.3:
        old, new = rng.choice(tuple(LOOKALIKES.items()))
        text = text.replace(old, new)
    elif kind < 0.35:
        text += rng.choice((".", "s", "!", " or", "\u0301", ".0", "0", "<"))
    elif kind < 0.4:
        return mutate(text.encode() + b" ", rng)
    elif kind < 0.45:
        return rng.choice(PIECES)
    elif kind < 0.5:
        text = str(rng.randrange(-30, 200))
    return (rng.choice(SPACES) + text + rng.choice(SPACES)).encode()
