r"""Read a completion's label on the host: what `labels.py` is tested against.

- The *answer* is what stands in the last of the blocks `<answer>..</answer>`, found
  from left to right, each as short as can be: they do not nest, and a block without
  its closing tag is none. Boxes are read from the first block, labels from the last:
  there is one only where the format is right, and VLM-R1 reads choices so.
- The answer is a *label* if, without ASCII's white space at its ends and case-folded
  (Unicode's full folding), it is exactly one of
    - the name of a class;
    - its grade in plain decimals, "2", "10" or "-1"; not "+2", "02", "2.0", "two";
    - its letter as "B", "(B)", "B.", "B)" or "B:", all but the first also followed by
      the name or grade of the same class, "B. liver".
  Everything else is no label: several letters or names, a letter and the name of
  another class, a sentence, another language, nothing, bytes that are no UTF-8.
- The *reasoning* is what stands between the first `<think>` and the first `</think>`
  after it, whatever surrounds it.
- A text is *well formed* if without surrounding white space it is
  `<think>..</think>`, optional white space, `<answer>..</answer>`, and each of the four
  tags occurs once. Whether the answer is a label, and how long the reasoning is, is not
  asked here (`label_format_reward` does).

Positions are in bytes of the text.
"""

import numbers
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int

from medjax.checks import check_flags
from medjax.rl.text.box_text import TAGS, has_right_tags
from medjax.rl.text.words import encode, split_words

SPACE = " \t\n\v\f\r"
CLOSERS = ".):"  # what may follow an option's letter

_ANSWER = re.compile(rb"<answer>(.*?)</answer>", re.DOTALL)
_THINK = re.compile(rb"<think>(.*?)</think>", re.DOTALL)
_OPTION = re.compile(
    rf"(?:\((?P<a>.)\)|(?P<b>.)[{CLOSERS}])[{SPACE}]*(?P<rest>.*)", re.DOTALL
)


class LabelForms(NamedTuple):
    """How the C classes may be answered, case-folded; made by `label_forms`."""

    texts: tuple[tuple[str, ...], ...]  # name and grade of each class
    letters: tuple[str, ...]  # one a class, or none at all


class ParsedLabels(NamedTuple):
    """What completions say; spans are (first byte, byte after the last)."""

    label: Int[Array | np.ndarray, "*N"]  # class index, -1 = none was read
    parsed: Bool[Array | np.ndarray, "*N"]  # there is a label
    well_formed: Bool[Array | np.ndarray, "*N"]  # think, answer, and nothing else
    num_answers: Int[Array | np.ndarray, "*N"]  # closed answer blocks
    think: Int[Array | np.ndarray, "*N 2"]  # span of the reasoning, (0, 0) = none
    think_words: Int[Array | np.ndarray, "*N"]  # words in it, see `words.py`
    answer: Int[Array | np.ndarray, "*N 2"]  # span of the last answer, (0, 0) = none


def option_letters(count: int) -> tuple[str, ...]:
    """The letters A, B, C, ... of `count` options.

    Args:
        count: An integer from 1 to 26.

    Returns:
        Capital letters, one an option.

    Raises:
        ValueError: another count; more options are answered by their names.
    """
    whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
    if not whole or not 1 <= count <= 26:
        raise ValueError(
            f"{count} options: letters serve 1 to 26, answer by name instead"
        )
    return tuple(chr(ord("A") + n) for n in range(count))


def label_forms(
    names: Sequence[str],
    *,
    letters: Sequence[str] | None,
    grades: Sequence[int] | None,
) -> LabelForms:
    """What counts as an answer for each class: its name, its grade, its letter.

    All are compared after case folding (Unicode's full one). A grade is written in
    plain decimals, "2" or "-1"; a letter as "B", "(B)", "B.", "B)" or "B:", all but the
    first also followed by the name or the grade of the same class.

    Args:
        names: What the C classes are called, in the order of their indices, one or
            more. Case and white space round them do not matter: two names that differ
            in nothing else are refused.
        letters: The options' letters, one different ASCII letter a class, as
            `option_letters` makes them; None where answers are no options.
        grades: The grades of ordinal classes, consecutive and rising integers, so that
            grades differ by as much as indices do; None where there are none.

    Returns:
        The folded names and grades of each class, and the folded letters.

    Raises:
        ValueError: no classes; a name that is empty or holds a tag; letters or grades
            of another number or kind; an answer that two classes share after folding.
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"names {names!r}: expected a list of one or more class names")
    for name in names:
        if not isinstance(name, str) or any("\ud800" <= c < "\ue000" for c in name):
            raise ValueError(f"class name {name!r} is no Unicode text")
    folded = [name.strip(SPACE).casefold() for name in names]
    for name, text in zip(names, folded, strict=True):
        tags = [tag.decode() for tag in TAGS if tag.decode() in text]
        if not text or tags:
            what = f"holds {tags[0]}" if tags else "is empty"
            raise ValueError(f"class name {name!r} {what}: no answer could match it")
    texts = [(text,) for text in folded]
    if grades is not None:
        _check_grades(grades, len(names))
        texts = [
            (text,) if text == str(grade) else (text, str(int(grade)))
            for text, grade in zip(folded, grades, strict=True)
        ]
    options = () if letters is None else _fold_letters(letters, len(names))
    forms = LabelForms(tuple(texts), options)
    _check_ambiguity(forms, names)
    return forms


def read_label(answer: str | bytes, forms: LabelForms) -> int:
    """The class that an answer's text names, from 0 to C - 1, or -1.

    The whole text has to be a name, a grade or a letter of one class, see
    `label_forms`; a sentence about it, two names, or a letter with another class's name
    is none.

    Args:
        answer: What stands between the tags; white space of ASCII at its ends and case
            do not matter, and bytes that are no UTF-8 name no class.
        forms: What counts as an answer, made by `label_forms`; those of
            `label_set_forms` have one form more, "none", which is read as class C.

    Returns:
        The index of the class, -1 for no class.
    """
    try:
        text = encode(answer).decode().strip(SPACE).casefold()
    except UnicodeDecodeError:
        return -1
    for label, texts in enumerate(forms.texts):
        if text in texts:
            return label
    return _read_option(text, forms)


def parse_label_text(
    text: str | bytes, forms: LabelForms, *, think: bool = True
) -> ParsedLabels:
    """Parse one completion on the host; the fields have no leading axis.

    The answer is the last block `<answer>..</answer>`, read by `read_label`; the
    reasoning is what stands between the first `<think>` and the first `</think>` after
    it. Well formed is `<think>..</think><answer>..</answer>` with white space alone
    around and between, each tag once, whatever the answer is.

    Args:
        text: The completion without its special tokens; bytes need not be UTF-8.
        forms: What counts as an answer, made by `label_forms`.
        think: False asks for `<answer>..</answer>` alone, without a think tag, as well
            formed; label and reasoning are read alike.

    Returns:
        NumPy scalars and spans [2] in int32. Spans count bytes from 0 on, those of the
        UTF-8 of a str. A text without an answer has label -1 and the span (0, 0), one
        without reasoning likewise and no words. `think_words` counts the words of
        `split_words` in the reasoning.

    Raises:
        ValueError: a `think` that is not True or False.
    """
    check_flags("parse_label_text", think=think)
    data = encode(text)
    answers = list(_ANSWER.finditer(data))
    thought = _THINK.search(data)
    label = read_label(answers[-1].group(1), forms) if answers else -1
    return ParsedLabels(
        label=np.array(label, np.int32),
        parsed=np.array(label >= 0),
        well_formed=np.array(has_right_tags(data, think=think)),
        num_answers=np.array(len(answers), np.int32),
        think=np.array(thought.span(1) if thought else (0, 0), np.int32),
        think_words=np.array(
            len(split_words(thought.group(1))) if thought else 0, np.int32
        ),
        answer=np.array(answers[-1].span(1) if answers else (0, 0), np.int32),
    )


def _read_option(text: str, forms: LabelForms) -> int:
    if text in forms.letters:
        return forms.letters.index(text)
    match = _OPTION.fullmatch(text)
    letter = match and (match["a"] or match["b"])
    if not match or letter not in forms.letters:
        return -1
    label = forms.letters.index(letter)
    return label if match["rest"] in ("", *forms.texts[label]) else -1


def _check_grades(grades: Sequence[int], count: int) -> None:
    odd = [
        grade
        for grade in grades
        if isinstance(grade, bool) or not isinstance(grade, int | np.integer)
    ]
    if odd:
        raise ValueError(f"grade {odd[0]!r} is not an integer")
    if len(grades) != count or list(grades) != [grades[0] + n for n in range(count)]:
        raise ValueError(
            f"grades {list(grades)}: expected {count} consecutive rising integers, one "
            "a class"
        )


def _fold_letters(letters: Sequence[str], count: int) -> tuple[str, ...]:
    folded = tuple(letter.casefold() for letter in letters)
    fit = all(len(x) == 1 and x.isascii() and x.isalpha() for x in folded)
    if not fit or len(folded) != count or len(set(folded)) != count:
        raise ValueError(
            f"letters {list(letters)}: expected {count} different ASCII letters, one a "
            "class"
        )
    return folded


def _check_ambiguity(forms: LabelForms, names: Sequence[str]) -> None:
    owners: dict[str, int] = {}
    for label, texts in enumerate(forms.texts):
        for text in texts:
            other = owners.setdefault(text, label)
            other = _read_option(text, forms) if other == label else other
            if other not in (-1, label):
                raise ValueError(
                    f"the answer {text!r} would name two classes, {other} "
                    f"({names[other]!r}) and {label} ({names[label]!r}): rename one, "
                    "or leave the letters or grades out"
                )
