"""Mutated headers and sidecars: is a wrong map ever made in silence?

    python benchmarks/scan_fuzz.py                     5,000 scans, about ten minutes
    python benchmarks/scan_fuzz.py --count=200 --seed=1 --show=silent

Scans of one material and known truth (NIfTI series of spin echoes, inversion recovery
and flip angles, files of our own layout as npz and HDF5, ISMRMRD files) are changed in
one thing: a key, a value, an image or a type is dropped, swapped, scaled, reordered,
repeated or converted. Before the library sees it, each is labelled by an oracle in
NumPy (`fuzz/oracle.py`):

============  =========================================================================
harmless      what it says leads to the truth within 5 %
contradicted  by another field, by a missing one, by its own range, or by the pixels: no
              curve of the model comes within 3 % of the brightest image
consistent    it is the sound scan of another material: nobody can tell
============  =========================================================================

Outcomes of `--mode=predict`: refused with the file's name; warned (exit code 3); right
(within 5 %); silent (a wrong map and exit code 0); bare (an error that names no file).
Exit code 1 where a contradicted or harmless scan ends silent or bare.
"""

import argparse
import collections
import json
import os
import pathlib
import sys
import tempfile
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from fuzz import arrays, headers, nifti
from fuzz.oracle import WRONG, label
from fuzz.outcome import outcome

KINDS = {"nifti": nifti, "arrays": arrays, "ismrmrd": headers}
SHARES = (0.6, 0.25, 0.15)
OUTCOMES = ("refused", "warned", "right", "silent", "bare")


class Row(NamedTuple):
    """A mutated scan and what became of it."""

    seed: int
    kind: str
    change: str
    label: str
    by: str  # what contradicts it
    outcome: str
    value: float | None  # s
    truth: float  # s
    said: str


def fuzz(seed: int) -> Row:
    """The scan of a seed, changed, labelled and predicted from."""
    rng = np.random.default_rng([2026, seed])
    kind = str(rng.choice(list(KINDS), p=SHARES))
    module = KINDS[kind]
    scan = module.start(rng)
    change = f"{getattr(scan, 'name', kind)}: {module.mutate(rng, scan)}"
    seen, clash = module.seen(scan)
    named, by = label(seen, scan.truth, clash)
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "scan"
        source.mkdir()
        path = module.write(scan, source, rng)
        made = outcome(path, scan.truth, pathlib.Path(folder) / "out", scan.options)
    found = (made.kind, made.value, scan.truth, made.said)
    return Row(seed, kind, change, named, by, *found)


def failed(row: Row) -> bool:
    """A wrong map in silence that could have been known, or an error without a name."""
    if row.label == "harmless" and row.outcome == "silent":  # noise beside the oracle
        return row.value is None or abs(row.value / row.truth - 1) > 2 * WRONG
    silent = row.outcome == "silent" and row.label == "contradicted"
    return silent or row.outcome == "bare"


def table(rows: list[Row]) -> str:
    """Counts by label and outcome."""
    counts = collections.Counter((r.label, r.outcome) for r in rows)
    lines = ["| label | scans | " + " | ".join(OUTCOMES) + " |", "|---" * 7 + "|"]
    for name in ("harmless", "contradicted", "consistent"):
        found = [counts[name, o] for o in OUTCOMES]
        cells = " | ".join(map(str, [sum(found), *found]))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """The table, what is consistent and silent, and what failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0, help="of the first scan")
    parser.add_argument("--show", default="", help="also rows of this outcome")
    parser.add_argument("--json", default=os.devnull, help="a row a line")
    options = parser.parse_args(argv)
    rows = []
    with open(options.json, "w") as file:
        for n in range(options.seed, options.seed + options.count):
            rows.append(fuzz(n))
            print(json.dumps(rows[-1]._asdict()), file=file, flush=True)
            if len(rows) % 100 == 0:
                print(f"{len(rows)} of {options.count}", file=sys.stderr)
    print(table(rows))
    silent = collections.Counter(
        r.change for r in rows if r.label == "consistent" and r.outcome == "silent"
    )
    print("\nconsistent, so not to be known:")
    for change, count in silent.most_common():
        print(f"{count:5}  {change}")
    wrong = [r for r in rows if failed(r)]
    print(f"\nfailed: {len(wrong)}")
    for row in [r for r in rows if r.outcome == options.show or failed(r)]:
        print(json.dumps(row._asdict()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
