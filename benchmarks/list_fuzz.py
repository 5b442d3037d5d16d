"""Mutated lists of pictures: is anything wrong ever trained on in silence?

    python benchmarks/list_fuzz.py                     10,000 lists, about ten minutes
    python benchmarks/list_fuzz.py --count=300 --seed=1 --show=other

Lists of eight pictures in four formats (JSONL and CSV of boxes, CSV of labels, COCO)
are changed in one thing and labelled before the library sees them (`fuzz/lists.py`):

============  =========================================================================
refused       a cell, a line or two lines cannot be used, and the line that says so is
              known
harmless      the same list, written in another way
open          bytes were lost, doubled, flipped: anything may be left of it
============  =========================================================================

Outcomes: refused (the file is named, and the line where it is known), right (what the
sound list says), other (something else, whose parts share no picture and no patient),
bare (an error that names no file, or a traceback), leak (parts that share one). Each
list is read twice, with `data.on_bad=stop` and `drop`; with `drop` a line that cannot
be used is counted or the list refused. Exit code 1 where a list ends bare or as a leak,
one to be refused is used, or a harmless one is not right.
"""

import argparse
import collections
import itertools
import json
import os
import pathlib
import sys
import tempfile
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from fuzz.lists import NAMES, draw_case, save_pictures, sound_rows, written

from medjax.data.audit.facts import read_pictures
from medjax.data.audit.records import Pictures
from medjax.data.boxes.slices import Look
from medjax.data.boxes.sources import load_parts
from medjax.data.classes.formats.table import read_labels
from medjax.data.classes.labelled_images import load_labelled_images
from medjax.data.lists.parts import HeldOut
from medjax.data.lists.reading import PLAIN
from medjax.data.lists.spellings import spelling_key
from medjax.data.prompting.layout import Geometry

GEOMETRY = Geometry(7, 2, 2, 28, 28 * 28, 56 * 56)
OUTCOMES = ("refused", "right", "other", "bare", "leak")
HELD = HeldOut(0.4, seed=0)


class Row(NamedTuple):
    """A mutated list and what became of it."""

    seed: int
    format: str
    change: str
    label: str
    outcome: str  # with on_bad=stop
    dropped: str  # with on_bad=drop
    said: str


class Place(NamedTuple):
    """A folder with the pictures, and what is known of them."""

    folder: pathlib.Path
    facts: dict
    sound: dict  # what the sound list of each format says


def make_place(folder):
    """The pictures, decoded once, and the sound lists, read once."""
    save_pictures(folder)
    place = Place(folder, {}, {})
    for format in NAMES:
        path = folder / NAMES[format]
        path.write_bytes(written(format, sound_rows()))
        place.sound[format] = _said(_load(format, path, place, PLAIN))
        path.unlink()
    return place


def fuzz(seed, place):
    """The list of a seed, changed, labelled and read."""
    case = draw_case(np.random.default_rng([2027, seed]))
    path = place.folder / NAMES[case.format]
    path.write_bytes(case.content)
    stop, said = _outcome(case, path, place, PLAIN)
    drop, _ = _outcome(case, path, place, PLAIN._replace(on_bad="drop"))
    path.unlink()
    return Row(seed, case.format, case.change, case.label, stop, drop, said)


def failed(row):
    """Whether something wrong is used, or sound refused, or an error names nothing."""
    outcomes = {row.outcome, row.dropped}
    if row.label == "refused" and row.outcome != "refused":
        return True
    if row.label == "refused" and row.dropped == "right":
        return True
    if row.label == "harmless" and outcomes != {"right"}:
        return True
    return bool(outcomes & {"bare", "leak"})


def table(rows):
    """Counts by label and outcome."""
    counts = collections.Counter((r.label, r.outcome) for r in rows)
    lines = ["| label | lists | " + " | ".join(OUTCOMES) + " |", "|---" * 7 + "|"]
    for name in ("refused", "harmless", "open"):
        found = [counts[name, o] for o in OUTCOMES]
        cells = " | ".join(map(str, [sum(found), *found]))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _outcome(case, path, place, reading):
    try:
        parts = _load(case.format, path, place, reading)
    except (ValueError, OSError) as error:
        said, line = str(error), f"{path.name}, line {(case.line or 0) + 1}"
        if case.format in ("csv", "labels"):
            line = f"{path.name}, line {(case.line or 0) + 2}"
        named = path.name in said and (
            case.line is None or case.format == "coco" or line in said
        )
        return ("refused" if named else "bare"), said
    except Exception as error:  # noqa: BLE001  what this program looks for
        return "bare", f"{type(error).__name__}: {error}"
    if _leaks(parts.samples, place):
        return "leak", ""
    if case.label == "refused" and reading.on_bad == "drop" and not parts.dropped:
        return "right", "nothing was dropped"
    return ("right" if _said(parts) == place.sound[case.format] else "other"), ""


def _load(format, path, place, reading):
    def decode(files):
        new = {
            file: origin for file, origin in files.items() if file not in place.facts
        }
        if not new:
            return Pictures({file: place.facts[file] for file in files}, {}, 0)
        found = read_pictures(new, cache=None, threads=1)
        place.facts.update(found.facts)
        known = {file: place.facts[file] for file in files if file in place.facts}
        return Pictures(known, found.problems, found.decoded)

    if format == "labels":
        return load_labelled_images(
            read_labels(path, reading),
            path.parent,
            reading,
            decode,
            classes=None,
            ordinal=False,
            question=None,
            held=HELD,
        )
    coords = {"csv": "xyxy"}.get(format, "")
    return load_parts(
        str(path),
        look=Look((56, 56), 84.0, 4, phrasings=1),
        split="moved",
        held=HELD,
        geometry=GEOMETRY,
        reading=reading._replace(coords=coords),
        decode=decode,
    )


def _said(parts):
    """What a list says, without its lines' order and names; parts only where stated."""
    return {
        (
            s.images[-1].path.resolve().name,
            s.labels,
            s.boxes,
            s.groups.get("patient"),
            s.part if s.groups else "",
        )
        for s in parts.samples
    }


def _leaks(samples, place):
    """Whether a patient, or a picture's pixels, lie in two parts."""
    seen = {}
    for sample in samples:
        if not sample.part:
            continue
        keys = [("pixels", place.facts[image].digest) for image in sample.images]
        keys += [(name, spelling_key(x)) for name, x in sample.groups.items()]
        if any(seen.setdefault(key, sample.part) != sample.part for key in keys):
            return True
    return False


def main(argv):
    """The table, and what failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first list")
    parser.add_argument("--show", default="", help="also rows of this outcome")
    parser.add_argument("--json", default=os.devnull, help="a row a line")
    options = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as folder, open(options.json, "w") as file:
        place = make_place(pathlib.Path(folder).resolve())
        for n in range(options.seed, options.seed + options.count):
            rows.append(fuzz(n, place))
            print(json.dumps(rows[-1]._asdict()), file=file, flush=True)
            if len(rows) % 500 == 0:
                print(f"{len(rows)} of {options.count}", file=sys.stderr)
    print(table(rows))
    wrong = [row for row in rows if failed(row)]
    print(f"\nfailed: {len(wrong)}")
    shown = (row for row in rows if row.outcome == options.show or failed(row))
    for row in itertools.islice(shown, 200):
        print(json.dumps(row._asdict()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
