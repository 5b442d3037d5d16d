"""Whose pictures they are: group columns, and groups joined over them.

Pictures that share a patient, a study, a lesion or a column that is named are one
group. Groups that overlap are joined: where a study is listed under two patients, both
are one group.
"""

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medjax.data.images import ImageFile
from medjax.data.lists.cells import group_name
from medjax.data.lists.reading import Bad, Reading
from medjax.data.lists.spellings import spelling_key

# Columns that always group, by their names in lower case without "_", "-" and blanks.
GROUPING = (
    *("patient", "patientid", "subject", "subjectid", "study", "studyid"),
    *("studyinstanceuid", "studyuid", "accession", "accessionnumber"),
    *("participant", "participantid", "personid", "pid", "mrn"),
    *("examid", "lesion", "lesionid"),
)
# What columns are called that name the patient: one of these, alone or with an end.
_WHOSE = ("patient", "subject", "participant", "person")
_ENDS = ("id", "uid", "name", "code", "key", "number", "no", "nr", "hash", "identifier")
_ALSO = ("pid", "mrn")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
SPLITS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class Grouped(NamedTuple):
    """What the parting of a line depends on."""

    origin: str  # "records.jsonl, line 3"
    name: str  # of its own, where it has no groups: its picture's path in the folder
    groups: Mapping[str, str]  # values by column: {"patient": "p017", "lesion": ...}
    contents: tuple[Hashable, ...]  # pictures, by path or by pixels; equal ones join
    split: str | None  # "train", "val" or "test" where the file says so


def picture_key(file: ImageFile) -> str:
    """One spelling of a picture's place: two ways to the same file are one.

    Args:
        file: It need not exist.
    """
    return "|".join((os.path.abspath(file.path), str(file.frame), file.plane))


def question_key(files: Sequence[ImageFile], query: str) -> tuple[str, ...]:
    """What lines that ask the same of the same pictures have in common.

    Args:
        files: Shown together, in their order.
        query: The question; another case or other blanks ask the same.
    """
    return (*map(picture_key, files), spelling_key(query))


def picture_name(file: ImageFile, root: str | os.PathLike[str]) -> str:
    """A picture's path from a folder, the same wherever that folder lies.

    Args:
        file: It need not exist.
        root: The folder of the list that names it.
    """
    path = Path(os.path.relpath(file.path, root)).as_posix()
    return path if file.frame is None else f"{path}#{file.plane}{file.frame}"


def group_columns(columns: Sequence[str], reading: Reading, file: str) -> list[str]:
    """Which columns of a file say whose picture a line is, in the file's order.

    Args:
        columns: All that the file has. Those of a patient, subject, study or lesion
            group by their names (`GROUPING`), in any case, with or without "_id".
        reading: Its `group` names others.
        file: What an error calls the file.

    Raises:
        ValueError: The file has no column that `data.group` names.
    """
    gone = [column for column in reading.group if column not in columns]
    if gone:
        raise ValueError(
            f"{file}: no column {gone[0]!r}, which data.group names; the file has "
            f"{', '.join(columns)}"
        )

    return [c for c in columns if c in reading.group or _bare(c) in GROUPING]


def names_patient(column: str) -> bool:
    """Whether a column says by its name which patient, not something about them.

    Args:
        column: In any case, such as "patient", "PatientID" or "subject_code_hashed";
            "patient_sex" is none.
    """
    words = [word.casefold() for word in _WORD.findall(column)]
    whose = any(word in _WHOSE for word in words)
    return (
        any(word in _ALSO for word in words)
        or any(word == one + end for word in words for one in _WHOSE for end in _ENDS)
        or (whose and (len(words) == 1 or any(word in _ENDS for word in words)))
    )


def groups_by_name(column: str) -> bool:
    """Whether a column groups by what it is called, see `GROUPING`.

    Args:
        column: In any case, with or without "_", "-" and blanks.
    """
    return _bare(column) in GROUPING


def _bare(column: str) -> str:
    return "".join(c for c in column.casefold() if c.isalnum())


def read_groups(
    cells: Mapping[str, Any], columns: Sequence[str], origin: str
) -> dict[str, str]:
    """The values of the group columns of a line, each of them a name.

    Args:
        cells: The line, by column.
        columns: From `group_columns`; those that the line does not have are left out.
        origin: What an error calls the line.

    Raises:
        ValueError: A value is missing, or nobody's name.
    """
    return {
        column: group_name(cells[column], origin, column)
        for column in columns
        if column in cells
    }


def read_split(value: Any, origin: str) -> str:  # noqa: ANN401
    """The part that a line is officially in: "train", "val" or "test".

    Args:
        value: One of these words in any case; "valid" and "validation" are "val".
        origin: What an error calls the line.

    Raises:
        ValueError: It is another word, or none.
    """
    word = value.strip().casefold() if isinstance(value, str) else value
    if not isinstance(word, str) or word not in SPLITS:
        raise ValueError(
            f"{origin}: split {value!r}; expected train, val (or valid) or test"
        )
    return SPLITS[word]


def join_groups(lines: Sequence[Grouped]) -> list[int]:
    """The number of each line's group, from 0 by first occurrence.

    Lines are one group that share a value of one column, or a picture; groups that
    overlap are joined. It takes linear time and memory.

    Args:
        lines: Any number. "7" as a patient and "7" as a lesion are not the same.
    """
    nodes: dict[Hashable, int] = {}
    rows, columns = [], []
    for row, line in enumerate(lines):
        keys = [("group", *item) for item in line.groups.items()]
        for key in (*keys, *(("picture", content) for content in line.contents)):
            rows.append(row)
            columns.append(nodes.setdefault(key, len(nodes)) + len(lines))
    size = len(lines) + len(nodes)
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns)), (size, size))
    _, found = connected_components(links, directed=False)
    first: dict[int, int] = {}
    return [first.setdefault(int(n), len(first)) for n in found[: len(lines)]]


def split_faults(lines: Sequence[Grouped], groups: Sequence[int]) -> list[Bad]:
    """Lines whose official part contradicts another line of their group.

    Args:
        lines: All of a file.
        groups: The number of each line's group, from `join_groups`.

    Returns:
        One fault a line, which names what both lines share; none where all is well.
    """
    faults = []
    first: dict[int, Grouped] = {}
    seen: dict[Hashable, Grouped] = {}
    for line, group in zip(lines, groups, strict=True):
        other = first.setdefault(group, line)
        shared = "a group over other lines"
        for column, value in line.groups.items():
            near = seen.setdefault((column, value), line)
            if near.split != line.split:
                other, shared = near, f"the same {column}"
        for content in line.contents:
            near = seen.setdefault(content, line)
            if near.split != line.split:
                other, shared = near, _shared(content)
        if other.split != line.split:
            faults.append(_split_fault(line, other, shared))
    return faults


def group_names(lines: Sequence[Grouped], groups: Sequence[int]) -> dict[int, str]:
    """What each group is called: by its first patient, or another column, or picture.

    Args:
        lines: All of a file.
        groups: The number of each line's group, from `join_groups`.
    """
    names: dict[int, str] = {}
    for line, group in zip(lines, groups, strict=True):
        mine = line.groups.get("patient", next(iter(line.groups.values()), line.name))
        names[group] = min(names.get(group, mine), mine)
    return names


def _shared(content: Hashable) -> str:
    """What two lines have in common, in words."""
    if not isinstance(content, tuple):
        return "the same picture"
    return "a near-duplicate" if content[0] == "near" else f"the same {content[0]}"


def _split_fault(line: Grouped, other: Grouped, shared: str) -> Bad:
    return Bad(
        line.origin,
        f"{line.origin}: split {line.split}, but {other.origin}, of {shared}, is in "
        f"{other.split}; expected one part a group. Correct one of the lines, or take "
        "the split column out to have the parts made",
    )
