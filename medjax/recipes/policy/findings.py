"""What was found in a data set, and how a terminal tells of it."""

import re
from typing import NamedTuple

STOP, DOUBT, NOTE = "stop", "doubt", "note"
NAMED = 5  # lines of a finding that the terminal has before training
LISTED = 20  # and after a check that would stop a run
# What differs between lines of one kind: what is quoted, names of files, numbers.
_VALUES = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|[^\s(]*\.\w{2,6}\b|[-+]?\d[\d.,e+-]*")


class Finding(NamedTuple):
    """What was found in a data set, of one kind."""

    what: str  # "equal pictures in two parts", "pictures without contrast", ...
    weight: str  # STOP: nothing is trained before it is mended; DOUBT; NOTE
    lines: tuple[str, ...]  # each with the origins of the rows
    # Of a doubt: whether what is trained on it is doubtful too. Where it may well be
    # right, such as parts by the values of a scanner, only a check ends with it.
    spoils: bool = True


def say(finding: Finding, most: int = NAMED) -> str:
    """A finding as a line, or a few: how many there are, and the first of them.

    Where there are more than are told, each kind of line is told once before any is a
    second time, with how many more there are of it: lines are of one kind that differ
    by numbers, by what stands in quotes and by names of files alone.

    Args:
        finding: At least one line of it.
        most: How many lines are told at most, 1 or more.
    """
    lines, told = finding.lines, list(finding.lines)
    if len(lines) > most:
        kinds: dict[str, list[str]] = {}
        for line in lines:
            kinds.setdefault(_VALUES.sub("0", line), []).append(line)
        if len(kinds) == 1:
            told = [*lines[:most], f"and {len(lines) - most} more"]
        else:
            told = [
                f"{mine[0]}{f' (and {len(mine) - 1} more like it)' if mine[1:] else ''}"
                for mine in list(kinds.values())[:most]
            ]
            if len(kinds) > most:
                rest = sum(map(len, list(kinds.values())[most:]))
                told.append(f"and {rest} more, of {len(kinds) - most} other kinds")
    head = f"{finding.what}: {len(lines)}"
    return "\n    ".join([head, *told])
