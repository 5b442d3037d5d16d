"""What stands between a user's data and training: pictures read, copies, leaks."""

import contextlib
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax

from medjax.data.audit.duplicates import (
    equal_pictures,
    faint_pictures,
    flat_pictures,
    near_pictures,
)
from medjax.data.audit.facts import read_pictures
from medjax.data.audit.records import Facts, LookFn, Pictures, Sample
from medjax.data.batches import Parts
from medjax.data.images import ImageFile
from medjax.data.volumes.packs import cache_dir
from medjax.recipes.policy.scoring import tell
from medjax.runtime.processes import gather_texts
from medjax.runtime.progress import Progress, progress

CHECKS = ("on", "off")
STOP, DOUBT, NOTE = "stop", "doubt", "note"
_NAMED = 5  # pairs that a line of the terminal names


class Finding(NamedTuple):
    """What was found in a data set, of one kind."""

    what: str  # "equal pictures in two parts", "pictures without contrast", ...
    weight: str  # STOP: nothing is trained before it is mended; DOUBT; NOTE
    lines: tuple[str, ...]  # each with the origins of the rows


def make_decode(source: str, check: str) -> LookFn | None:
    """A function that decodes pictures once for all runs, see `read_pictures`.

    On several processes the first one reads and tells the others. It says how far it is
    where something has to be read.

    Args:
        source: The data's path, by which its facts are remembered.
        check: "on", or "off" for no function.

    Raises:
        ValueError: `check` is another word.
    """
    if check not in CHECKS:
        raise ValueError(f"data.check={check!r}: expected one of {', '.join(CHECKS)}")
    name = hashlib.sha256(os.path.abspath(source).encode()).hexdigest()[:24]
    cache = cache_dir() / "pictures" / f"{name}.npz"
    return partial(decode_once, cache) if check == "on" else None


def decode_once(cache: Path, files: Mapping[ImageFile, str]) -> Pictures:
    """Facts of pictures as process 0 finds them, the same on all processes.

    Args:
        cache: The file that remembers them, read and written by process 0 alone.
        files: The pictures, each with what an error calls the line that names it.

    Raises:
        OSError: What process 0 met.
    """
    found, text = None, ""
    if jax.process_index() == 0:
        found = _decode(cache, files)
    if jax.process_count() == 1 and found is not None:
        return found
    if found is not None:
        text = _told(found, files)
    return _heard(next(filter(None, gather_texts(text))), files)


def _decode(cache: Path, files: Mapping[ImageFile, str]) -> Pictures:
    with contextlib.ExitStack() as stack:
        lines: list[Progress] = []

        def tick(number: int, total: int) -> None:
            if not lines:
                bar = progress("reading pictures", first=0, total=total, show=())
                lines.append(stack.enter_context(bar))
            lines[0].step(number, {})

        return read_pictures(files, cache=cache, tick=tick)


def _told(found: Pictures, files: Mapping[ImageFile, str]) -> str:
    """What process 0 found, as text, by the place of each file; no small pictures."""
    rows = [
        found.facts[file]._replace(thumb=b"")[:-1] if file in found.facts else None
        for file in files
    ]
    problems = [found.problems.get(file, "") for file in files]
    return json.dumps([rows, problems, found.decoded])


def _heard(text: str, files: Mapping[ImageFile, str]) -> Pictures:
    rows, problems, decoded = json.loads(text)
    facts = {
        file: Facts(row[0], (row[1][0], row[1][1]), *row[2:], thumb=b"")
        for file, row in zip(files, rows, strict=True)
        if row
    }
    wrong = {f: told for f, told in zip(files, problems, strict=True) if told}
    return Pictures(facts, wrong, decoded)


def gate(parts: Parts) -> list[str]:
    """Stop before training where the parts leak; what is doubtful is returned.

    Args:
        parts: Built-in data, and a user's with the check off, is not looked at.

    Returns:
        A line for each kind of finding that does not stop a run.

    Raises:
        ValueError: A picture cannot be read, or a picture or a group is in two parts.
    """
    if parts.pictures is None:
        return []
    findings = find_faults(parts.samples, parts.pictures)
    stops = [finding for finding in findings if finding.weight == STOP]
    if stops:
        raise ValueError(
            "the data did not pass the check before training:\n"
            + "\n".join(map(say, stops))
            + "\n--mode=check lists everything; data.check=off trains all the same, "
            "and the manifest says so"
        )
    return [say(finding) for finding in findings if finding.weight == DOUBT]


def tell_and_gate(parts: Parts) -> None:
    """Tell the person who watches of the data, on process 0, and pass it or stop.

    Args:
        parts: Of a run that is about to begin.

    Raises:
        ValueError: See `gate`.
    """
    tell(parts.notes)
    if parts.dropped:
        tell([f"{len(parts.dropped)} lines left out (data.on_bad=drop):"])
        tell([f"  {bad.message}" for bad in parts.dropped])
    doubts = gate(parts)
    if jax.process_index() == 0:
        sys.stderr.writelines(f"warning: {line}\n" for line in doubts)


def say(finding: Finding, *, every: bool = False) -> str:
    """A finding as a line, or a few: how many there are, and the first of them.

    Args:
        finding: At least one line of it.
        every: Whether all lines are told, not five alone.
    """
    told = finding.lines if every else finding.lines[:_NAMED]
    more = len(finding.lines) - len(told)
    return f"{finding.what}: {len(finding.lines)}" + "".join(
        f"\n    {line}" for line in (*told, *((f"and {more} more",) if more else ()))
    )


def find_faults(samples: Sequence[Sample], pictures: Pictures) -> list[Finding]:
    """All that pictures and groups tell against a data set, what stops a run first.

    Args:
        samples: Every row.
        pictures: The facts of their pictures.
    """
    of_file: dict[ImageFile, list[Sample]] = {}
    for sample in samples:
        for file in sample.images:
            of_file.setdefault(file, []).append(sample)
    files = [file for file in of_file if file in pictures.facts]
    facts = [pictures.facts[file] for file in files]
    equal = equal_pictures(facts)
    near = near_pictures(facts) if facts and facts[0].thumb else []
    flat = list(itertools.compress(files, flat_pictures(facts).tolist()))
    faint = list(itertools.compress(files, faint_pictures(facts).tolist()))

    def call(file: ImageFile) -> str:
        """The line, and the part it is in."""
        first = of_file[file][0]
        parts = sorted({sample.part or "unused" for sample in of_file[file]})
        return f"{first.origin} ({file.path.name}, {'/'.join(parts)})"

    def parts_of(places: Sequence[int]) -> set[str]:
        return {s.part for n in places for s in of_file[files[n]] if s.part}

    crossing = [pair for pair in near if len(parts_of(pair[:2])) > 1]
    within = [pair for pair in near if len(parts_of(pair[:2])) <= 1]
    found = [
        Finding(
            "unreadable pictures",
            STOP,
            tuple(pictures.problems[f] for f in of_file if f in pictures.problems),
        ),
        Finding("groups in two parts", STOP, tuple(_leaking_groups(samples))),
        Finding(
            "equal pictures in two parts",
            STOP,
            tuple(
                " = ".join(call(files[n]) for n in places)
                for places in equal
                if len(parts_of(places)) > 1
            ),
        ),
        Finding(
            "near copies in two parts",
            DOUBT,
            tuple(
                f"{call(files[p.first])} ~ {call(files[p.second])}: {p.bits} of 64 "
                f"bits differ, correlation {p.correlation:.3f}"
                for p in crossing
            ),
        ),
        Finding(
            "pictures without contrast",
            DOUBT,
            tuple(
                f"{call(file)}: one grey level in 99 % of its pixels" for file in flat
            ),
        ),
        Finding(
            "pictures with hardly any contrast",
            DOUBT,
            tuple(
                f"{call(file)}: {pictures.facts[file].contrast + 1} of 256 grey levels "
                "in 99 % of its pixels; is it a mask, or was it not scaled?"
                for file in faint
            ),
        ),
        Finding(
            "equal pictures with other labels",
            DOUBT,
            tuple(_other_labels([[of_file[files[n]] for n in p] for p in equal])),
        ),
        Finding(
            "near copies in one part",
            NOTE,
            tuple(f"{call(files[p.first])} ~ {call(files[p.second])}" for p in within),
        ),
    ]
    return [finding for finding in found if finding.lines]


def _leaking_groups(samples: Sequence[Sample]) -> list[str]:
    """Groups, and single columns that say whose a row is, that two parts share."""
    first: dict[tuple[str, str], Sample] = {}
    lines = []
    for sample in samples:
        if not sample.part:
            continue
        for key in (("group", sample.group), *sample.groups.items()):
            other = first.setdefault(key, sample)
            if other.part != sample.part:
                lines.append(
                    f"{sample.origin} ({sample.part}) and {other.origin} "
                    f"({other.part}) have one {key[0]}"
                )
    return list(dict.fromkeys(lines))


def _other_labels(copies: Sequence[Sequence[Sequence[Sample]]]) -> list[str]:
    """Rows of equal pictures whose labels differ, where pictures have one row each."""
    lines = []
    for group in copies:
        rows = list(itertools.chain(*group))
        if len(rows) == len(group) and len({row.labels for row in rows}) > 1:
            told = (f"{row.origin} ({', '.join(row.labels) or 'none'})" for row in rows)
            lines.append(" = ".join(told))
    return lines
