"""Data about classes by name: built-in tasks, MedMNIST files, labelled images."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medjax.data.audit.facts import look_plainly
from medjax.data.audit.records import LookFn
from medjax.data.batches import Parts
from medjax.data.classes.built_in import TASKS, built_in_task
from medjax.data.classes.class_names import load_class_names
from medjax.data.classes.formats.table import read_labels
from medjax.data.classes.knowledge import (
    built_in_descriptions,
    load_descriptions,
    short_reasons,
    wording_identity,
)
from medjax.data.classes.label_sets import balance_label_sets
from medjax.data.classes.labelled_images import load_labelled_images
from medjax.data.classes.medmnist import (
    EVERY,
    Slices,
    load_medmnist,
)
from medjax.data.classes.pictures import (
    PictureLook,
    Pictures,
    balance_pictures,
    labelled_pictures,
)
from medjax.data.classes.tasks import NOTHING, ClassTask, TaskParts, Wording
from medjax.data.lists.missing import missing_source
from medjax.data.lists.parts import HeldOut
from medjax.data.lists.reading import PLAIN, Reading, check_built_in
from medjax.rl.text.reference_tables import RecitationTables, recitation_tables

_BESIDE = "descriptions.json"  # in the folder of a user's data


class LabelParts(NamedTuple):
    """Pictures and the words that a task is put into."""

    parts: Parts[Pictures]
    known: Pictures  # the training part as it is, before classes are balanced
    wording: Wording
    told: Wording  # the same with the descriptions, whether or not the prompt has them
    references: RecitationTables  # what reciting is measured against


class Naming(NamedTuple):
    """What a file does not say of its classes, as the section `data` names it."""

    classes: str = ""  # a JSON file of their names; "": those that are known
    ordinal: bool | None = None  # whether they are grades; None: what is known
    question: str = ""  # what is asked about each picture; "": a general phrasing


class Telling(NamedTuple):
    """How a task is put into words, as the section `data` names it."""

    # a built-in name or a JSON file; "": descriptions.json beside the data, or else the
    # task's own
    descriptions: str
    prompt_knowledge: bool  # the descriptions are told in the question
    recite: bool  # they are recited for a reward, so that they must be there
    reason_words: int  # 1 or more of a description reason in supervised answers
    phrasings: int  # 1 or more ways of asking are in use, the shortest first


def load_label_parts(
    source: str,
    *,
    look: PictureLook,
    naming: Naming,
    telling: Telling,
    held: HeldOut,
    balance: bool,
    labelled: int = 0,
    slices: Slices = EVERY,
    reading: Reading = PLAIN,
    decode: LookFn | None = look_plainly,
) -> LabelParts:
    """The pictures of a source, and how its task is put into words.

    Args:
        source: A built-in task (see `built_in`), a MedMNIST .npz, or a user's list or
            folder, see `formats.table`.
        look: How pictures of a built-in task are shown; those in files are taken as
            they are. Its `tested` is that of `held`.
        naming: The classes of a user's file, and what is asked about them.
        telling: The words.
        held: Which part is tested, and the share of the patients (or images) of a list
            without splits in it.
        balance: Whether training pictures of all classes are shown equally often; of
            several labels see `balance_label_sets`.
        labelled: How many training pictures there are, drawn by the seed of `held`; 0
            takes all. Every class of the training part has to be among them.
        slices: Which slices of a file's volumes are shown.
        reading: How a user's file is read: wrong lines, readers, groups, and whether
            pictures have several labels.
        decode: Decodes a user's pictures beforehand: those with equal pixels lie in one
            part, and none fails in training. None does not.

    Raises:
        FileNotFoundError: There is no such source, or there are no descriptions where
            they are needed.
        ValueError: Anything in the source is wrong, or an option is set that does not
            concern its kind.
    """
    path = Path(source)
    look = look._replace(tested=held.tested)
    names = load_class_names(naming.classes) if naming.classes else None
    if source in TASKS or path.suffix == ".npz":
        check_built_in(source if source in TASKS else path.name, reading)
    if source in TASKS:
        several = "" if reading.answers == "one" else reading.answers
        _refuse_unused(source, naming._asdict() | {"answers": several})
        made = built_in_task(source, look)
    elif path.suffix == ".npz" and path.exists():
        _refuse_unused(path.name, {"question": naming.question})
        made = load_medmnist(
            path,
            test=held.tested,
            classes=names,
            ordinal=naming.ordinal,
            multi=reading.answers == "set",
            slices=slices,
        )
    elif source and path.exists():
        made = load_labelled_images(
            read_labels(path, reading),
            path if path.is_dir() else path.parent,
            reading,
            decode,
            classes=names,
            ordinal=bool(naming.ordinal),
            question=naming.question or None,
            held=held,
        )
    else:
        expected = "a MedMNIST .npz, or a user's file or folder of labelled images"
        raise missing_source(source, tuple(TASKS), "task", expected)
    where = _find_descriptions(made.task, path, telling)
    texts = made.task.classes
    if where:
        texts = load_descriptions(where, made.task.classes).texts
    wording = Wording(
        task=made.task,
        knowledge=texts if telling.prompt_knowledge else None,
        reasons=short_reasons(texts, telling.reason_words)
        + (NOTHING,) * made.task.multi,
        phrasings=telling.phrasings,
    )
    known, identity = made.train, dict(made.identity)
    if labelled:
        known = _labelled(made, labelled, seed=held.seed)
        identity |= {"labelled": [labelled, held.seed]}
    balanced = balance_label_sets if made.task.multi else balance_pictures
    train = balanced(known) if balance else known
    identity |= {"balance": balance, "descriptions": texts}
    identity |= {"words": wording_identity(wording)}
    references = recitation_tables([_references(text) for text in texts])
    return LabelParts(
        parts=Parts(
            train,
            made.test,
            identity,
            samples=made.samples,
            dropped=made.dropped,
            notes=made.notes,
            copies=made.copies,
            pictures=made.pictures,
            single=bool(made.samples) and not made.task.multi,
        ),
        known=known,
        wording=wording,
        told=wording._replace(knowledge=texts) if where else wording,
        references=references,
    )


def _labelled(made: TaskParts, count: int, *, seed: int) -> Pictures:
    """`count` of the training pictures, which show every class that all of them do."""
    some = labelled_pictures(made.train, count, seed=seed)
    whole, left = (_shown(made.task, pictures) for pictures in (made.train, some))
    if lost := [made.task.classes[n] for n in sorted(whole - left)]:
        raise ValueError(
            f"data.labelled={count}: no picture of {', '.join(lost)} is among those "
            f"drawn by seed {seed} from the {made.train.count} of the training part; "
            "label more of them, or take another seed"
        )
    return some


def _shown(task: ClassTask, pictures: Pictures) -> set[int]:
    """The classes of which there is a picture."""
    labels = pictures.labels
    found = np.flatnonzero(labels.any(axis=0)) if task.multi else np.unique(labels)
    return set(found.tolist())


def _refuse_unused(source: str, given: Mapping[str, str | bool | None]) -> None:
    """Raise ValueError where an option is set that this kind of source never reads."""
    for name, value in given.items():
        if value not in ("", None):
            raise ValueError(
                f"data.{name}={value!r} does not concern {source}, which has its own; "
                "leave it out"
            )


def _find_descriptions(task: ClassTask, path: Path, telling: Telling) -> str:
    """The descriptions' name or path, "" where there are none and none are needed."""
    beside = (path if path.is_dir() else path.parent) / _BESIDE
    if telling.descriptions:
        return telling.descriptions
    if task.name not in TASKS and beside.is_file():
        return str(beside)
    if task.name in built_in_descriptions():
        return task.name
    if telling.prompt_knowledge or telling.recite:
        needed = "prompt" if telling.prompt_knowledge else "recitation"
        raise FileNotFoundError(
            f"task {task.name}: no descriptions of its classes, which the {needed} "
            f"needs; write {_BESIDE} beside the data, name a file, or choose "
            "prompt=off,recite=none"
        )
    return ""


def _references(text: str) -> tuple[str, ...]:
    """The whole text and each of its clauses: a short reasoning may recite one."""
    clauses = [part for part in text.replace(";", ",").split(",") if part.strip()]
    return (text, *clauses) if len(clauses) > 1 else (text,)
