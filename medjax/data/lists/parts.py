"""Rows to train and to test on, no group being in both parts."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from medjax.data.lists.groups import (
    Grouped,
    group_names,
    join_groups,
    split_faults,
)
from medjax.data.lists.reading import Bad, Reading, SpoiltList, raise_first

TESTED = ("test", "val")


class HeldOut(NamedTuple):
    """What of a list is tested."""

    share: float  # of the groups where the list states no parts, 0 to 1, rounded up
    seed: int  # another one tests other groups, where they are not stated
    tested: str = "test"  # or "val", to choose settings by; see `part_lines`


class Parting(NamedTuple):
    """Indices of the lines to train and to test on; others belong to a third part."""

    train: tuple[int, ...]
    test: tuple[int, ...]


class Parted(NamedTuple):
    """What became of N rows; all indices are those of the rows as they were given."""

    parting: Parting
    parts: tuple[str, ...]  # of each row "train" or "test", "" of a third part
    groups: tuple[str, ...]  # what each row's joined group is called, N of them
    dropped: tuple[Bad, ...]  # rows whose official part contradicts another's


def honest_parts(
    lines: Sequence[Grouped],
    reading: Reading,
    held: HeldOut,
    *,
    dropped: Sequence[Bad] = (),
) -> Parted:
    """Join groups, and make or check the parts so that no group is in two.

    Args:
        lines: What the parting of each row depends on.
        reading: With `on_bad` "drop" rows whose official part contradicts that of
            another row of their group are left out; "stop" raises.
        held: Which part is tested, and who is in it where the file does not say.
        dropped: Lines that were left out before, which an error tells too.

    Raises:
        ValueError: What `part_lines` refuses, or a contradiction.
    """
    groups = join_groups(lines)
    faults = split_faults(lines, groups)
    if reading.on_bad == "stop":
        raise_first(faults)
    wrong = {fault.origin for fault in faults}
    kept = [n for n, line in enumerate(lines) if line.origin not in wrong]
    try:
        found = part_lines([lines[n] for n in kept], [groups[n] for n in kept], held)
    except ValueError as error:
        raise SpoiltList(str(error), [*dropped, *faults]) from error
    parting = Parting(*(tuple(kept[n] for n in part) for part in found))
    names = group_names(lines, groups)
    part_of = dict.fromkeys(parting.train, "train") | dict.fromkeys(
        parting.test, "test"
    )
    return Parted(
        parting=parting,
        parts=tuple(part_of.get(n, "") for n in range(len(lines))),
        groups=tuple(names[group] for group in groups),
        dropped=tuple(faults),
    )


def part_lines(
    lines: Sequence[Grouped],
    groups: Sequence[int],
    held: HeldOut,
) -> Parting:
    """The lines to train and to test on, no group being in both.

    Where the file states parts they are taken: "test" trains on train and tests on
    test, "val" trains on train and tests on val. A part that is not stated is a share
    of the groups, of train for "val"; nothing of the test is used by "val".

    Args:
        lines: All of a file; all of them state a part or none does.
        groups: The number of each line's group, from `join_groups`.
        held: Which part is tested, and who is in it where the file does not say.

    Raises:
        ValueError: `held.tested` is another word, some lines alone state a part or a
            group, or one of the two parts would be empty.
    """
    tested = held.tested
    if tested not in TESTED:
        raise ValueError(f"test={tested!r}: expected one of {TESTED}")
    _check_columns(lines)
    names = group_names(lines, groups)
    keys = [names[group] for group in groups]
    if lines and lines[0].split is not None:
        parts = [str(line.split) for line in lines]
    else:
        test = groups_to_test(keys, held)
        parts = ["test" if key in test else "train" for key in keys]
    if tested == "val" and "val" not in parts:
        left = [key for key, part in zip(keys, parts, strict=True) if part == "train"]
        val = groups_to_test(left, held)
        parts = [
            "val" if part == "train" and key in val else part
            for key, part in zip(keys, parts, strict=True)
        ]
    found = {
        part: tuple(n for n, mine in enumerate(parts) if mine == part)
        for part in ("train", tested)
    }
    for part, mine in found.items():
        if not mine:
            counts = ", ".join(f"{parts.count(p)} {p}" for p in sorted(set(parts)))
            raise ValueError(
                f"{lines[0].origin}: no line is in {part} (found {counts}); expected "
                f"some of train and some of {tested}, or no split column"
            )
    return Parting(found["train"], found[tested])


def groups_to_test(keys: Iterable[str], held: HeldOut) -> set[str]:
    """The patients (or images) to test on: the first by a hash of seed and name.

    The order of the keys and how often each occurs do not matter.

    Args:
        keys: The patient, or else the image, of each line.
        held: Its `share` is that of the different keys, and its `seed` goes into the
            hash, so that another one chooses others.

    Raises:
        ValueError: One of the two parts would be empty.
    """

    def rank(key: str) -> str:
        return hashlib.sha256(f"{held.seed}:{key}".encode()).hexdigest()

    groups = sorted(set(keys), key=rank)
    test = set(groups[: math.ceil(held.share * len(groups))])
    if not 0 < len(test) < len(groups):
        raise ValueError(
            f"{len(groups)} patients or images and test_share={held.share} leave "
            "nothing to train or to test on; expected at least one of each"
        )
    return test


def _check_columns(lines: Sequence[Grouped]) -> None:
    """A column that groups, or states parts, does so on every line."""
    columns = dict.fromkeys(itertools.chain(*(line.groups for line in lines)))
    for column in columns:
        for line in lines:
            if column not in line.groups:
                raise ValueError(
                    f"{line.origin}: no {column}, but other lines name theirs; give "
                    f"all lines a {column} or none, or one {column}'s images could be "
                    "in both parts"
                )
    stated = [line.split is not None for line in lines]
    if any(stated) and not all(stated):
        raise ValueError(
            f"{lines[stated.index(False)].origin}: no split, but other lines state "
            "theirs; give all lines a split or none"
        )
