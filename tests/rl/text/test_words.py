"""Words of texts in several scripts."""

import numpy as np
import pytest

from medjax.rl.text.words import BREAK, INITIAL, INNER, KINDS, encode, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" .,;\n", []),
        ("Liver", ["liver"]),
        ("T2-weighted, 2.5 mm!", ["t2", "weighted", "2", "5", "mm"]),
        ("organ's left_right", ["organ", "s", "left", "right"]),
        ("größer als ÉCHO", ["größer", "als", "Écho"]),  # only ASCII is lower-cased
        ("печень", ["печень"]),
        ("肝臓が大きい。T2", ["肝", "臓", "が", "大", "き", "い", "。t2"]),
        ("간이 크다", ["간", "이", "크", "다"]),
        ("a–b", ["a–b"]),  # a typographic dash is no ASCII punctuation
        ("x\x00y\x7fz", ["x", "y", "z"]),
    ],
)
def test_words(text, words):
    assert [word.decode() for word in split_words(text)] == words


def test_bytes_without_meaning_are_letters():
    assert split_words(b"\xff\xfe a\x80\xe3\xe3b") == [
        b"\xff\xfe",
        b"a\x80",
        b"\xe3",
        b"\xe3b",
    ]
    assert encode("\ud800") == b"\xed\xa0\x80"


def test_kinds_say_the_same_as_the_expression():
    """Walk all texts of three bytes out of a few: starts by kind = words found."""
    some = b" -0Az\x7f\x80\xe2\xe3\xed\xee\xff"
    for a in some:
        for b in some:
            for c in some:
                starts, inside = 0, False
                for byte in (a, b, c):
                    kind = KINDS[byte]
                    starts += kind == INITIAL or (kind == INNER and not inside)
                    inside = kind != BREAK
                assert starts == len(split_words(bytes((a, b, c))))
    assert KINDS.shape == (256,) and KINDS.dtype == np.uint8
