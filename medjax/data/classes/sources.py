"""Data about classes by name: built-in tasks, MedMNIST files, labelled images."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medjax.data.batches import Parts
from medjax.data.classes.built_in import TASKS, built_in_task
from medjax.data.classes.knowledge import (
    built_in_descriptions,
    load_descriptions,
    short_reasons,
    wording_identity,
)
from medjax.data.classes.labelled_images import load_labelled_images
from medjax.data.classes.medmnist import load_class_names, load_medmnist
from medjax.data.classes.pictures import PictureLook, Pictures, balance_pictures
from medjax.data.classes.tasks import ClassTask, Wording
from medjax.rl.text.reference_tables import RecitationTables, recitation_tables

_BESIDE = "descriptions.json"  # in the folder of a user's data


class LabelParts(NamedTuple):
    """Pictures and the words that a task is put into."""

    parts: Parts  # of `Pictures`
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
) -> LabelParts:
    """The pictures of a source, and how its task is put into words.

    Args:
        source: a built-in task (see `data.class_tasks`), a MedMNIST .npz, or a CSV file
            or the folder that holds one.
        seed: of a split that is drawn.
        size: (height, width) of a built-in task's pictures; the options up to
            `test_draws` are the rest of its `PictureLook`.
        field: mm along the shorter side, of a crop at least.
        margin: of a crop, times the structure's longer side.
        least: of a structure's usual box: smaller pieces of it are not shown.
        shift: of a side.
        scale: (low, high).
        mirror: flip half of the training pictures.
        test_draws: pictures of each test slice.
        balance: show training pictures of all classes equally often.
        classes: JSON file of a user's class names; empty: those that are known.
        ordinal: a user's classes are grades; None: as is known of the set.
        question: about a user's images; empty: a general one.
        test: part to test on, "test", or "val" to choose settings by.
        test_share: of the patients (or images) of a CSV file without splits.
        descriptions: a built-in name or JSON file; empty: the task's own, or
            descriptions.json beside the data.
        prompt_knowledge: tell the descriptions in the question.
        recite: the descriptions are recited for a reward.
        reason_words: of the description, as the reasoning of supervised answers.
        phrasings: ways of asking in use.

    Raises:
        FileNotFoundError: no such source, or descriptions that are needed.
    """
    shown, span = (int(size[0]), int(size[1])), (float(scale[0]), float(scale[1]))
    path = Path(source)
    names = load_class_names(classes) if classes else None
    if source in TASKS:
        look = PictureLook(
            size=shown,
            field=field,
            margin=margin,
            least=least,
            shift=shift,
            scale=span,
            mirror=mirror,
            test_draws=test_draws,
            tested=test,
        )
        found = built_in_task(source, look)
    elif path.suffix == ".npz":
        found = load_medmnist(path, test=test, classes=names, ordinal=ordinal)
    elif path.exists():
        found = load_labelled_images(
            path,
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
            "MedMNIST .npz, of a CSV file or of a folder with one"
        )
    needed = "prompt" if prompt_knowledge else "recitation" if recite else ""
    where = _find_descriptions(found.task, path, descriptions)
    if not where and needed:
        raise FileNotFoundError(
            f"task {found.task.name}: no descriptions of its classes, which the "
            f"{needed} needs; write {_BESIDE} beside the data, name a file, or choose "
            "prompt=off,recite=none"
        )
    texts = found.task.classes
    if where:
        texts = load_descriptions(where, found.task.classes).texts
    wording = Wording(
        task=found.task,
        knowledge=texts if prompt_knowledge else None,
        reasons=short_reasons(texts, reason_words),
        phrasings=phrasings,
    )
    train = balance_pictures(found.train) if balance else found.train
    identity = dict(found.identity) | {"balance": balance, "descriptions": texts}
    identity |= {"words": wording_identity(wording)}
    references = recitation_tables([_references(text) for text in texts])
    return LabelParts(
        parts=Parts(train, found.test, identity),
        known=found.train,
        wording=wording,
        told=wording._replace(knowledge=texts) if where else wording,
        references=references,
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
