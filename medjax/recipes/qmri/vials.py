"""Regions of a phantom held against their reference values: a table and a figure."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medjax.data.scans.references import Reference
from medjax.evals.agreement import Agreement, Limit, bland_altman
from medjax.evals.regions import Region
from medjax.report.page import Table
from medjax.runtime.writer import write_atomic

FILE = "vials.csv"
FIGURE = "figures/agreement.png"
ENOUGH = 3  # vials for limits of agreement with an interval that says something


class Vial(NamedTuple):
    """One vial: what is known of it, and what the map has there; times in s."""

    region: Region
    reference: Reference

    @property
    def difference(self) -> float:
        """Median of the map minus the reference, s."""
        return self.region.median - self.reference.value

    @property
    def percent(self) -> float:
        """The difference in per cent of the reference."""
        return 100 * self.difference / self.reference.value


class Compared(NamedTuple):
    """All vials of a scan that have a value, in the order of their labels."""

    vials: tuple[Vial, ...]
    absolute: Agreement  # of the differences in ms
    relative: Agreement  # in per cent of the references
    notes: tuple[str, ...]  # what is not compared, a line each


def comparable(table: Sequence[Region], references: Mapping[str, Reference]) -> bool:
    """Whether any region has both a value and a reference.

    Args:
        table: Of `compare_vials`.
        references: Likewise.
    """
    return any(row.voxels and row.name in references for row in table)


def compare_vials(
    table: Sequence[Region], references: Mapping[str, Reference]
) -> Compared:
    """Medians of regions against references of the same names.

    The median, and not the mean: voxels at a vial's wall hold two liquids. Vials count
    alike, whatever their number of voxels and the references' standard deviations.

    Args:
        table: The regions of a map of times.
        references: By the name of a region, at least one of those in the table.

    Raises:
        ValueError: No vial has both a reference and a value, see `comparable`.
    """
    known = [row for row in table if row.name in references]
    vials = tuple(Vial(row, references[row.name]) for row in known if row.voxels)
    parts = {
        "vials of the references without a value in the map": sorted(
            references.keys() - {vial.region.name for vial in vials}
        ),
        "regions without a reference, not compared": [
            row.name or str(row.label) for row in table if row.name not in references
        ],
    }
    notes = [f"{what}: {', '.join(some)}" for what, some in parts.items() if some]
    if not vials:
        raise ValueError(f"no vial to compare: {'; '.join(notes) or 'no regions'}")
    if len(vials) < ENOUGH:
        notes.append(
            f"limits of agreement of {len(vials)} vials say little: expected at least "
            f"{ENOUGH}"
        )
    return Compared(
        vials,
        bland_altman(np.array([1e3 * vial.difference for vial in vials])),
        bland_altman(np.array([vial.percent for vial in vials])),
        tuple(notes),
    )


def write_vials(compared: Compared, folder: Path) -> list[str]:
    """Write the table of vials, and return what it says as lines for a person.

    Args:
        compared: Of `compare_vials`.
        folder: That of the maps.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ("index", "name", "voxels", "reference_ms", "reference_sd_ms", "median_ms",
         "q25_ms", "q75_ms", "difference_ms", "difference_percent")
    )  # fmt: skip
    rows.writerows(
        (vial.region.label, *cells) for vial, cells in _cells(compared.vials)
    )
    write_atomic(folder / FILE, text.getvalue())
    return [*agreement_lines(compared), *compared.notes]


def agreement_lines(compared: Compared) -> list[str]:
    """Bias and limits of agreement in ms and in per cent, in words.

    Args:
        compared: Of `compare_vials`.
    """
    count = compared.absolute.count
    return [
        f"{count} vials against their references: bias {_limit(one.bias, unit)}, "
        f"limits of agreement {_limit(one.lower, unit)} to {_limit(one.upper, unit)} "
        "(95 % intervals in brackets)"
        for one, unit in ((compared.absolute, "ms"), (compared.relative, "%"))
    ]


def vial_page(compared: Compared) -> Table:
    """The table of vials for a page.

    Args:
        compared: Of `compare_vials`.
    """
    header = ("vial", "voxels", "reference, ms", "its sd, ms", "median, ms", "25 %, ms",
              "75 %, ms", "difference, ms", "difference, %")  # fmt: skip
    rows = [cells for _, cells in _cells(compared.vials)]
    return "Vials against their references", header, rows


def agreement_facts(compared: Compared) -> dict[str, dict[str, float | None]]:
    """Both agreements as JSON has them; null for what is not known.

    Args:
        compared: Of `compare_vials`.
    """

    def facts(one: Agreement) -> dict[str, float | None]:
        found: dict[str, float | None] = {"vials": one.count, "sd": _known(one.sd)}
        for name in ("bias", "lower", "upper"):
            limit: Limit = getattr(one, name)
            found[name] = _known(limit.value)
            found[f"{name}_low_95"] = _known(limit.low)
            found[f"{name}_high_95"] = _known(limit.high)
        return found

    return {"ms": facts(compared.absolute), "percent": facts(compared.relative)}


def draw_agreement(compared: Compared, *, kind: str, title: str) -> bytes:
    """The figure of both agreements as a PNG file.

    Args:
        compared: Of `compare_vials`.
        kind: What the map is of, such as "T2".
        title: Stands over the figure.
    """
    from medjax.report.agreement import Points, agreement_figure
    from medjax.report.page import png_bytes

    vials = compared.vials
    references = np.array([v.reference.value for v in vials])
    ends = np.array([(v.region.q25, v.region.median, v.region.q75) for v in vials])
    apart = ends - references[:, None]
    panels = {}
    for unit, factor, one in (
        ("ms", np.full_like(references, 1e3), compared.absolute),
        ("%", 100 / references, compared.relative),
    ):
        q25, median, q75 = factor * apart.T
        limits = tuple(tuple(limit) for limit in (one.lower, one.bias, one.upper))
        panels[unit] = (Points(median, np.stack([q25, q75], axis=1)), limits)
    figure = agreement_figure(
        1e3 * references,
        np.array([1e3 * (v.reference.sd or 0.0) for v in vials]),
        panels,
        names=[v.region.name for v in vials],
        kind=kind,
        title=title,
    )
    return png_bytes(figure)


def _cells(vials: Sequence[Vial]) -> list[tuple[Vial, tuple[str, ...]]]:
    """Each vial, and its row but for the label."""
    return [
        (
            vial,
            (
                " ".join(vial.region.name.split()),
                str(vial.region.voxels),
                f"{1e3 * vial.reference.value:.3f}",
                "n/a"
                if vial.reference.sd is None
                else f"{1e3 * vial.reference.sd:.3f}",
                *(
                    f"{1e3 * x:.3f}"
                    for x in (
                        vial.region.median,
                        vial.region.q25,
                        vial.region.q75,
                        vial.difference,
                    )
                ),
                f"{vial.percent:.2f}",
            ),
        )
        for vial in vials
    ]


def _limit(one: Limit, unit: str) -> str:
    if one.value != one.value:
        return "unknown"
    text = f"{one.value:+.2f} {unit}"
    return text if one.low != one.low else f"{text} [{one.low:+.2f}, {one.high:+.2f}]"


def _known(number: float) -> float | None:
    return number if number == number else None
