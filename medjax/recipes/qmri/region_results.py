"""What regions add to a prediction: files, lines, facts, tables and a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medjax.evals.regions import RegionSums
from medjax.mri.model import SignalModel
from medjax.recipes.qmri.choice import shown_kind
from medjax.recipes.qmri.region_maps import write_region_maps
from medjax.recipes.qmri.regions import (
    FILE,
    Regions,
    region_page,
    tabulate,
    write_regions,
)
from medjax.recipes.qmri.vials import (
    FIGURE,
    agreement_facts,
    comparable,
    compare_vials,
    draw_agreement,
    vial_page,
    write_vials,
)
from medjax.recipes.qmri.vials import FILE as VIALS
from medjax.report.page import Table


class RegionResults(NamedTuple):
    """Of the regions of a scan; all empty where there are none."""

    files: tuple[str, ...] = ()  # that are written, relative to the folder of the maps
    lines: tuple[str, ...] = ()  # for a person
    story: tuple[str, ...] = ()  # those of them that the page's tables do not hold
    facts: tuple[tuple[str, Any], ...] = ()  # for summary.json, by name
    tables: tuple[Table, ...] = ()  # for the page
    figures: tuple[tuple[str, bytes], ...] = ()  # PNG files to be written, by name


def region_results(
    regions: Regions | None,
    sums: Sequence[dict[int, RegionSums]],
    folder: Path,
    *,
    maps: Sequence[str],
    model: SignalModel,
    known: bool,
    alone: bool,
    title: str,
) -> RegionResults:
    """Write the tables of a scan's regions, and gather what is told of them.

    Args:
        regions: Of the scan; None where it has none.
        sums: Of each slice, for the shown map.
        folder: Holds the maps.
        maps: Their names.
        model: Its shown parameter is what vials are compared by.
        known: Whether it is known how voxels of the shown map err.
        alone: Whether they err independently, as those of the other maps do then.
        title: Of the figure.
    """
    if regions is None:
        return RegionResults()
    table = tabulate(regions, sums, intervals=known)
    lines = write_regions(table, folder, level=regions.level)
    kind = shown_kind(model)
    files = [FILE, *write_region_maps(
        folder,
        maps,
        regions.labels,
        names=regions.names,
        level=regions.level,
        shown=f"{kind}map",
        sums=sums,
        intervals=known,
        alone=alone,
    )]  # fmt: skip
    page = region_page(table, level=regions.level)
    facts: list[tuple[str, Any]] = []
    if regions.names:
        left = {"unnamed_labels": regions.unnamed, "unfilled_names": regions.unfilled}
        facts.append(("regions", {name: list(some) for name, some in left.items()}))
    references = regions.references
    if references is not None and not comparable(table, references):
        lines.append("no vial has a value that its reference could be compared with")
        references = None
    if references is None:
        more = tuple(lines[len(table) :])
        return RegionResults(tuple(files), tuple(lines), more, tuple(facts), (page,))
    compared = compare_vials(table, references)
    lines += write_vials(compared, folder)
    facts.append(("agreement", agreement_facts(compared)))
    figure = draw_agreement(compared, kind=kind, title=title)
    return RegionResults(
        (*files, VIALS),
        tuple(lines),
        tuple(lines[len(table) :]),  # behind a line a region
        tuple(facts),
        (page, vial_page(compared)),
        ((FIGURE, figure),),
    )
