"""Tasks in words: what is asked, what is answered, which tasks are refused."""

import pytest

from medjax.data.classes.built_in import TASKS
from medjax.data.classes.tasks import (
    ANSWERS,
    ClassQuestion,
    answer_labels,
    check_task,
    class_answers,
    label_instruction,
    question_texts,
    task_grades,
    wording_texts,
)
from medjax.rl.text.label_text import parse_label_text
from tests.data.toy_classes import GRADED, TASK, make_wording


def test_a_question_lists_its_own_options_and_what_is_known_of_them():
    texts = question_texts(make_wording(), 0, plane="axial", answer="letter")
    assert texts == (
        "Which tone? Options: A dark, B grey, C light. A dark: dark all over. "
        "B grey: grey all over. C light: light all over.",
        "Name the tone here. Options: A dark, B grey, C light. A dark: dark all over. "
        "B grey: grey all over. C light: light all over.",
    )
    wording = make_wording(knowledge=None)
    asked = question_texts(wording, 1, plane="axial", answer="letter")
    assert asked[1] == "On which axial side? Options: D left, E right."
    asked = question_texts(wording, 1, plane="axial", answer="name")
    assert asked[0] == "Where is it? Options: left, right."


def test_grades_stand_beside_their_names():
    wording = make_wording(GRADED, None)
    asked = question_texts(wording, 0, plane="", answer="grade")
    assert asked[0] == "How light? Grades: 1 low, 2 middle, 3 high."
    digits = wording._replace(task=GRADED._replace(classes=("1", "2", "3")))
    asked = question_texts(digits, 0, plane="", answer="grade")
    assert asked[0] == "How light? Grades: 1, 2, 3."


def test_options_with_commas_are_parted_by_semicolons():
    task = TASK._replace(classes=("normal, benign", *TASK.classes[1:]))
    asked = question_texts(make_wording(task, None), 0, plane="", answer="name")
    assert asked[0] == "Which tone? Options: normal, benign; grey; light."


def test_all_texts_once():
    wording = make_wording(knowledge=None)
    texts = wording_texts(wording, ("axial", "coronal"), answer="name")
    assert len(texts) == len(set(texts)) == 5  # one of four phrasings names the plane


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("letter", ("A", "B", "C")),
        ("name", ("low", "middle", "high")),
        ("grade", ("1", "2", "3")),
    ],
)
def test_supervised_answers_are_read_as_their_class(answer, expected):
    assert answer_labels(GRADED, answer) == expected
    forms = check_task(GRADED, answer)
    wording = make_wording(GRADED)
    for n, text in enumerate(class_answers(wording, answer=answer)):
        parsed = parse_label_text(text, forms)
        assert parsed.label == n and parsed.well_formed and parsed.think_words == 3
    assert task_grades(GRADED) == (1, 2, 3)


def test_built_in_tasks_are_usable():
    for task in TASKS.values():
        for answer in ANSWERS:
            if answer != "grade" or task.ordinal:
                check_task(task, answer)


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        (TASK, "number", "answer style 'number'"),
        (TASK, "grade", "tones: its classes are not ordinal"),
        (GRADED._replace(classes=("one",)), "name", "1 classes; expected two"),
        (GRADED._replace(questions=()), "name", "no questions"),
        (GRADED._replace(classes=("a", "A", "c")), "name", "tones|grades: .*two class"),
        (
            GRADED._replace(questions=(ClassQuestion("x", ("X?",), (0, 3)),)),
            "name",
            r"question x: options \(0, 3\) of 3 classes",
        ),
        (
            GRADED._replace(
                classes=tuple(f"c{n}" for n in range(27)),
            ),
            "letter",
            "27 options: letters serve 1 to 26",
        ),
    ],
)
def test_unusable_tasks_are_refused(task, answer, message):
    with pytest.raises(ValueError, match=message):
        check_task(task, answer)


def test_more_phrasings_than_there_are():
    wording = make_wording()._replace(phrasings=3)
    with pytest.raises(ValueError, match="3 phrasings: tones has 1 to 2"):
        question_texts(wording, 0, plane="", answer="name")


def test_the_instruction_names_the_form():
    assert "letter of the right option alone between <answer>" in label_instruction(
        "letter"
    )
    with pytest.raises(ValueError, match="answer style 'box'"):
        label_instruction("box")
