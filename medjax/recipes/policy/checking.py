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

import jax

from medjax.data.audit.duplicates import (
    equal_pictures,
    faint_pictures,
    flat_pictures,
    near_pairs,
)
from medjax.data.audit.facts import read_pictures
from medjax.data.audit.records import Facts, LookFn, Pair, Pictures, Sample
from medjax.data.batches import Parts
from medjax.data.images import ImageFile
from medjax.data.volumes.packs import cache_dir
from medjax.recipes.policy.findings import (
    DOUBT,
    LISTED,
    NOTE,
    STOP,
    Finding,
    say,
)
from medjax.recipes.policy.group_checks import group_findings
from medjax.recipes.policy.scoring import tell
from medjax.runtime.agreement import require_alike
from medjax.runtime.processes import gather_texts
from medjax.runtime.progress import Progress, progress

CHECKS = ("on", "off")
COMPARED, READ = 64, 2**20  # pictures that processes compare, and bytes of each


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

    What is nearly equal is found by process 0 too.

    Args:
        cache: The file that remembers them, read and written by process 0 alone.
        files: The pictures, each with what an error calls the line that names it.

    Raises:
        OSError: What process 0 met.
        ProcessError: Another process sees other pictures; they are named.
    """
    found, text = None, ""
    if jax.process_count() > 1:
        _require_same_files(files)
    if jax.process_index() == 0:
        found = _decode(cache, files)
        found = found._replace(near=tuple(near_pairs(found)))
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


def _require_same_files(files: Mapping[ImageFile, str]) -> None:
    """Raise where a process sees other pictures than the first: other sizes of files.

    Some are compared by what they begin with too. Only the first process decodes all.
    """
    places = sorted({file.path for file in files})
    sizes = {str(path): path.stat().st_size if path.is_file() else 0 for path in places}
    for path in places[:: max(1, len(places) // COMPARED)]:
        if path.is_file():
            with path.open("rb") as content:
                read = hashlib.sha256(content.read(READ)).hexdigest()[:16]
            sizes[str(path)] = f"{sizes[str(path)]} bytes, {read}"
    digest = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()
    if len(set(gather_texts(digest))) > 1:
        require_alike("the pictures that they see", sizes)


def _told(found: Pictures, files: Mapping[ImageFile, str]) -> str:
    """What process 0 found, as text, by the place of each file, but `thumb`, `levels`.

    Those are what copies are found by, which is done.
    """
    rows = [found.facts[file][:-2] if file in found.facts else None for file in files]
    problems = [found.problems.get(file, "") for file in files]
    return json.dumps([rows, problems, found.decoded, found.near])


def _heard(text: str, files: Mapping[ImageFile, str]) -> Pictures:
    rows, problems, decoded, near = json.loads(text)
    facts = {
        file: Facts(row[0], (row[1][0], row[1][1]), *row[2:], thumb=b"")
        for file, row in zip(files, rows, strict=True)
        if row
    }
    wrong = {f: told for f, told in zip(files, problems, strict=True) if told}
    return Pictures(facts, wrong, decoded, tuple(Pair(*pair) for pair in near))


def gate(parts: Parts) -> list[str]:
    """Stop before training where the parts leak; tell what is doubtful on process 0.

    Args:
        parts: Built-in data, and a user's with the check off, is not looked at.

    Returns:
        What makes a result doubtful, a line or a few for each kind of finding.

    Raises:
        ValueError: A picture cannot be read, or a picture or a group is in two parts.
    """
    if parts.pictures is None:
        return []
    findings = find_faults(parts)
    stops = [finding for finding in findings if finding.weight == STOP]
    if stops:
        raise ValueError(
            "the data did not pass the check before training:\n"
            + "\n".join(map(say, stops))
            + "\n--mode=check lists everything; data.check=off trains all the same, "
            "and the manifest says so"
        )
    doubts = [finding for finding in findings if finding.weight == DOUBT]
    if jax.process_index() == 0:
        sys.stderr.writelines(f"warning: {say(finding)}\n" for finding in doubts)
    return [say(finding) for finding in doubts if finding.spoils]


def tell_and_gate(parts: Parts) -> list[str]:
    """Tell the person who watches of the data, on process 0, and pass it or stop.

    Args:
        parts: Of a run that is about to begin.

    Returns:
        What makes a result of the run doubtful, see `gate`.

    Raises:
        ValueError: See `gate`.
    """
    tell((*parts.notes, *parts.copies))
    if parts.dropped:
        lines = tuple(bad.message for bad in parts.dropped)
        tell([say(Finding("lines left out (data.on_bad=drop)", NOTE, lines), LISTED)])
        if len(lines) > LISTED:
            tell(["--mode=check lists them all"])
    return gate(parts)


def find_faults(parts: Parts) -> list[Finding]:
    """All that pictures and groups tell against a data set, what stops a run first.

    Args:
        parts: Of pictures that were decoded; otherwise there is nothing to find.
    """
    samples, pictures = parts.samples, parts.pictures
    if pictures is None:
        return []
    of_file: dict[ImageFile, list[Sample]] = {}
    for sample in samples:
        for file in sample.images:
            of_file.setdefault(file, []).append(sample)
    files = [file for file in of_file if file in pictures.facts]
    facts = [pictures.facts[file] for file in files]
    equal = equal_pictures(facts)
    # of equal pictures the first stands for all, which this data may not use
    known = {
        pictures.facts[file].digest: n for n, file in reversed([*enumerate(files)])
    }
    digests = [one.digest for one in pictures.facts.values()]
    near = sorted(
        pair._replace(first=min(places), second=max(places))
        for pair in near_pairs(pictures)
        if len(places := {known.get(digests[n], -1) for n in pair[:2]} - {-1}) == 2
    )
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
                f"{call(files[p.first])} ~ {call(files[p.second])}"
                f"{p.turn and f', {p.turn}'}: {p.bits} of 64 bits differ, correlation "
                f"{p.correlation:.3f}"
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
        *group_findings(parts),
        Finding(
            "near copies in one part",
            NOTE,
            tuple(
                f"{call(files[p.first])} ~ {call(files[p.second])}"
                f"{p.turn and f', {p.turn}'}"
                for p in within
            ),
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
