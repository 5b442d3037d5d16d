"""What a prediction tells: a summary for a person, summary.json and figures."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from medjax.data.scans.formats import Scan
from medjax.recipes.qmri.findings import (
    LEVELS,
    Known,
    SliceMaps,
    Summary,
    empty_slices,
    summarise,
)
from medjax.recipes.qmri.maps_page import PAGE, Told, maps_page
from medjax.recipes.qmri.outputs import SUMMARY, clear_stale, digests, earlier_files
from medjax.recipes.qmri.trusted import REASONS
from medjax.recipes.qmri.verdict import doubts
from medjax.report.page import NOTE, png_bytes, write_file
from medjax.runtime.writer import write_atomic

FIGURES = 6  # slices shown


def write_summary(
    slices: Sequence[SliceMaps],
    scan: Scan,
    known: Known,
    method: str,
    folder: Path,
    *,
    maps: Sequence[str],
    reason: str = "",
    noted: Sequence[str] = (),
    drawn: Mapping[int, Future[bytes]] | None = None,
    posterior: Mapping[str, Any] | None = None,
    compared: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    figures: Mapping[str, bytes] | None = None,
    told: Told | None = None,
) -> list[str]:
    """Write figures and summary.json, and tell a person what was found.

    Files of an earlier prediction that this one did not write go, see `clear_stale`.
    Until they are gone summary.json lists them, and each new file as soon as it is
    there: a later prediction knows what one that ended halfway has left.

    Args:
        slices: Every slice of the scan, in order.
        scan: Its name and its contrast stand on the figures.
        known: The signal model that was fitted, and what the maps are held against.
        method: The reconstruction and the fit, in words.
        folder: The folder that holds the maps already.
        maps: Names of the files that hold the maps, in `folder`.
        reason: Why the model is that one, in words.
        noted: What else makes the maps doubtful, a line each.
        drawn: Figures by `draw_slice` of slices that may be shown; the others are drawn
            here.
        posterior: What the summary says of it, see `posterior_summary`; None: none.
        compared: What held-out lines say of a network and joint TV; None where they
            were not asked.
        facts: What else stands in the summary, as JSON; None: nothing.
        figures: Further PNG files by their names in `folder`; None: none.
        told: What else stands on the page of the maps; None: nothing.

    Returns:
        What makes the maps doubtful, a line each; see `doubts`.
    """
    found = summarise(slices, known)
    warnings = [f"{scan.path}: {line}" for line in (*doubts(found, known), *noted)]
    left = found.residual and found.residual._asdict()
    summary = found._asdict() | {"residual": left, "warnings": warnings}
    summary |= {"model": known.model.name, "model_reason": reason}
    if known.model.train:
        summary |= {"assumed_t1_s": known.model.constants[0]}
    if posterior is not None:
        summary["posterior"] = dict(posterior)
    if compared is not None:
        summary["held_out_lines"] = dict(compared)
    summary |= {"method": method, **(facts or {})}
    files = earlier_files(folder) | digests(folder, maps)
    _write(folder, summary, files)
    empty = empty_slices(slices)
    filled = [z for z in range(len(slices)) if z not in empty] or [0]
    slices_shown = {f"figures/slice_{z:03d}.png": z for z in shown_slices(filled)}
    pictures, shown = dict(figures or {}), {}
    for name in (*slices_shown, *pictures):
        if name in slices_shown:
            z = slices_shown[name]
            early = (drawn or {}).get(z)
            picture = (
                early.result() if early else draw_slice(slices[z], z, scan, method)
            )
        else:
            picture = pictures[name]
        write_file(folder / name, picture)
        files |= digests(folder, [name])
        _write(folder, summary, files)
        shown[name] = picture
    numbers = summary_lines(found)
    intervals = posterior_lines(posterior) if posterior else []
    doubtful = [line.removeprefix(f"{scan.path}: ") for line in warnings]
    reasons = posterior["distrust"] if posterior else None
    page = maps_page(
        told or Told(scan.path.name),
        doubtful,
        [*numbers[:1], *intervals],
        numbers[1:],
        found,
        reasons,
        {name: shown[name] for name in (*pictures, *slices_shown)},
    )
    write_file(folder / PAGE, page.encode())
    files |= digests(folder, [PAGE])
    ours = [*maps, *slices_shown, *pictures, PAGE]
    changed = clear_stale(folder, files, ours)
    _write(folder, summary, {name: files[name] for name in ours})
    if changed:
        say(
            "of an earlier prediction, but changed since, so not removed: "
            + ", ".join(changed)
        )
    for line in (*intervals, *numbers):
        say(line)
    what = "maps, figures" if found.median_ms is not None else "maps without a value"
    say(f"{what}, {PAGE} and {SUMMARY}: {folder}\n{NOTE}")
    return warnings


def shown_slices(filled: Sequence[int]) -> list[int]:
    """Up to six slices, evenly spread, of those that have a signal."""
    chosen = np.linspace(0, len(filled) - 1, FIGURES).round().astype(int)
    return [filled[n] for n in dict.fromkeys(chosen.tolist())]


def draw_slice(one: SliceMaps, index: int, scan: Scan, method: str) -> bytes:
    """A slice's figure as a PNG file.

    Args:
        one: Its maps.
        index: Its place in the scan, for the title.
        scan: As `write_summary` takes it.
        method: Likewise.
    """
    from medjax.report.qmri import map_figure

    trusted = one.half_width is not None
    figure = map_figure(
        one.value,
        one.half_width if trusted else one.sigma,
        one.distrust if trusted else one.status,
        contrast=scan.contrast,
        levels=REASONS if trusted else LEVELS,
        roi=one.bright,
        posterior=trusted,
        title=f"{scan.path.name}, slice {index}: {method}",
        affine=scan.affine if scan.placed else None,
    )
    return png_bytes(figure)


def posterior_summary(
    slices: Sequence[SliceMaps], quantiles: tuple[float, float]
) -> dict[str, Any]:
    """What is told of a posterior, over the voxels with signal, as JSON has it.

    Args:
        slices: Every slice, with half-widths and reasons of distrust.
        quantiles: Of the interval.
    """
    widths, codes = [], []
    for one in slices:
        if one.half_width is not None and one.distrust is not None:
            widths.append(one.half_width[one.bright])
            codes.append(one.distrust[one.bright])
    width, code = np.concatenate(widths), np.concatenate(codes)
    width = width[np.isfinite(width)]
    count = max(len(code), 1)
    return {
        "quantiles": list(quantiles),
        "median_half_width_ms": 1e3 * float(np.median(width)) if len(width) else None,
        "distrusted": float(np.mean(code != 0)) if len(code) else 0.0,
        "distrust": {text: int((code == c).sum()) for c, text in REASONS.items()},
        "voxels": count if len(code) else 0,
    }


def posterior_lines(posterior: Mapping[str, Any]) -> list[str]:
    """What is said of a posterior, in words.

    Args:
        posterior: Of `posterior_summary`, and what the sidecars say of its weights.
    """
    low, high = posterior["quantiles"]
    width = posterior["median_half_width_ms"]
    shown = "unknown" if width is None else f"{width:.1f} ms"
    lines = [
        f"{100 * (high - low):g} % intervals: median half-width {shown}; not to be "
        f"trusted: {100 * posterior['distrusted']:.1f} % of the voxels with signal "
        "(distrust.nii.gz says why)"
    ]
    chosen = posterior.get("Regularisation")
    if chosen is not None:
        weights = [w for w in chosen["Weights"] if w is not None]
        shown = f"{min(weights):.2g} to {max(weights):.2g}" if weights else "none"
        lines.append(
            f"weight of {chosen['Method']}: {shown}, chosen by {chosen['ChosenBy']}"
        )
    return lines


def summary_lines(summary: Summary) -> list[str]:
    """What was found in the voxels with signal, in words; [] where none has a value.

    Args:
        summary: Of `summarise`.
    """
    if summary.median_ms is None:
        return []
    sigma, r_squared = summary.median_sigma_ms, summary.median_r_squared
    low, high = summary.quartiles_ms
    lines = [
        f"{summary.parameter} in {summary.voxels} voxels with signal: median "
        f"{summary.median_ms:.1f} ms, quartiles {low:.1f} to {high:.1f} ms, median "
        "sigma " + ("unknown" if sigma is None else f"{sigma:.2f} ms"),
        f"at a bound: {100 * summary.share_at_bounds:.2f} %, failed: {summary.failed} "
        "voxels, median R^2: "
        + ("unknown" if r_squared is None else f"{r_squared:.3f}"),
    ]
    if summary.residual is not None:
        shares = ", ".join(f"{100 * share:+.1f}" for share in summary.residual.share)
        lines.append(f"mean residual by contrast, in per cent of the signal: {shares}")
    if max(summary.motion) > 0:
        shown = ", ".join(f"{far:.1f}" for far in summary.motion)
        lines.append(
            f"motion by contrast, pixels off the strongest one at most: {shown}"
        )
    if summary.saturated or summary.clipped:
        lines.append(
            f"samples left out: saturated in {summary.saturated} voxels, clipped in "
            f"{summary.clipped}"
        )
    return lines


def _write(folder: Path, summary: Mapping[str, Any], files: Mapping[str, str]) -> None:
    text = json.dumps({**summary, "files": files}, indent=2)
    write_atomic(folder / SUMMARY, text + "\n")


def counted(warnings: Sequence[str], *, strict: bool) -> list[str]:
    """The warnings that decide the exit code; where it is not strict, they are printed.

    Args:
        warnings: What makes maps doubtful, a line each.
        strict: Of the section `predict`.
    """
    if strict:
        return list(warnings)
    for line in warnings:
        say(f"warning: {line}")
    return []


def say(text: str) -> None:
    """Print a text for the person at the terminal."""
    print(text, flush=True)  # noqa: T201
