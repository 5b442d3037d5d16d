"""Reference values of a phantom's vials, from a table with their units."""

import csv
import math
from pathlib import Path
from typing import NamedTuple

UNITS = {"s": 1.0, "ms": 1e-3}  # that a table may have -> s
LONGEST = 20.0  # s; no fluid relaxes as slowly, so what is longer has another unit
KINDS = ("T1", "T2", "T2star")
NEEDED = ("name", "reference", "unit")
UNKNOWN = ("", "n/a")  # of a standard deviation


class Reference(NamedTuple):
    """What one vial's time is known to be."""

    value: float  # s
    sd: float | None  # of what is known, s; None where the table says none


def read_references(path: Path, kind: str) -> dict[str, Reference]:
    """Reference values by the name of their region.

    Args:
        path: A .tsv file whose first line has the columns `name`, `reference` and
            `unit` (ms or s, in every line), in any place. A column `sd`, in the line's
            unit, may have standard deviations of the references, empty or n/a where
            there is none. Where a column `map` says T1, T2 or T2star, lines of other
            maps than `kind` are left out. Further columns are not read.
        kind: What the map is of: "T1", "T2" or "T2star".

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column or a unit is missing, a value is no time above 0 s and up
            to 20 s, a name stands twice for one map, or no line is of `kind`; the
            message names line and column.
    """
    where = f"predict.reference: {path}"
    if not path.exists():
        raise FileNotFoundError(f"{where}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: expected text in UTF-8: {error}") from error
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = rows.fieldnames or []
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise ValueError(
            f"{where}: columns {', '.join(columns) or 'none'}; expected a table "
            f"parted by tabs, with {', '.join(NEEDED)}, and sd where it is known; "
            f"{', '.join(missing)} is missing"
        )
    found: dict[str, Reference] = {}
    kinds: list[str] = []
    for row in rows:
        line = f"{where}, line {rows.line_num}"
        cells = {key: (row.get(key) or "").strip() for key in (*NEEDED, "sd", "map")}
        kinds.append(cells["map"] or kind)
        if kinds[-1] not in KINDS:
            raise ValueError(
                f"{line}, column map: {cells['map']!r}; expected {', '.join(KINDS)}"
            )
        one = _reference(line, cells)
        if kinds[-1] != kind:
            continue
        if not cells["name"]:
            raise ValueError(f"{line}, column name: empty; expected that of a region")
        if cells["name"] in found:
            raise ValueError(
                f"{line}, column name: {cells['name']!r} stands there twice"
            )
        found[cells["name"]] = one
    if not found:
        others = ", ".join(sorted(set(kinds))) or "no lines"
        raise ValueError(
            f"{where}: {others}; expected at least one line of the map, {kind}"
        )
    return found


def _reference(line: str, cells: dict[str, str]) -> Reference:
    if cells["unit"] not in UNITS:
        raise ValueError(
            f"{line}, column unit: {cells['unit'] or 'empty'}; expected ms or s"
        )
    value = _number(f"{line}, column reference", cells["reference"])
    factor = UNITS[cells["unit"]]
    if not 0 < value * factor <= LONGEST:
        raise ValueError(
            f"{line}, column reference: {value:g} {cells['unit']}; expected a time "
            f"above 0 and up to {LONGEST:g} s. Is the unit right?"
        )
    if cells["sd"] in UNKNOWN:
        return Reference(factor * value, None)
    sd = _number(f"{line}, column sd", cells["sd"])
    if not 0 <= sd < value:
        raise ValueError(
            f"{line}, column sd: {sd:g} {cells['unit']}; expected 0 or more, and less "
            f"than the reference of {value:g}, in its unit"
        )
    return Reference(factor * value, factor * sd)


def _number(where: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {text or 'empty'}; expected a number")
    return number
