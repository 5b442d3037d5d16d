"""What a prediction tells: a summary for a person, summary.json and figures.

Of an earlier prediction that is replaced, the files go that nobody has changed since.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.data.scans.formats import Scan
from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.signals import SignalModel
from medjax.recipes.qmri.choice import shown_parameter
from medjax.report.page import NOTE
from medjax.runtime.writer import write_atomic

SUMMARY = "summary.json"  # holds the digests of the other files, under "files"
FAINT = 0.1  # of a slice's bright voxels: fainter ones are not in the summary
FIGURES = 6  # slices shown
MANY = 0.1  # of the voxels with signal: more without a fit make the maps doubtful
LEVELS = {int(s): s.name.lower().replace("_", " ") for s in FitStatus}
FAILED = int(FitStatus.NOT_CONVERGED)  # and all codes above


class SliceMaps(NamedTuple):
    """What the summary and the figures need of one slice."""

    value: Float[np.ndarray, "H W"]  # s
    sigma: Float[np.ndarray, "H W"]  # s
    status: Int[np.ndarray, "H W"]
    bright: Bool[np.ndarray, "H W"]


def bright_voxels(maps: FitResult) -> Bool[np.ndarray, "H W"]:
    """Where there is an object: s0 above a tenth of the bright voxels'."""
    s0 = np.abs(maps.params["s0"])
    known = s0[np.isfinite(s0)]
    if not known.size:
        return np.zeros(s0.shape, bool)
    # what could not be fitted is counted wherever it lies among signal
    return ~np.isfinite(s0) & (maps.status != FitStatus.NO_SIGNAL) | (
        s0 > FAINT * np.quantile(known, 0.99)
    )


def slice_maps(maps: FitResult, model: SignalModel) -> SliceMaps:
    """What the summary needs of a slice: its map, sigma and status."""
    name = shown_parameter(model)
    value, sigma = np.asarray(maps.params[name]), np.asarray(maps.sigma[name])
    return SliceMaps(value, sigma, np.asarray(maps.status), bright_voxels(maps))


def write_summary(
    slices: Sequence[SliceMaps],
    scan: Scan,
    model: SignalModel,
    method: str,
    folder: Path,
    *,
    maps: Sequence[str],
    reason: str = "",
) -> list[str]:
    """Write figures and summary.json, and tell a person what was found.

    Files of an earlier prediction that this one did not write go, see `clear_stale`.
    Until they are gone summary.json lists them, and each new file as soon as it is
    there: a later prediction knows what one that ended halfway has left.

    Args:
        slices: Every slice of the scan, in order.
        scan: Its name and its contrast stand on the figures.
        model: The signal model that was fitted.
        method: The reconstruction and the fit, in words.
        folder: The folder that holds the maps already.
        maps: Names of the files that hold the maps, in `folder`.
        reason: Why the model is that one, in words.

    Returns:
        What makes the maps doubtful, a line each; see `doubts`.
    """
    from medjax.report.qmri import map_figure, write_png

    summary = summarise(slices, model)
    summary |= {"model": model.name, "model_reason": reason}
    files = earlier_files(folder) | digests(folder, maps)
    _write(folder, summary, files)
    empty = empty_slices(slices)
    filled = [z for z in range(len(slices)) if z not in empty] or [0]
    chosen = np.linspace(0, len(filled) - 1, FIGURES).round().astype(int)
    figures = {f"figures/slice_{filled[n]:03d}.png": filled[n] for n in chosen.tolist()}
    for name, z in figures.items():
        figure = map_figure(
            slices[z].value,
            slices[z].sigma,
            slices[z].status,
            contrast=scan.contrast,
            levels=LEVELS,
            roi=slices[z].bright,
            title=f"{scan.path.name}, slice {z}: {method}",
        )
        write_png(folder / name, figure)
        files |= digests(folder, [name])
        _write(folder, summary, files)
    ours = [*maps, *figures]
    changed = clear_stale(folder, files, ours)
    _write(folder, summary, {name: files[name] for name in ours})
    if changed:
        say(
            "of an earlier prediction, but changed since, so not removed: "
            + ", ".join(changed)
        )
    sigma = summary["median_sigma_ms"]
    warnings = [f"{scan.path}: {doubt}" for doubt in doubts(summary)]
    if summary["median_ms"] is None:
        say(f"maps without a value, and summary.json: {folder}\n{NOTE}")
        return warnings
    say(
        f"{summary['parameter']} in {summary['voxels']} voxels with signal: median "
        f"{summary['median_ms']:.1f} ms, quartiles {summary['quartiles_ms'][0]:.1f} to "
        f"{summary['quartiles_ms'][1]:.1f} ms, median sigma "
        + ("unknown" if sigma is None else f"{sigma:.2f} ms")
    )
    say(
        f"at a bound: {100 * summary['share_at_bounds']:.2f} %, failed: "
        f"{summary['failed']} voxels"
    )
    say(f"maps, figures and summary.json: {folder}\n{NOTE}")
    return warnings


def _write(folder: Path, summary: Mapping[str, Any], files: Mapping[str, str]) -> None:
    text = json.dumps({**summary, "files": files}, indent=2)
    write_atomic(folder / SUMMARY, text + "\n")


def summarise(slices: Sequence[SliceMaps], model: SignalModel) -> dict[str, Any]:
    """Numbers over the voxels with signal; None where there is none.

    Args:
        slices: Every slice of the scan, in order, at least one.
        model: The signal model that was fitted; its time constant is judged.

    Returns:
        Median, quartiles and median sigma in milliseconds, shares from 0 to 1, counts
        of voxels, and the indices of slices without signal.
    """
    value, sigma, status = (
        np.concatenate([getattr(one, name)[one.bright] for one in slices])
        for name in ("value", "sigma", "status")
    )
    times = 1e3 * value[np.isfinite(value)]
    errors = 1e3 * sigma[np.isfinite(sigma)]

    def quantile(x: np.ndarray, q: float) -> float | None:
        return float(np.quantile(x, q)) if x.size else None

    count = int(status.size)
    return {
        "parameter": shown_parameter(model),
        "voxels": count,
        "median_ms": quantile(times, 0.5),
        "quartiles_ms": [quantile(times, 0.25), quantile(times, 0.75)],
        "median_sigma_ms": quantile(errors, 0.5),
        "share_at_bounds": float(np.mean(status == FitStatus.AT_BOUND)) if count else 0,
        "failed": int((status >= FAILED).sum()),
        "status": {LEVELS[c]: int((status == c).sum()) for c in LEVELS},
        "slices_without_signal": empty_slices(slices),
    }


def doubts(summary: Mapping[str, Any]) -> list[str]:
    """What makes the maps of a summary doubtful, a line each; [] for none."""
    lines = []
    if summary["slices_without_signal"]:
        lines.append(
            f"slices without signal: {ranges(summary['slices_without_signal'])}; "
            "k-space, images or sensitivities are 0 there, maps are NaN"
        )
    if summary["median_ms"] is None:
        return [*lines, "no voxel could be fitted"]
    shares = {
        "could not be fitted": summary["failed"] / summary["voxels"],
        "lie at a bound": summary["share_at_bounds"],
    }
    for what, share in shares.items():
        if share > MANY:
            lines.append(
                f"{100 * share:.0f} % of the voxels with signal {what}: see "
                "status.nii.gz; are times, contrast and model those of the scan?"
            )
    if summary["median_sigma_ms"] is None:
        lines.append("no voxel has a sigma: the maps are without error bars")
    return lines


def empty_slices(slices: Sequence[SliceMaps]) -> list[int]:
    """Indices of slices where no voxel has a signal."""
    nothing = FitStatus.NO_SIGNAL
    return [z for z, one in enumerate(slices) if (one.status == nothing).all()]


def ranges(indices: Sequence[int]) -> str:
    """Rising indices in words: `[0, 1, 2, 7]` becomes `0 to 2, 7`."""
    parts: list[list[int]] = []
    for n in indices:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


def say(text: str) -> None:
    """Print a text for the person at the terminal."""
    print(text, flush=True)  # noqa: T201


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of a folder's files, which must exist, by their names relative to it."""
    hashes = {}
    for name in names:
        with (folder / name).open("rb") as stream:
            hashes[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def earlier_files(folder: Path) -> dict[str, str]:
    """Digests of what the last prediction into a folder wrote, by name.

    It is empty where no summary.json says so.
    """
    path, summary = folder / SUMMARY, None
    if path.is_file():
        with contextlib.suppress(ValueError):  # a person's own file: nothing is ours
            summary = json.loads(path.read_text("utf-8"))
    files = summary.get("files") if isinstance(summary, Mapping) else None
    return dict(files) if isinstance(files, Mapping) else {}


def clear_stale(
    folder: Path, earlier: Mapping[str, str], kept: Iterable[str]
) -> list[str]:
    """Remove files of an earlier prediction, but none that was changed since.

    Args:
        folder: Nothing outside it is touched, nor what a link in it points to.
        earlier: Digests by name, as `earlier_files` gives them.
        kept: Names that stay in any case: they have been written anew.

    Returns:
        Names of earlier files that stay because they are not what was written.
    """
    changed = []
    for name in sorted(earlier.keys() - set(kept)):
        path = folder / name
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside or not path.is_file() or path.is_symlink():
            continue
        if digests(folder, [name])[name] == earlier[name]:
            path.unlink()
        else:
            changed.append(name)
    return changed
