"""Rows to train and to test on, and every row as a check of the data sees it."""

from collections.abc import Sequence
from typing import NamedTuple

from medjax.data.lists.groups import (
    Grouped,
    Parting,
    group_names,
    join_groups,
    part_lines,
    split_faults,
)
from medjax.data.lists.reading import Bad, Reading, raise_first


class Parted(NamedTuple):
    """What became of N rows; all indices are those of the rows as they were given."""

    parting: Parting
    parts: tuple[str, ...]  # of each row "train" or "test", "" of a third part
    groups: tuple[str, ...]  # what each row's joined group is called, N of them
    dropped: tuple[Bad, ...]  # rows whose official part contradicts another's


def honest_parts(
    lines: Sequence[Grouped],
    reading: Reading,
    *,
    tested: str,
    test_share: float,
    seed: int,
) -> Parted:
    """Join groups, and make or check the parts so that no group is in two.

    Args:
        lines: What the parting of each row depends on.
        reading: With `on_bad` "drop" rows whose official part contradicts that of
            another row of their group are left out; "stop" raises.
        tested: "test", or "val" to choose settings by; see `part_lines`.
        test_share: See `part_lines`.
        seed: See `part_lines`.

    Raises:
        ValueError: What `part_lines` refuses, or a contradiction.
    """
    groups = join_groups(lines)
    faults = split_faults(lines, groups)
    if reading.on_bad == "stop":
        raise_first(faults)
    wrong = {fault.origin for fault in faults}
    kept = [n for n, line in enumerate(lines) if line.origin not in wrong]
    found = part_lines(
        [lines[n] for n in kept],
        [groups[n] for n in kept],
        tested=tested,
        test_share=test_share,
        seed=seed,
    )
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
