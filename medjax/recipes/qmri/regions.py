"""The table of a scan's regions: read before maps are made, written beside them."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from medjax.data.scans.formats import Scan
from medjax.data.scans.labels import compare_names, read_label_names, read_labels
from medjax.data.scans.references import Reference, read_references
from medjax.evals.regions import Region, RegionSums, region_sums, region_table
from medjax.mri.model import SignalModel
from medjax.recipes.qmri.choice import shown_parameter
from medjax.recipes.qmri.evidence import Fitted
from medjax.recipes.qmri.options import Predict
from medjax.report.page import Table
from medjax.runtime.writer import write_atomic

FILE = "regions.tsv"
NAMED = 12  # of labels or names in a line


class Regions(NamedTuple):
    """The regions of a scan."""

    labels: Int[np.ndarray, "Z H W"]
    names: dict[int, str]
    level: float  # of the interval of a mean
    unnamed: tuple[int, ...] = ()  # labels that the table of names lacks
    unfilled: tuple[str, ...] = ()  # names whose label no voxel has
    references: Mapping[str, Reference] | None = None  # by name, of a phantom's vials


def read_regions(scan: Scan, options: Predict, kind: str) -> Regions | None:
    """The regions that options name, on the scan's grid; None where they name none.

    Args:
        scan: Its grid is that of the labels.
        options: `labels`, `label_names`, `reference`, and `quantiles`, between which
            the interval lies.
        kind: What the map is of, see `read_references`.

    Raises:
        ValueError: What `read_labels`, `read_label_names`, `compare_names` and
            `read_references` refuse; references without names, or of names that the
            table lacks or has twice.
        FileNotFoundError: Likewise.
    """
    named = options.reference
    if named and not (options.labels and options.label_names):
        raise ValueError(
            f"predict.reference {named}: of which voxels? Expected the vials as "
            "predict.labels, and their names as predict.label_names"
        )
    if not options.labels:
        return None
    labels = read_labels(Path(options.labels), scan)
    low, high = options.quantiles
    if not options.label_names:
        return Regions(labels, {}, high - low)
    path = Path(options.label_names)
    names = read_label_names(path)
    unnamed, unfilled = compare_names(labels, names, path)
    known = read_references(Path(named), kind) if named else None
    if known is not None:
        _check_references(named, list(known), list(names.values()), path)
        if known.keys() <= set(unfilled):
            raise ValueError(
                f"predict.reference: {named}: no vial of it has a voxel in "
                f"{options.labels}; expected the labels of these vials"
            )
    filled = tuple(unnamed), tuple(unfilled)
    return Regions(labels, names, high - low, *filled, known)


def _check_references(
    named: str, known: Sequence[str], names: Sequence[str], path: Path
) -> None:
    """Refuse references whose region is not one of the table's."""
    absent = [name for name in known if name not in names]
    if absent:
        raise ValueError(
            f"predict.reference: {named}: {', '.join(absent)} stand for no region; "
            f"expected names of {path}: {', '.join(names)}"
        )
    twice = sorted({name for name in known if list(names).count(name) > 1})
    if twice:
        raise ValueError(
            f"predict.reference: {named}: {', '.join(twice)} are names of several "
            f"regions in {path}; expected one region each"
        )


def region_notes(regions: Regions | None) -> list[str]:
    """What labels and their table of names do not share, a line each; [] for nothing.

    Args:
        regions: Of the scan; None for none.
    """
    if regions is None:
        return []
    parts = {
        "labels without a name": [str(label) for label in regions.unnamed],
        "names without a voxel": list(regions.unfilled),
    }
    return [
        f"{what}: {', '.join(some[:NAMED])}"
        + (f" and {len(some) - NAMED} more" if len(some) > NAMED else "")
        for what, some in parts.items()
        if some
    ]


def slice_sums(
    regions: Regions, z: int, fitted: Fitted, model: SignalModel
) -> dict[int, RegionSums]:
    """What slice z adds to each region.

    Args:
        regions: Of the scan.
        z: Of the slice.
        fitted: Its maps; times in s.
        model: Its shown parameter is the map.
    """
    name, trusted = shown_parameter(model), fitted.trusted
    replicas = None if trusted is None else trusted.replicas
    return region_sums(
        regions.labels[z],
        np.asarray(fitted.maps.params[name], np.float64),
        np.asarray(fitted.maps.sigma[name], np.float64),
        None if replicas is None else np.asarray(replicas, np.float64),
        None if trusted is None else np.asarray(trusted.distrust) != 0,
    )


def tabulate(
    regions: Regions, slices: Sequence[dict[int, RegionSums]], *, intervals: bool
) -> list[Region]:
    """The regions of the shown map in all slices together.

    Args:
        regions: Of the scan.
        slices: Of `slice_sums`, in order.
        intervals: Whether it is known how voxels err: by replicas, or each for itself.
    """
    return region_table(
        list(slices),
        names=regions.names,
        level=regions.level,
        intervals=intervals,
    )


def write_regions(table: Sequence[Region], folder: Path, *, level: float) -> list[str]:
    """Write the table, and return it as lines for a person.

    Times are in ms; n/a stands for what is not known, as in BIDS.

    Args:
        table: Of `tabulate`.
        folder: That of the maps.
        level: Of the interval of a mean.
    """
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    percent = f"{100 * level:g}"
    rows.writerow(
        ("index", "name", "voxels", "without_value", "distrusted", "mean_ms",
         "median_ms", f"mean_low_{percent}_ms", f"mean_high_{percent}_ms",
         "independent_voxels")
    )  # fmt: skip
    for row in table:
        name = " ".join(row.name.split())
        rows.writerow(
            (
                row.label,
                name or "n/a",
                row.voxels,
                row.missing,
                row.distrusted,
                *_cells(row),
            )
        )
    write_atomic(folder / FILE, text.getvalue())
    return [_line(row, percent) for row in table]


def region_page(table: Sequence[Region], *, level: float) -> Table:
    """The table of regions for a page.

    Args:
        table: Of `tabulate`.
        level: Of the interval of a mean.
    """
    header = ("region", "voxels", "distrusted", "mean, ms",
              f"its {100 * level:g} % interval, ms", "median, ms",
              "quartiles, ms")  # fmt: skip
    rows = []
    for row in table:
        times = (row.mean, row.low, row.high, row.median, row.q25, row.q75)
        mean, low, high, median, q25, q75 = (
            f"{1e3 * x:.1f}" if math.isfinite(x) else "n/a" for x in times
        )
        interval = "n/a" if low == "n/a" else f"{low} to {high}"
        quartiles = "n/a" if q25 == "n/a" else f"{q25} to {q75}"
        name = row.name or f"region {row.label}"
        counts = (str(row.voxels), str(row.distrusted))
        rows.append((name, *counts, mean, interval, median, quartiles))
    return "Regions", header, rows


def _cells(row: Region) -> list[str]:
    times = [1e3 * x for x in (row.mean, row.median, row.low, row.high)]
    cells = [f"{x:.3f}" if math.isfinite(x) else "n/a" for x in times]
    known = math.isfinite(row.independent) and row.voxels > 0
    return [*cells, f"{row.independent:.1f}" if known else "n/a"]


def _line(row: Region, percent: str) -> str:
    name = row.name or f"region {row.label}"
    if not row.voxels:
        return f"{name}: no voxel has a value"
    text = f"{name}: mean {1e3 * row.mean:.1f} ms"
    if math.isfinite(row.low):
        text += (
            f" ({percent} % interval {1e3 * row.low:.1f} to {1e3 * row.high:.1f}, as "
            f"of {row.independent:.0f} independent voxels)"
        )
    text += f", median {1e3 * row.median:.1f} ms, voxels {row.voxels}"
    text += f", {row.missing} without a value" if row.missing else ""
    return text + (f", {row.distrusted} distrusted" if row.distrusted else "")
