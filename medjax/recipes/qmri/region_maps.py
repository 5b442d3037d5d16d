"""Tables of every map by region and slice: a CSV file beside each NIfTI file.

Maps are read back one at a time: those of a large scan need not fit into memory
together.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from medjax.data.scans.grid import one_volume
from medjax.data.scans.writer import CODES, MAPS
from medjax.evals.regions import Region, RegionSums, region_sums, region_table
from medjax.runtime.writer import write_atomic

FOLDER = "regions"
# Unit of a map -> (unit of its table, factor, decimals or significant digits).
UNITS = {
    "s": ("ms", 1e3, ".3f"),
    "1": ("ratio", 1.0, ".6g"),
    "arbitrary": ("arbitrary", 1.0, ".6g"),
}


def write_region_maps(
    folder: Path,
    maps: Sequence[str],
    labels: Int[np.ndarray, "Z H W"],
    *,
    names: Mapping[int, str],
    level: float,
    shown: str,
    sums: Sequence[dict[int, RegionSums]],
    intervals: bool,
    alone: bool,
) -> list[str]:
    """Write regions/MAP.csv for each map; return their names relative to the folder.

    A row for each region and slice, and before them one of all slices, called "all".
    The header has the unit: times in ms, ratios as they are, amplitudes in the
    arbitrary unit of the images; n/a stands for what is not known. Slices count from 0,
    as the figures' do.

    Args:
        folder: Holds the maps as NIfTI files.
        maps: Names of the maps, see `data.scans.writer`; codes have no table.
        labels: Which region each voxel belongs to, 0 for none.
        names: Of regions; one without a name gets n/a.
        level: Of the interval of a mean, above 0 and below 1.
        shown: The map whose sums are there.
        sums: What each of its slices adds to the regions.
        intervals: Whether it is known how its voxels err.
        alone: Whether those of the other maps err independently, each by its sigma.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    against = _read(folder, "distrust") != 0 if "distrust" in maps else None
    written = []
    for name in (name for name in maps if name not in CODES):
        found, known = sums, intervals
        if name != shown:
            sigma = f"{name.removesuffix('map')}sigma"
            known = alone and name.endswith("map") and sigma in maps
            value = _read(folder, name)
            # without a sigma no interval is made, and each finite voxel counts
            error = _read(folder, sigma) if known else np.zeros_like(value)
            found = [
                region_sums(
                    labels[z],
                    value[z],
                    error[z],
                    None,
                    None if against is None else against[z],
                )
                for z in range(len(labels))
            ]
        file = f"{FOLDER}/{name}.csv"
        text = _text(name, found, names=names, level=level, intervals=known)
        write_atomic(folder / file, text)
        written.append(file)
    return written


def _read(folder: Path, name: str) -> Float[np.ndarray, "Z H W"]:
    values, _ = one_volume(folder / f"{name}.nii.gz", option=name)
    return values.astype(np.float64)


def _text(
    name: str,
    sums: Sequence[dict[int, RegionSums]],
    *,
    names: Mapping[int, str],
    level: float,
    intervals: bool,
) -> str:
    unit, factor, digits = UNITS[MAPS[name][0]]
    percent = f"{100 * level:g}"
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    measures = ("median", "q25", "q75", "mean", f"mean_low_{percent}",
                f"mean_high_{percent}")  # fmt: skip
    rows.writerow(
        ("index", "name", "slice", "voxels", "without_value", "distrusted",
         *(f"{measure}_{unit}" for measure in measures))
    )  # fmt: skip
    how = {"names": names, "level": level, "intervals": intervals}
    slices = [{row.label: row for row in region_table([x], **how)} for x in sums]
    for whole in region_table(list(sums), **how):
        rows.writerow(_row(whole, "all", factor, digits))
        for z, table in enumerate(slices):
            if whole.label in table:
                rows.writerow(_row(table[whole.label], str(z), factor, digits))
    return text.getvalue()


def _row(row: Region, where: str, factor: float, digits: str) -> tuple[str | int, ...]:
    name = " ".join(row.name.split()) or "n/a"
    numbers = (row.median, row.q25, row.q75, row.mean, row.low, row.high)
    cells = [format(factor * x, digits) if math.isfinite(x) else "n/a" for x in numbers]
    counts = (row.voxels, row.missing, row.distrusted)
    return (row.label, name, where, *counts, *cells)
