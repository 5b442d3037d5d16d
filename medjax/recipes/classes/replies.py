"""What an answer about classes says, and why nothing could be read of it."""

from functools import partial

import numpy as np

from medjax.data.classes.tasks import ClassTask, check_task
from medjax.data.prompting.chat import Style
from medjax.recipes.policy.replies import Read, ReadFn
from medjax.rl.text.label_set_text import parse_label_set_text
from medjax.rl.text.label_text import LabelForms, parse_label_text


def label_reader(task: ClassTask, style: Style) -> ReadFn:
    """The function that reads completions about a task: a class each, or several.

    Args:
        task: Its classes.
        style: By what they are called, and whether an answer begins with reasoning.
    """
    forms = check_task(task, style.answer)
    return partial(read_labels, task, forms, think=style.think)


def read_labels(
    task: ClassTask, forms: LabelForms, data: bytes, *, think: bool
) -> Read:
    """The classes that a completion names, as `rl.parse_label_text` reads it.

    Args:
        task: Its classes; of several labels `rl.parse_label_set_text` reads.
        forms: What counts as a label, from `check_task`.
        data: The completion's bytes.
        think: Whether the right format begins with reasoning.
    """
    if task.multi:
        read = parse_label_set_text(data, forms, think=think)
        classes = np.flatnonzero(read.shown).tolist()
    else:
        read = parse_label_text(data, forms, think=think)
        classes = [int(read.label)] if read.parsed else []
    first, last = np.asarray(read.answer).tolist()
    parsed = bool(read.parsed)
    why = ""
    if not read.num_answers:
        why = "no <answer>..</answer>"
    elif not parsed:
        said = data[first:last].decode("utf-8", "replace").strip()[:60]
        why = f"the last answer, {said!r}, names no class"
    return Read(
        parsed=parsed,
        well_formed=bool(read.well_formed),
        why=why,
        labels=tuple(task.classes[n] for n in classes),
        boxes=None,
        spans=((first, last),) if parsed else (),
    )
