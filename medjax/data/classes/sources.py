"""Data about classes by name: built-in tasks, MedMNIST files, labelled images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medjax.data.audit.facts import look_plainly
from medjax.data.audit.records import LookFn
from medjax.data.batches import Parts
from medjax.data.classes.built_in import TASKS, built_in_task
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
    load_class_names,
    load_medmnist,
)
from medjax.data.classes.pictures import PictureLook, Pictures, balance_pictures
from medjax.data.classes.tasks import NOTHING, ClassTask, Wording
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


def load_label_parts(
    *,
    source: str,
    seed: int,
    size: Sequence[int],
    field: float,
    margin: float,
    least: float,
    shift: float,
    scale: Sequence[float],
    mirror: bool,
    test_draws: int,
    balance: bool,
    classes: str,
    ordinal: bool | None,
    question: str,
    test: str,
    test_share: float,
    descriptions: str,
    prompt_knowledge: bool,
    recite: bool,
    reason_words: int,
    phrasings: int,
    slices: Slices = EVERY,
    reading: Reading = PLAIN,
    decode: LookFn | None = look_plainly,
) -> LabelParts:
    """The pictures of a source, and how its task is put into words.

    Args:
        source: A built-in task (see `built_in`), a MedMNIST .npz, or a user's list or
            folder, see `formats.table`.
        seed: Another one splits a list without splits otherwise.
        size: (height, width) in pixels of a built-in task's pictures. This and what
            follows up to `test_draws` is the `PictureLook` of a built-in task; pictures
            in files are taken as they are.
        field: How many mm the shorter side shows, of a crop at least; of nuclei it is
            pixels.
        margin: The field of a crop is so many times the structure's longer side.
        least: A structure is not shown where its box has less than this share of its
            usual area in that plane.
        shift: Every picture moves by at most so much of a side, both ways.
        scale: (low, high) factor by which the content of a picture is enlarged.
        mirror: Whether half of the training pictures are flipped; refused where classes
            have sides.
        test_draws: How many pictures are drawn of each test slice, 1 or more.
        balance: Whether training pictures of all classes are shown equally often; of
            several labels see `balance_label_sets`.
        classes: A JSON file of a user's class names; "" takes those that are known.
        ordinal: Whether a user's classes are grades; None takes what is known of the
            set.
        question: What is asked about a user's images; "" takes a general phrasing.
        test: The part to test on, "test", or "val" to choose settings by.
        test_share: The share of the patients (or images) of a list without splits
            to test on, 0 to 1.
        descriptions: A built-in name or a JSON file; "" takes descriptions.json beside
            the data, or else the task's own.
        prompt_knowledge: Whether the descriptions are told in the question.
        recite: Whether the descriptions are recited for a reward, so that they must be
            there.
        reason_words: So many words of the description, 1 or more, are the reasoning of
            supervised answers.
        phrasings: How many ways of asking are in use, 1 or more, the shortest first.
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
    names = load_class_names(classes) if classes else None
    if source in TASKS or path.suffix == ".npz":
        check_built_in(source if source in TASKS else path.name, reading)
    if source in TASKS:
        own = {"classes": classes, "ordinal": ordinal, "question": question}
        several = "" if reading.answers == "one" else reading.answers
        _refuse_unused(source, own | {"answers": several})
        look = PictureLook(
            size=(int(size[0]), int(size[1])),
            field=field,
            margin=margin,
            least=least,
            shift=shift,
            scale=(float(scale[0]), float(scale[1])),
            mirror=mirror,
            test_draws=test_draws,
            tested=test,
        )
        made = built_in_task(source, look)
    elif path.suffix == ".npz":
        _refuse_unused(path.name, {"question": question})
        made = load_medmnist(
            path,
            test=test,
            classes=names,
            ordinal=ordinal,
            multi=reading.answers == "set",
            slices=slices,
        )
    elif path.exists():
        made = load_labelled_images(
            read_labels(path, reading),
            path if path.is_dir() else path.parent,
            reading,
            decode,
            classes=names,
            ordinal=bool(ordinal),
            question=question or None,
            test=test,
            test_share=test_share,
            seed=seed,
        )
    else:
        raise FileNotFoundError(
            f"task {source!r}: expected one of {', '.join(TASKS)}, or the path of a "
            "MedMNIST .npz, or of a user's file or folder of labelled images"
        )
    needed = "prompt" if prompt_knowledge else "recitation" if recite else ""
    where = _find_descriptions(made.task, path, descriptions)
    if not where and needed:
        raise FileNotFoundError(
            f"task {made.task.name}: no descriptions of its classes, which the "
            f"{needed} needs; write {_BESIDE} beside the data, name a file, or choose "
            "prompt=off,recite=none"
        )
    texts = made.task.classes
    if where:
        texts = load_descriptions(where, made.task.classes).texts
    wording = Wording(
        task=made.task,
        knowledge=texts if prompt_knowledge else None,
        reasons=short_reasons(texts, reason_words) + (NOTHING,) * made.task.multi,
        phrasings=phrasings,
    )
    balanced = balance_label_sets if made.task.multi else balance_pictures
    train = balanced(made.train) if balance else made.train
    identity = dict(made.identity) | {"balance": balance, "descriptions": texts}
    identity |= {"words": wording_identity(wording)}
    references = recitation_tables([_references(text) for text in texts])
    return LabelParts(
        parts=Parts(
            train,
            made.test,
            identity,
            made.samples,
            made.dropped,
            made.notes,
            made.pictures,
        ),
        known=made.train,
        wording=wording,
        told=wording._replace(knowledge=texts) if where else wording,
        references=references,
    )


def _refuse_unused(source: str, given: Mapping[str, str | bool | None]) -> None:
    """Raise ValueError where an option is set that this kind of source never reads."""
    for name, value in given.items():
        if value not in ("", None):
            raise ValueError(
                f"data.{name}={value!r} does not concern {source}, which has its own; "
                "leave it out"
            )


def _find_descriptions(task: ClassTask, path: Path, named: str) -> str:
    """The descriptions' name or path, "" where there are none."""
    if named:
        return named
    beside = (path if path.is_dir() else path.parent) / _BESIDE
    if task.name not in TASKS and beside.is_file():
        return str(beside)
    return task.name if task.name in built_in_descriptions() else ""


def _references(text: str) -> tuple[str, ...]:
    """The whole text and each of its clauses: a short reasoning may recite one."""
    clauses = [part for part in text.replace(";", ",").split(",") if part.strip()]
    return (text, *clauses) if len(clauses) > 1 else (text,)
