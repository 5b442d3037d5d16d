"""The table of a scan's regions: read before maps are made, written beside them."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from medjax.data.scans.formats import Scan
from medjax.data.scans.labels import read_label_names, read_labels
from medjax.evals.regions import Region, RegionSums, region_sums, region_table
from medjax.mri.model import SignalModel
from medjax.recipes.qmri.choice import shown_parameter
from medjax.recipes.qmri.evidence import Fitted
from medjax.recipes.qmri.options import Predict
from medjax.runtime.writer import write_atomic

FILE = "regions.tsv"


class Regions(NamedTuple):
    """The regions of a scan."""

    labels: Int[np.ndarray, "Z H W"]
    names: dict[int, str]
    level: float  # of the interval of a mean


def read_regions(scan: Scan, options: Predict) -> Regions | None:
    """The regions that options name, on the scan's grid; None where they name none.

    Args:
        scan: Its grid is that of the labels.
        options: `labels`, `label_names`, and `quantiles`, between which the interval
            lies.

    Raises:
        ValueError: What `read_labels` and `read_label_names` refuse.
        FileNotFoundError: Likewise.
    """
    if not options.labels:
        return None
    labels = read_labels(Path(options.labels), scan)
    named = options.label_names
    names = read_label_names(Path(named)) if named else {}
    low, high = options.quantiles
    return Regions(labels, names, high - low)


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


def write_regions(
    regions: Regions,
    slices: Sequence[dict[int, RegionSums]],
    folder: Path,
    *,
    intervals: bool,
) -> list[str]:
    """Write the table, and return it as lines for a person.

    Times are in ms; n/a stands for what is not known, as in BIDS.

    Args:
        regions: Of the scan.
        slices: Of `slice_sums`, in order.
        folder: That of the maps.
        intervals: Whether it is known how voxels err: by replicas, or each for itself.
    """
    table = region_table(
        list(slices),
        names=regions.names,
        level=regions.level,
        intervals=intervals,
    )
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    percent = f"{100 * regions.level:g}"
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
