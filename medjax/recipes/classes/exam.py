"""The test of a run about classes: its questions, and answers read from a file."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from medjax.data.batches import Draw, Showing
from medjax.data.classes.batches import LabelRecord, eval_label_draws
from medjax.data.classes.sources import LabelParts
from medjax.data.classes.tasks import ClassTask, check_task, labels_name
from medjax.data.lists.files import Line
from medjax.data.prompting.chat import Style
from medjax.data.prompting.layout import Geometry
from medjax.recipes.classes.score import Asked, Probe, label_baselines, score
from medjax.recipes.classes.score_sets import label_set_baselines, score_sets
from medjax.recipes.policy.answers import (
    Exam,
    check_target,
    disagree,
    optional_number,
    said,
)
from medjax.recipes.policy.privacy import HideFn
from medjax.recipes.policy.scoring import Answered
from medjax.rl.text.label_set_text import parse_label_set_text, read_label_set
from medjax.rl.text.label_text import LabelForms, parse_label_text, read_label

_BOTH = ("text", "answer", "target", "group", "length", "recitation")
_ONE = (*_BOTH, "label", "ranked")
_SET = (*_BOTH, "labels", "shares", "odds")


def label_exam(
    source: LabelParts,
    style: Style,
    geometry: Geometry,
    *,
    probe: Probe,
    seed: int,
    hide: HideFn,
) -> Exam:
    """The questions of the test part, and how classes that answer them are scored.

    Args:
        source: The pictures of both parts, and the words of their task.
        style: The words around a question, and the form of its answer.
        geometry: How images are shown.
        probe: How small the linear probe sees pictures, and how it is fitted.
        seed: Decides the draws of the baselines.
        hide: What files call a group.

    Raises:
        ValueError: The task cannot be asked so, see `check_task`.
    """
    wording, parts = source.wording, source.parts
    task = wording.task
    forms = check_task(task, style.answer)
    make = label_set_baselines if task.multi else label_baselines
    asked = Asked(
        task,
        source.known,
        parts.test,
        make(task, source.known, seed=seed, probe=probe),
        hide,
        parts.train if parts.train is not source.known else None,
    )
    read = read_label_sets if task.multi else read_labels
    return Exam(
        draws=partial(_draws, source, style, geometry),
        samples=parts.samples,
        column="question",
        keys=_SET if task.multi else _ONE,
        read=partial(read, task, forms, style.think),
        doubts=lambda _: [],
        score=partial(score_sets if task.multi else score, asked),
    )


def read_labels(
    task: ClassTask,
    forms: LabelForms,
    think: bool,
    lines: Sequence[Line | None],
    records: Sequence[LabelRecord],
) -> Answered:
    """A class of each line.

    Args:
        task: Its classes.
        forms: What counts as an answer.
        think: Whether a right format has reasoning.
        lines: With `text`, which is read as a policy's, or `label`: a name, a letter, a
            grade, or null where none was given. `length` (tokens), `recitation` and
            `ranked` are taken as they are.
        records: The questions.

    Raises:
        ValueError: A line has neither, a label that is no class, or cells that
            contradict each other.
    """
    predicted, ranked = np.full((2, len(records)), -1, np.int32)
    right, words = np.zeros((2, len(records)), np.int32)
    for n, (line, record) in enumerate(zip(lines, records, strict=True)):
        if line is None:
            continue
        check_target(line, "target", record.name)
        text = said(line)
        if text is not None:
            parsed = parse_label_text(text, forms, think=think)
            predicted[n] = parsed.label
            right[n], words[n] = parsed.well_formed, parsed.think_words
        else:
            predicted[n] = _label(line, task, forms)
            right[n] = predicted[n] >= 0
        label = int(predicted[n])
        named = task.classes[label] if label >= 0 else None
        if "answer" in line.cells and line.cells["answer"] != named:
            raise disagree(line, "answer", named)
        stated = line.cells.get("label")
        if "answer" in line.cells and type(stated) is int and stated != label:
            raise disagree(line, "label", label)
        if text is not None and stated is not None and "answer" not in line.cells:
            if _label(line, task, forms) != label:
                raise disagree(line, "label", named)
        likely = optional_number(line, "ranked", high=len(task.classes) - 1)
        ranked[n] = -1 if np.isnan(likely) else int(likely)
    return Answered(
        records=list(records),
        predictions={"label": predicted}
        | ({} if (ranked < 0).any() else {"ranked": ranked}),
        values=_values(lines, right, words),
        texts=[None if line is None else said(line) for line in lines],
    )


def read_label_sets(
    task: ClassTask,
    forms: LabelForms,
    think: bool,
    lines: Sequence[Line | None],
    records: Sequence[LabelRecord],
) -> Answered:
    """A set of classes of each line.

    Args:
        task: Its classes, C of them.
        forms: What counts as a label.
        think: Whether a right format has reasoning.
        lines: With `text`, or `labels`: a list of names or letters, or null where none
            was given. `shares` and `odds`, a number a class, are scores of AUROC.
        records: The questions.

    Raises:
        ValueError: See `read_labels`; or other numbers of scores and classes.
    """
    count, classes = len(records), len(task.classes)
    named = np.zeros((count, classes), bool)
    read, right, words = np.zeros((3, count), np.int32)
    scores: dict[str, list[np.ndarray | None]] = {"shares": [], "odds": []}
    for n, (line, record) in enumerate(zip(lines, records, strict=True)):
        for key, found in scores.items():
            found.append(None if line is None else _scores(line, key, classes))
        if line is None:
            continue
        check_target(line, "target", record.name)
        text = said(line)
        if text is not None:
            parsed = parse_label_set_text(text, forms, think=think)
            right[n], words[n] = parsed.well_formed, parsed.think_words
            some = np.flatnonzero(parsed.shown).tolist() if parsed.parsed else None
        else:
            some = _label_list(line, task, forms)
            right[n] = some is not None
        called = None if some is None else labels_name(task, some)
        if "answer" in line.cells and line.cells["answer"] != called:
            raise disagree(line, "answer", called)
        if text is not None and "labels" in line.cells:
            numbers = "answer" in line.cells
            told = line.cells["labels"] if numbers else _label_list(line, task, forms)
            if told != some:
                raise disagree(line, "labels", called)
        read[n] = some is not None
        named[n, some or []] = True
    given = {key: x for key, x in scores.items() if not any(y is None for y in x)}
    return Answered(
        records=list(records),
        predictions={"shown": named, "read": read.astype(bool)}
        | {key: np.array(x, np.float64) for key, x in given.items()},
        values=_values(lines, right, words),
        texts=[None if line is None else said(line) for line in lines],
    )


def _draws(
    source: LabelParts,
    style: Style,
    geometry: Geometry,
    questions: int,
    seed: int,
    limit: int | None,
) -> Iterable[Draw[LabelRecord]]:
    showing = Showing(style, geometry, questions)
    return eval_label_draws(
        source.parts.test, source.wording, showing, seed=seed, limit=limit
    )


def _label(line: Line, task: ClassTask, forms: LabelForms) -> int:
    """The class that a line without a text names, -1 for null."""
    key = "answer" if "answer" in line.cells else "label"
    if key not in line.cells:
        raise ValueError(
            f"{line.origin}: no answer; expected 'text', or 'label' (null where there "
            "is none)"
        )
    value = line.cells[key]
    if value is None:
        return -1
    if type(value) is int and task.ordinal:
        value = str(value)
    found = read_label(value, forms) if isinstance(value, str) else -1
    if found < 0:
        raise _no_class(line, key, task)
    return found


def _label_list(line: Line, task: ClassTask, forms: LabelForms) -> list[int] | None:
    """The classes that a line without a text names, None for null."""
    if "answer" in line.cells:
        value = line.cells["answer"]
        if value is None:
            return None
        found = read_label_set(value, forms) if isinstance(value, str) else None
        if found is None:
            raise _no_class(line, "answer", task)
        return list(found)
    if "labels" not in line.cells:
        raise ValueError(
            f"{line.origin}: no answer; expected 'text', or 'labels' (null where there "
            "is none)"
        )
    value = line.cells["labels"]
    if value is None:
        return None
    if not isinstance(value, list):
        raise _no_class(line, "labels", task)
    labels = [read_label(x, forms) if isinstance(x, str) else -1 for x in value]
    if any(not 0 <= label < len(task.classes) for label in labels):
        raise _no_class(line, "labels", task)
    return sorted(set(labels))


def _no_class(line: Line, key: str, task: ClassTask) -> ValueError:
    way = "a list of them, which may be empty" if task.multi else "one of them"
    return ValueError(
        f"{line.origin}: {key} {line.cells[key]!r}; expected {way}, called as "
        f"prompt.answer says or by name: {', '.join(task.classes)}; or null where the "
        "answer is none"
    )


def _scores(line: Line, key: str, classes: int) -> Float[np.ndarray, "C"] | None:
    listed = line.cells.get(key)
    if listed is None:
        return None
    numbers = isinstance(listed, list) and all(type(x) in (int, float) for x in listed)
    low, high = (0.0, 1.0) if key == "shares" else (-np.inf, np.inf)
    right = numbers and len(listed) == classes
    if not right or not all(low <= x <= high for x in listed):
        span = " from 0 to 1" if key == "shares" else ""
        raise ValueError(
            f"{line.origin}: {key} {listed!r}; expected a number{span} for each of "
            f"{classes} classes"
        )
    return np.array(listed, np.float64)


def _values(
    lines: Sequence[Line | None], right: np.ndarray, words: np.ndarray
) -> dict[str, Any]:
    def each(key: str, high: float) -> Float[np.ndarray, "N"]:
        return np.array(
            [
                np.nan if line is None else optional_number(line, key, high=high)
                for line in lines
            ]
        )

    return {
        "well_formed": right.astype(bool),
        "think_words": words,
        "length": each("length", np.inf),
        "recitation": each("recitation", 1.0),
    }
