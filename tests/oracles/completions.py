"""Completions for the parsers' fuzz tests: right, nearly right, and soup.

A text is bytes; `split_text` cuts it into tokens of a vocabulary at random, whatever a
tokenizer would do, since a sampled completion may cut it anywhere.
"""

import itertools

FRAGMENTS = (
    b"<think>",
    b"</think>",
    b"<answer>",
    b"</answer>",
    b'"bbox_2d": [1, 2, 30, 40]',
    b'"bbox_2d"',
    b": [5, 6.5, -7, 8",
    b"]",
    b" \n",
    b"x",
)
PIECES = (
    *FRAGMENTS,
    b"<answer><answer>",
    b"<think",
    b"</answer",
    b"<",
    b"</",
    b">",
    b'"',
    b'"bbox_2d"bbox_2d":[1,2,3,4]',
    b'""bbox_2d" :\t[ 1 , 2\n,3 , 4 ]',
    b'"bbox_2d": [[1, 2, 3, 4]]',
    b'"bbox_2d": [9, 8, 7, 6, 5]',
    b'"bbox_2d": [1, 2, 3]',
    b'"bbox_2d": [1., 2, 3, 4]',
    b'"bbox_2d": [1e3, +2, .5, 4]',
    b'"bbox_2d": [-0, 000123, 0.1234567890123, 99999999999.9]',
    b'"bbox_2d": [10, 20, "bbox_2d": [1.25, 2, 3, 4]',
    b'"bbox_3d": [1, 2, 3, 4]',
    b"{",
    b"}",
    b'"label": "left hippocampus"',
    b"  ",
    b"\v\f\r\t",
    "é🧠\u00a0".encode(),
    b"\xff\xfe",
    b"\0",
)
SOUP = b'<>/"[]:,.-_ 0123456789bbox2dthinkanswer\n'


def all_short_texts(length):
    """Every sequence of `length` fragments."""
    return [b"".join(parts) for parts in itertools.product(FRAGMENTS, repeat=length)]


def random_text(rng):
    """One completion by `rng`, a random.Random; about a third are near a right one."""
    kind = rng.random()
    if kind < 0.4:
        text = right_text(rng)
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            text = mutate(text, rng)
        return text
    if kind < 0.6:
        blocks = (b"".join(rng.choices(PIECES, k=rng.randrange(6))) for _ in range(3))
        blocks = [b"<answer>" + block + b"</answer>" for block in blocks]
        return rng.choice(PIECES).join(blocks[: rng.choice((1, 1, 1, 2, 3))])
    if kind < 0.85:
        return b"".join(rng.choices(PIECES, k=rng.randrange(10)))
    if kind < 0.95:
        return bytes(rng.choices(SOUP, k=rng.randrange(60)))
    return rng.randbytes(rng.randrange(60))


def right_text(rng):
    space = rng.choice((b"", b"", b"\n", b" ", b"\r\n\t"))
    box = (b"," + space).join(number(rng) for _ in range(4))
    answer = b'{"bbox_2d"' + space + b":" + space + b"[" + box + space + b"]}"
    think = rng.choice((b"", b"left lung", b"I see 3 < 4 and </b>.", "größer".encode()))
    parts = (b"", b"<think>" + think + b"</think>", b"<answer>" + answer + b"</answer>")
    return space.join(parts) + space


def number(rng):
    kind = rng.random()
    if kind < 0.5:
        return b"%d" % rng.randrange(1000)
    if kind < 0.7:
        return b"%.*f" % (rng.randrange(1, 5), rng.uniform(-50, 999))
    if kind < 0.8:
        return b"-%d" % rng.randrange(100)
    whole = b"%d" % rng.randrange(10 ** rng.randrange(1, 14))
    if kind < 0.9:
        return rng.choice((b"", b"-", b"00")) + whole
    return whole + b".%0*d" % (rng.randrange(1, 14), rng.randrange(10))


def mutate(text, rng):
    at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    kind = rng.randrange(6)
    if kind == 0:  # cut short
        return text[:to]
    if kind == 1:  # a few bytes lost
        return text[:at] + text[at + rng.randrange(1, 4) :]
    if kind == 2:  # something slipped in
        return text[:at] + rng.choice(PIECES) + text[at:]
    if kind == 3:  # a part twice
        return text[:to] + text[at:]
    if kind == 4:  # a byte changed
        return text[:at] + bytes([rng.choice(SOUP)]) + text[at + 1 :]
    return text[:at] + text[at:to].swapcase() + text[to:]


def split_text(text, ids, longest, rng, silent=()):
    """Token ids that spell `text`: `ids` of byte strings, `silent` ids strewn in."""
    tokens, at = [], 0
    while at < len(text):
        size = 1 if rng.random() < 0.5 else rng.randint(1, longest)
        size = min(size, len(text) - at)
        while text[at : at + size] not in ids:
            size -= 1
        tokens.append(ids[text[at : at + size]])
        at += size
        if silent and rng.random() < 0.03:
            tokens.append(rng.choice(silent))
    return tokens


SET_FRAGMENTS = (
    b"<answer>",
    b"</answer>",
    b'"bbox_2d"',
    b":",
    b"[",
    b"1, 2, 30, 4",
    b"[5,6,7,8]",
    b"]",
    b",",
    b" \n",
    b"No finding",
    b"x",
)
SET_PIECES = (
    *PIECES,
    b"[[1, 2, 30, 40], [5, 6, 7, 8]]",
    b"[9,8,7,6]",
    b", [1, 2, 3, 4.5]",
    b"[1, 2, [3, 4, 5, 6]",
    b'"box": [1, 2, 3, 4]',
    b"[]",
    b"[ \n]",
    b"no finding",
    b"NO FINDINGS.",
    b"```json\n",
    b"```",
    b"[[[",
    b"[1, 2, 3, 4], " * 9,
)


def all_short_set_texts(length):
    """Every answer of `length` fragments of sets, open ends included."""
    products = itertools.product(SET_FRAGMENTS, repeat=length)
    return [b"<answer>" + b"".join(parts) + b"</answer>" for parts in products]


def random_set_text(rng):
    """As `random_text`, near the answers that are sets of boxes."""
    kind = rng.random()
    if kind < 0.6:
        text = right_set_text(rng)
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            text = mutate(text, rng)
        return text
    if kind < 0.9:
        blocks = [b"".join(rng.choices(SET_PIECES, k=rng.randrange(6)))]
        blocks += [b"".join(rng.choices(SET_PIECES, k=2))] * (rng.random() < 0.2)
        return rng.choice(SET_PIECES).join(b"<answer>%b</answer>" % x for x in blocks)
    return random_text(rng)


def right_set_text(rng):
    space = rng.choice((b"", b"", b" ", b"\n", b"\r\n\t"))
    boxes = [
        b"[" + (b"," + space).join(number(rng) for _ in range(4)) + space + b"]"
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 5, 8, 9)))
    ]
    if rng.random() < 0.5:
        label = rng.choice((b"", b', "label": "a [1, 2] b"'))
        boxes = [b'{"bbox_2d":%b%b%b}' % (space, box, label) for box in boxes]
    answer = b"[" + (b"," + space).join(boxes) + b"]"
    if not boxes:
        answer = rng.choice((b"[]", b"[ ]", b"no finding", b"No findings."))
    if rng.random() < 0.2:
        answer = b"```json\n" + answer + b"\n```"
    parts = (b"<think>x</think>", b"<answer>" + space + answer + space + b"</answer>")
    return space.join(parts) + space
