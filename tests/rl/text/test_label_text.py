"""Hand cases of the host's label parser, and what it refuses to be built from."""

import numpy as np
import pytest

from medjax.rl.text.label_text import (
    label_forms,
    option_letters,
    parse_label_text,
    read_label,
)
from tests.oracles.label_completions import BOTH, GRADES, NAMES, ORGANS


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Liver", 0),
        ("  LIVER\n", 0),
        ("left kidney", 1),
        ("left", 2),
        ("GRÖSSE", 3),  # ß folds to ss
        ("GRÖẞE", 3),
        ("größe", 3),
        ("肝臓", 4),
        ("a cat", 5),
        ("size <2 cm", 6),
        ("STRASSE", 7),
        ("B", 1),
        ("b", 1),
        ("(b)", 1),
        (" (B) ", 1),
        ("B.", 1),
        ("B)", 1),
        ("b:", 1),
        ("B. left kidney", 1),
        ("B.left kidney", 1),
        ("(b)\n Left Kidney ", 1),
        ("B: left kidney", 1),
        # no label
        ("", -1),
        ("left  kidney", -1),
        ("liver.", -1),
        ("the liver", -1),
        ("liver, left", -1),
        ("foie", -1),
        ("B left kidney", -1),
        ("B. liver", -1),
        ("B. left", -1),
        ("A cat.", -1),
        ("B cat", -1),
        ("A B", -1),
        ("A, B", -1),
        ("A or B", -1),
        ("AB", -1),
        ("(B", -1),
        ("B]", -1),
        ("((B))", -1),
        ("(B).", -1),
        ("Z", -1),
        ("I", -1),  # eight classes: A to H
        ("В", -1),  # a Cyrillic letter
        ("\u00a0B", -1),  # not ASCII's white space
        ("option B", -1),
        ("0", -1),
    ],
)
def test_names_and_letters(answer, label):
    assert read_label(answer, ORGANS) == label
    assert read_label(answer.encode(), ORGANS) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("-2", 0),
        ("0", 2),
        (" 9 ", 11),
        ("none", 0),
        ("MODERATE", 2),
        ("stage 7", 11),
        ("10", -1),
        ("-3", -1),
        ("+2", -1),
        ("02", -1),
        ("-0", -1),
        ("2.0", -1),
        ("2.", -1),
        ("1e0", -1),
        ("1/2", -1),
        ("1 2", -1),
        ("two", -1),
        ("grade 2", -1),
        ("２", -1),  # a full-width digit
        ("²", -1),
        ("B", -1),  # no letters here
    ],
)
def test_grades(answer, label):
    assert read_label(answer, GRADES) == label


def test_letters_with_grades():
    assert read_label("D. 1", BOTH) == 1
    assert read_label("(e) moderate", BOTH) == 2
    assert read_label("D. 2", BOTH) == -1
    assert read_label("B", BOTH) == -1


def test_bytes_that_are_no_text():
    assert read_label(b"liver\xff", ORGANS) == -1
    assert read_label("\ud800", ORGANS) == -1


def check(text, label, well_formed, answers, think, answer):
    parsed = parse_label_text(text, ORGANS)
    assert (parsed.label, parsed.parsed) == (label, label >= 0)
    assert (parsed.well_formed, parsed.num_answers) == (well_formed, answers)
    data = text.encode()
    for span, expected in ((parsed.think, think), (parsed.answer, answer)):
        found = data[slice(*span)].decode() if span.any() else None
        assert found == expected
    dtypes = [field.dtype.name for field in parsed]
    assert dtypes == ["int32", "bool", "bool", "int32", "int32", "int32", "int32"]


RIGHT = "<think>It is big.</think><answer>B</answer>"


def test_structure():
    check(RIGHT, 1, True, 1, "It is big.", "B")
    check(f"\n{RIGHT} ", 1, True, 1, "It is big.", "B")
    check(RIGHT.replace("B", "who knows"), -1, True, 1, "It is big.", "who knows")
    check(RIGHT.replace("It is big.", ""), 1, True, 1, "", "B")
    check("<think>a</think>\n<answer></answer>", -1, True, 1, "a", "")
    check(f"Sure. {RIGHT}", 1, False, 1, "It is big.", "B")
    check(f"{RIGHT}<", 1, False, 1, "It is big.", "B")
    check("<answer>B</answer><think>a</think>", 1, False, 1, "a", "B")
    check("<answer>B</answer>", 1, False, 1, None, "B")
    check("<think>a<answer>B</answer>", 1, False, 1, None, "B")
    check("B", -1, False, 0, None, None)
    check("", -1, False, 0, None, None)
    check("<answer>B", -1, False, 0, None, None)
    # The last answer counts, the first reasoning.
    check(f"{RIGHT}<answer>C</answer>", 2, False, 2, "It is big.", "C")
    check(f"{RIGHT}<answer>none</answer>", -1, False, 2, "It is big.", "none")
    check(f"{RIGHT}<answer>C", 1, False, 1, "It is big.", "B")
    check(f"<think>a <answer>C</answer> b</think>{RIGHT}", 1, False, 2, *(
        "a <answer>C</answer> b", "B"))  # fmt: skip
    # Nothing nests.
    check("<answer><answer>B</answer></answer>", -1, False, 1, None, "<answer>B")
    check("<think><think>a</think></think>", -1, False, 0, "<think>a", None)
    check("<answer>a</answer></answer>B</answer>", 0, False, 1, None, "a")


def test_words_of_the_reasoning():
    assert parse_label_text(RIGHT, ORGANS).think_words == 3
    assert parse_label_text(RIGHT.replace("It is big.", " . "), ORGANS).think_words == 0
    assert parse_label_text("three words here", ORGANS).think_words == 0


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "expected a list of one or more class names"),
        ("AB", {}, "expected a list of one or more class names"),
        (["liver", " "], {}, "is empty"),
        (["liver", 2], {}, "2 is no Unicode text"),
        (["liver", "a</answer>"], {}, "holds </answer>"),
        (["liver", "\ud800"], {}, "is no Unicode text"),
        (["liver", "Liver "], {}, "'liver' would name two classes, 0 .'liver'. and 1"),
        (["Straße", "STRASSE"], {}, "'strasse' would name two classes"),
        (["B", "A"], {"letters": "AB"}, "'b' would name two classes, 1 .'A'. and 0"),
        (["x", "(a)"], {"letters": "AB"}, "would name two classes, 0"),
        (["x", "a. x"], {"letters": "AB"}, "would name two classes, 0"),
        (["2", "x", "y"], {"grades": [0, 1, 2]}, "'2' would name two classes, 0"),
        (["x", "y"], {"letters": "A"}, "expected 2 different ASCII letters"),
        (["x", "y"], {"letters": "Aa"}, "expected 2 different ASCII letters"),
        (["x", "y"], {"letters": "A1"}, "expected 2 different ASCII letters"),
        (["x", "y"], {"letters": ["A", "BC"]}, "expected 2 different ASCII letters"),
        (["x", "y"], {"letters": "Aß"}, "expected 2 different ASCII letters"),
        (["x", "y"], {"grades": [0, 2]}, "expected 2 consecutive rising integers"),
        (["x", "y"], {"grades": [1, 0]}, "expected 2 consecutive rising integers"),
        (["x", "y"], {"grades": []}, "expected 2 consecutive rising integers"),
        (["x", "y"], {"grades": [0, 1.0]}, "grade 1.0 is not an integer"),
        (["x", "y"], {"grades": [False, True]}, "grade False is not an integer"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(names, options, message):
    with pytest.raises(ValueError, match=message):
        label_forms(names, **{"letters": None, "grades": None, **options})


def test_a_name_may_equal_its_own_letter_or_grade():
    forms = label_forms(["A", "B"], letters=option_letters(2), grades=None)
    assert read_label("b.", forms) == 1
    forms = label_forms(["0", "1"], letters=None, grades=np.arange(2))
    assert forms.texts == (("0",), ("1",))


def test_letters_of_options():
    assert option_letters(3) == ("A", "B", "C")
    assert len(option_letters(26)) == 26
    for count in (0, 27):
        with pytest.raises(ValueError, match=f"{count} options"):
            option_letters(count)


def test_every_form_of_every_class():
    for label, (name, letter) in enumerate(zip(NAMES, "ABCDEFGH", strict=True)):
        for answer in (name, letter, f"{letter}) {name}", f"({letter}){name.upper()}"):
            assert read_label(answer, ORGANS) == label
