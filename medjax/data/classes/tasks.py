"""Classification and grading tasks in words: classes, questions, answers.

A task has C classes, known by their index. A question is asked in several phrasings,
lists its options, and may be followed by what is known of each class (VRFT-Aug's prompt
augmentation). An answer names a class by letter, name or grade:

    <think>a rounded muscular organ</think><answer>B</answer>

Several questions about one picture, such as its plane and its structure, are one task
whose questions have options of their own; indices and letters are the whole task's, so
an answer to one is never taken for an answer to another.

Of a task of several labels a picture shows any number of the classes, or none, and an
answer is a list in the order of the task, or "none":

    <think>a hazy base, a wide heart</think><answer>A, C</answer>
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medjax.data.audit.records import Pictures as Decoded
from medjax.data.audit.records import Sample
from medjax.data.classes.pictures import Pictures
from medjax.data.lists.reading import Bad
from medjax.rl.text.label_set_text import COMMA, NONE, label_set_forms
from medjax.rl.text.label_text import LabelForms, label_forms, option_letters

ANSWERS = ("letter", "name", "grade")
_WAYS = {
    "letter": "the letter of the right option",
    "name": "the name of the right option",
    "grade": "the grade, a whole number,",
}
_SEVERAL = {
    "letter": f"the letters of all right options with commas between, or {NONE},",
    "name": f"the names of all right options with commas between, or {NONE},",
}
_PLANE = "{plane}"  # in a phrasing
NOTHING = "nothing of these is seen"
"""The reasoning of supervised answers about a picture that shows no class."""


class ClassQuestion(NamedTuple):
    """One thing to ask about a picture."""

    name: str  # "plane"
    phrasings: tuple[str, ...]  # the shortest first; "{plane}" stands for the plane
    options: tuple[int, ...]  # indices of the classes that can be right


class ClassTask(NamedTuple):
    """C classes and the questions they answer."""

    name: str  # that of its file of descriptions, if it is built in
    classes: tuple[str, ...]
    questions: tuple[ClassQuestion, ...]
    ordinal: bool = False  # classes are grades, rising with their index
    first_grade: int = 0  # grade of class 0
    multi: bool = False  # a picture shows several classes or none; answers are sets


class TaskParts(NamedTuple):
    """A task, its training and test pictures, and what a resume must find unchanged."""

    task: ClassTask
    train: Pictures
    test: Pictures
    identity: Mapping[str, Any]
    samples: tuple[Sample, ...] = ()  # every row of a user's data; else none
    dropped: tuple[Bad, ...] = ()  # lines of a user's data that were left out
    notes: tuple[str, ...] = ()  # how far readers agree
    copies: tuple[str, ...] = ()  # equal pictures that an .npz has in two parts
    pictures: Decoded | None = None  # of a user's data, where they were decoded


class Wording(NamedTuple):
    """The words that a task is put into; training and test share them."""

    task: ClassTask
    knowledge: tuple[str, ...] | None  # of each class, told after the question
    # Of each class, the reasoning of supervised answers; of a task of several labels
    # there is one more, of pictures that show none.
    reasons: tuple[str, ...]
    phrasings: int  # how many of each question are in use


def check_task(task: ClassTask, answer: str) -> LabelForms:
    """What counts as an answer, if the task can be used.

    Those are the forms of `rl.label_forms`, or of `rl.label_set_forms` where a picture
    may show several classes.

    Args:
        task: The task in words.
        answer: What classes are called by: "letter", "name" or "grade".

    Raises:
        ValueError: There are fewer than two classes, two of the same name or form, no
            questions, or options that are no classes; grades are asked of classes that
            are not ordinal; or a task of several labels has grades, several questions,
            or a class whose name holds a comma or is "none".
    """
    count = len(task.classes)
    if answer not in ANSWERS:
        raise ValueError(f"answer style {answer!r}: expected one of {ANSWERS}")
    if answer == "grade" and not task.ordinal:
        raise ValueError(
            f"task {task.name}: its classes are not ordinal, so they have no grades; "
            "answer by letter or name"
        )
    if count < 2:
        raise ValueError(f"task {task.name}: {count} classes; expected two or more")
    if not task.questions:
        raise ValueError(f"task {task.name}: no questions")
    for question in task.questions:
        wrong = [n for n in question.options if not 0 <= n < count]
        if wrong or len(set(question.options)) < 2 or not question.phrasings:
            raise ValueError(
                f"task {task.name}, question {question.name}: options "
                f"{question.options} of {count} classes in {len(question.phrasings)} "
                "phrasings; expected two or more different classes and one phrasing"
            )
    try:
        letters = option_letters(count) if answer == "letter" else None
        if task.multi:
            _check_multi(task)
            return label_set_forms(task.classes, letters=letters)
        return label_forms(
            task.classes,
            letters=letters,
            grades=task_grades(task) if answer == "grade" else None,
        )
    except ValueError as error:
        raise ValueError(f"task {task.name}: {error}") from error


def task_grades(task: ClassTask) -> tuple[int, ...]:
    """The grade of each class of an ordinal task: whole numbers without gaps.

    They begin at `task.first_grade`; that the task is ordinal is not checked.
    """
    return tuple(range(task.first_grade, task.first_grade + len(task.classes)))


def answer_labels(task: ClassTask, answer: str) -> tuple[str, ...]:
    """What each class is called in an answer: its letter, name or grade.

    Args:
        task: The task in words.
        answer: What classes are called by: "letter", "name" or "grade".
    """
    if answer == "letter":
        return option_letters(len(task.classes))
    if answer == "grade":
        return tuple(map(str, task_grades(task)))
    return task.classes


def question_texts(
    wording: Wording, index: int, *, plane: str, answer: str
) -> tuple[str, ...]:
    """Every way to ask one question of a task: phrasing, options and knowledge.

    Args:
        wording: Its `phrasings` says how many ways there are, the shortest first.
        index: The number of the task's question, from 0.
        plane: Takes the place of "{plane}" in a phrasing; "" where there is none.
        answer: By what the options are listed: "letter", "name" or "grade".

    Raises:
        ValueError: The question has fewer phrasings than are in use.
    """
    task = wording.task
    question = task.questions[index]
    if not 1 <= wording.phrasings <= len(question.phrasings):
        raise ValueError(
            f"{wording.phrasings} phrasings: {task.name} has 1 to "
            f"{len(question.phrasings)} of its question {question.name}"
        )
    labels = answer_labels(task, answer)
    named = [
        name if labels[n] == name else f"{labels[n]} {name}"
        for n, name in enumerate(task.classes)
    ]
    named = [named[n] for n in question.options]
    several = f" Several can be right, or {NONE}." if task.multi else ""
    between = "; " if any("," in name for name in named) else ", "
    rest = f" {'Grades' if answer == 'grade' else 'Options'}: {between.join(named)}."
    rest += several
    if wording.knowledge is not None:
        told = [wording.knowledge[n] for n in question.options]
        rest += "".join(
            f" {name}: {text.rstrip('.')}."
            for name, text in zip(named, told, strict=True)
        )
    return tuple(
        text.replace(_PLANE, plane) + rest
        for text in question.phrasings[: wording.phrasings]
    )


def wording_texts(
    wording: Wording, planes: Sequence[str], *, answer: str
) -> tuple[str, ...]:
    """Every question of a task in every plane, each text once.

    Args:
        wording: The words of the task.
        planes: Every plane that a question may name, one or more; ("",) where none
            does.
        answer: By what the options are listed: "letter", "name" or "grade".
    """
    texts = (
        text
        for index in range(len(wording.task.questions))
        for plane in planes
        for text in question_texts(wording, index, plane=plane, answer=answer)
    )
    return tuple(dict.fromkeys(texts))


def label_answer(reason: str, label: str) -> str:
    """The supervised answer: a reasoning and a class's name, letter or grade in tags.

    >>> label_answer("a round organ", "B")
    '<think>a round organ</think><answer>B</answer>'
    """
    return f"<think>{reason}</think><answer>{label}</answer>"


def labels_answer(wording: Wording, labels: Sequence[int], *, answer: str) -> str:
    """The supervised answer of a picture that shows these classes.

    Args:
        wording: Gives the reasoning of each class, which are joined by commas.
        labels: The classes, in the order in which they are named; several or none only
            where the task has several labels.
        answer: What classes are called by: "letter", "name" or "grade".
    """
    called = answer_labels(wording.task, answer)
    if not labels:
        return label_answer(wording.reasons[len(called)], NONE)
    reason, named = (
        f"{COMMA} ".join(texts[n] for n in labels)
        for texts in (wording.reasons, called)
    )
    return label_answer(reason, named)


def class_answers(wording: Wording, *, answer: str) -> tuple[str, ...]:
    """The supervised answer of each class alone, its reasoning included.

    Of a task of several labels, that of a picture that shows none comes last.

    Args:
        wording: Gives the reasoning of each class.
        answer: What classes are called by: "letter", "name" or "grade".
    """
    sets = [(n,) for n in range(len(wording.task.classes))]
    empty = [()] if wording.task.multi else []
    return tuple(labels_answer(wording, x, answer=answer) for x in (*sets, *empty))


def labels_name(task: ClassTask, labels: Sequence[int]) -> str:
    """What a report calls a set of classes: their names with commas, or "none".

    Args:
        task: The task in words.
        labels: Indices of its classes, in the order in which they are named.
    """
    return f"{COMMA} ".join(task.classes[n] for n in labels) or NONE


def label_instruction(answer: str, *, multi: bool = False, think: bool = True) -> str:
    """What a pretrained policy is told about the form of its answer.

    Args:
        answer: "letter", "name" or "grade"; another word is a ValueError.
        multi: Whether several options can be right, or none.
        think: Whether it begins with its reasoning, or is all there is.
    """
    ways = _SEVERAL if multi else _WAYS
    if answer not in ways:
        raise ValueError(f"answer style {answer!r}: expected one of {tuple(ways)}")
    example = f"{answer}{COMMA} {answer}" if multi else answer
    if not think:
        return (
            f" Give {ways[answer]} alone between <answer> and </answer>, and nothing "
            f"else, like this: <answer>{example}</answer>"
        )
    return (
        " First reason about what the image shows between <think> and </think>, then "
        f"give {ways[answer]} alone between <answer> and </answer>, like this: "
        f"<think>reasoning</think><answer>{example}</answer>"
    )


def _check_multi(task: ClassTask) -> None:
    if task.ordinal:
        raise ValueError(
            "grades exclude each other, so a picture cannot have several; set "
            "multi=False or ordinal=False"
        )
    whole = tuple(range(len(task.classes)))
    if [question.options for question in task.questions] != [whole]:
        raise ValueError(
            "a task of several labels has one question, whose options are all classes"
        )
