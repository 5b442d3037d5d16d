"""A user's own pictures as a task: their classes or grades, and the two parts."""

import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from medjax.data.audit.records import LookFn, Sample
from medjax.data.audit.records import Pictures as Decoded
from medjax.data.classes.entries import LabelEntry
from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.rows import LabelRow, grouped_labels, label_rows
from medjax.data.classes.tasks import ClassQuestion, ClassTask, TaskParts
from medjax.data.images import ImageFile, read_image
from medjax.data.lists.parts import HeldOut, Parted, honest_parts
from medjax.data.lists.pixels import picture_contents
from medjax.data.lists.reading import Bad, Reading


def load_labelled_images(
    entries: Iterable[LabelEntry | Bad],
    root: Path,
    reading: Reading,
    decode: LookFn | None = None,
    *,
    classes: Sequence[str] | None,
    ordinal: bool,
    question: str | None,
    held: HeldOut,
) -> TaskParts:
    """The task that a user's list of labelled images states, and its two parts.

    Args:
        entries: The list's lines, in its order.
        root: The folder of the list, from which pictures are named.
        reading: How wrong lines, readers and groups are treated.
        decode: Decodes the pictures beforehand: those with equal pixels lie in one
            part, and none fails in training. None does not.
        classes: Names in the order of their indices; None takes those that occur,
            sorted. Of an ordinal task they name the grades 0, 1, ..., and without them
            the grades are all from the lowest to the highest that occur, without gaps.
        ordinal: Whether labels are grades: whole numbers, the higher the more.
        question: What is asked about every picture; None takes a general phrasing.
        held: Which part is tested, and the share of the patients (or pictures) in it
            where the list has no `split`. For "val" it is a share of what is left for
            training, and the test part is not looked at.

    Raises:
        FileNotFoundError: There is no such file, or a picture is missing.
        ValueError: Anything else is wrong with a line; the message names file and line.
    """
    found = label_rows(entries, reading, decode)
    rows = found.rows
    several = reading.answers == "set"
    if several:
        names, labels, first = *_sets(rows, classes, ordinal), 0
    else:
        names, single, first = _classes(rows, classes, ordinal)
        labels = np.array(single, np.int32)[:, None]
    near = reading.near == "group"
    lines = grouped_labels(rows, root, picture_contents(found.pictures, near=near))
    parted = honest_parts(lines, reading, held, dropped=found.dropped)
    kept, tested = parted.parting
    if question is None:
        question = "Which grade is this?" if ordinal else "Which class is this?"
        question = "Which of these are seen?" if several else question
    about = ClassQuestion("class", (question,), tuple(range(len(names))))
    content = [
        (
            line.name,
            _pixels(row.image, found.pictures),
            *(row.labels, row.groups, row.split),
        )
        for line, row in zip(lines, rows, strict=True)
    ]
    dropped = found.dropped + parted.dropped
    return TaskParts(
        task=ClassTask("labelled images", names, (about,), ordinal, first, several),
        train=_pictures(rows, labels, parted.groups, kept),
        test=_pictures(rows, labels, parted.groups, tested),
        identity={
            "task": "labelled images",
            "classes": list(names),
            "rows": len(rows),
            "sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
            "test": [len(tested), held.tested, held.share, held.seed, reading.near],
        },
        samples=_samples(rows, parted),
        dropped=dropped,
        notes=(str(found.agreement),) if found.agreement else (),
        pictures=found.pictures,
    )


def _samples(rows: Sequence[LabelRow], parted: Parted) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            origin=row.origin,
            part=part,
            images=(row.image,),
            group=group,
            groups=row.groups,
            labels=row.labels,
            size=row.size,
        )
        for row, part, group in zip(rows, parted.parts, parted.groups, strict=True)
    )


def _pixels(image: ImageFile, pictures: Decoded | None) -> str | int:
    """What stands for a picture's content: its pixels, or else the file's bytes."""
    if pictures is not None:
        return pictures.facts[image].digest
    return zlib.crc32(image.path.read_bytes())


def _classes(
    rows: Sequence[LabelRow], classes: Sequence[str] | None, ordinal: bool
) -> tuple[tuple[str, ...], list[int], int]:
    """Names, the index of each row's class, and the grade of class 0."""
    if ordinal:
        grades = []
        for row in rows:
            if not re.fullmatch(r"[+-]?\d+", row.labels[0]):
                raise ValueError(
                    f"{row.origin}: grade {row.labels[0]!r} is not an integer; "
                    "expected whole numbers as labels of an ordinal task"
                )
            grades.append(int(row.labels[0]))
        if classes is None:
            _check_gaps(rows, grades)
        first = 0 if classes is not None else min(grades)
        names = (
            tuple(classes)
            if classes is not None
            else tuple(str(n) for n in range(first, max(grades) + 1))
        )
        labels = [grade - first for grade in grades]
        known = f"the grades {first} to {first + len(names) - 1}"
    else:
        first = 0
        names = tuple(classes or sorted({row.labels[0] for row in rows}))
        index = {name: n for n, name in enumerate(names)}
        labels = [index.get(row.labels[0], -1) for row in rows]
        known = f"the classes {', '.join(names)}"
    for row, label in zip(rows, labels, strict=True):
        if not 0 <= label < len(names):
            raise ValueError(
                f"{row.origin}: label {row.labels[0]!r} is outside {known}"
            )
    return names, labels, first


def _sets(
    rows: Sequence[LabelRow], classes: Sequence[str] | None, ordinal: bool
) -> tuple[tuple[str, ...], Int[np.ndarray, "n C"]]:
    """Names, and marks of each row's classes."""
    if ordinal:
        raise ValueError(
            "data.answers=set and data.ordinal=True: grades exclude each other; leave "
            "one out"
        )
    names = tuple(classes or sorted({label for row in rows for label in row.labels}))
    marks = np.zeros((len(rows), len(names)), np.int32)
    for n, row in enumerate(rows):
        for label in row.labels:
            if label not in names:
                raise ValueError(
                    f"{row.origin}: label {label!r} is outside the classes "
                    f"{', '.join(names)}"
                )
            marks[n, names.index(label)] = 1
    return names, marks


def _check_gaps(rows: Sequence[LabelRow], grades: Sequence[int]) -> None:
    """Every grade in between occurs: one that is mistyped would make many classes."""
    known = sorted(set(grades))
    for low, high in itertools.pairwise(known):
        if high - low > 1:
            near, far = (rows[grades.index(grade)] for grade in (low, high))
            raise ValueError(
                f"{far.origin}: grade {high}, and {low} in {near.origin}; expected "
                f"every grade from {known[0]} to {known[-1]}, found none of {low + 1}. "
                "Correct the one that is mistyped; if grades have no pictures, name "
                "all from 0 in a JSON file, data.classes"
            )


def _pictures(
    rows: Sequence[LabelRow],
    labels: Int[np.ndarray, "n Q"],
    groups: Sequence[str],
    kept: Sequence[int],
) -> Pictures:
    called: dict[str, str] = {}  # each group by its first patient, or its first line
    for row, group in zip(rows, groups, strict=True):
        called.setdefault(group, row.groups.get("patient", row.origin))

    def picture(index: int, rng: np.random.Generator) -> Picture:
        del rng  # nothing is drawn
        row = rows[kept[index]]
        return Picture(
            image=read_image(row.image, row.origin),
            origin=row.origin,
            group=called[groups[kept[index]]],
            columns=row.columns,
        )

    return Pictures(
        count=len(kept),
        picture=picture,
        labels=labels[list(kept)],
        sizes=tuple(sorted({rows[n].size for n in kept})),
    )
