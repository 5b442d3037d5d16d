r"""What a word is, for counting and comparing texts on host and device alike.

A word is a longest run of the bytes 0-9, A-Z, a-z and 128-255, with A-Z lower-cased; a
byte 0xE3-0xED also starts a new one. So letters of every script belong to words,
punctuation of ASCII separates them ("T2-weighted, 2.5 mm" has five), and in UTF-8 each
Chinese, Japanese or Korean character starts a word, since these scripts write no
spaces. Typographic quotes and dashes count as letters: write descriptions with ASCII's.
"""

import re

import numpy as np

BREAK, INNER, INITIAL = range(3)  # not of a word, of a word, the first of a word
KINDS = np.array(
    [
        INITIAL
        if 0xE3 <= byte <= 0xED
        else INNER
        if byte > 127 or chr(byte).isalnum()
        else BREAK
        for byte in range(256)
    ],
    np.uint8,
)

_WORD = re.compile(rb"[0-9a-z\x80-\xff][0-9a-z\x80-\xe2\xee-\xff]*")


def split_words(text: str | bytes) -> list[bytes]:
    r"""The words of a text, in order and lower-cased; a text without any has none.

    A word is a longest run of the bytes 0-9, A-Z, a-z and 128-255, valid UTF-8 or not,
    and a byte 0xE3-0xED (most of Chinese, Japanese and Korean) begins a new one. All
    else separates words: space, control bytes, the underscore and ASCII's punctuation;
    typographic quotes and dashes do not. Only A to Z are lower-cased.

    Args:
        text: Any text, which may be empty; a str is read as its UTF-8.

    Returns:
        The bytes of each word.

    >>> split_words("T2-weighted, 2.5 mm: größer")
    [b't2', b'weighted', b'2', b'5', b'mm', b'gr\xc3\xb6\xc3\x9fer']
    """
    return _WORD.findall(encode(text).lower())


def encode(text: str | bytes) -> bytes:
    """UTF-8, lone surrogates too: a text from anywhere has bytes."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
