"""What a prediction tells: a summary for a person, summary.json and figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.data.scans.formats import Scan
from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.signals import SignalModel
from medjax.recipes.policy.scoring import NOTE
from medjax.recipes.qmri.files import SUMMARY, clear_stale, digests, earlier_files
from medjax.runtime.writer import write_atomic

FAINT = 0.1  # of a slice's bright voxels: fainter ones are not in the summary
FIGURES = 6  # slices shown
MANY = 0.1  # of the voxels with signal: more without a fit make the maps doubtful
LEVELS = {int(s): s.name.lower().replace("_", " ") for s in FitStatus}
FAILED = int(FitStatus.NOT_CONVERGED)  # and all codes above


class Seen(NamedTuple):
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


def see(maps: FitResult, model: SignalModel) -> Seen:
    """What is kept of a slice."""
    name = model.time_constant
    value, sigma = np.asarray(maps.params[name]), np.asarray(maps.sigma[name])
    return Seen(value, sigma, np.asarray(maps.status), bright_voxels(maps))


def write_summary(
    seen: Sequence[Seen],
    scan: Scan,
    model: SignalModel,
    how: str,
    folder: Path,
    *,
    maps: Sequence[str],
) -> list[str]:
    """Figures, summary.json, and the summary for a person.

    Files of an earlier prediction that this one did not write go, see `puq_files`.
    Until they are gone summary.json lists them, and each new file as soon as it is
    there: a later prediction knows what one that ended halfway has left.

    Args:
        seen: every slice.
        scan: where they come from.
        model: of the fit.
        how: reconstruction and fit, in words.
        folder: of the prediction.
        maps: names of the files that hold them, in `folder`.

    Returns:
        What makes the maps doubtful, see `doubts`.
    """
    from medjax.report.qmri import map_figure, write_png

    summary = summarise(seen, model)
    files = earlier_files(folder) | digests(folder, maps)
    _write(folder, summary, files)
    empty = empty_slices(seen)
    filled = [z for z in range(len(seen)) if z not in empty] or [0]
    chosen = np.linspace(0, len(filled) - 1, FIGURES).round().astype(int)
    figures = {f"figures/slice_{filled[n]:03d}.png": filled[n] for n in chosen.tolist()}
    for name, z in figures.items():
        figure = map_figure(
            seen[z].value,
            seen[z].sigma,
            seen[z].status,
            contrast=scan.contrast,
            levels=LEVELS,
            roi=seen[z].bright,
            title=f"{scan.path.name}, slice {z}: {how}",
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
        f"{model.time_constant} in {summary['voxels']} voxels with signal: median "
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


def summarise(seen: Sequence[Seen], model: SignalModel) -> dict[str, Any]:
    """Numbers over the voxels with signal; None where there is none."""
    value, sigma, status = (
        np.concatenate([getattr(one, name)[one.bright] for one in seen])
        for name in ("value", "sigma", "status")
    )
    times = 1e3 * value[np.isfinite(value)]
    errors = 1e3 * sigma[np.isfinite(sigma)]

    def quantile(x: np.ndarray, q: float) -> float | None:
        return float(np.quantile(x, q)) if x.size else None

    count = int(status.size)
    return {
        "parameter": model.time_constant,
        "voxels": count,
        "median_ms": quantile(times, 0.5),
        "quartiles_ms": [quantile(times, 0.25), quantile(times, 0.75)],
        "median_sigma_ms": quantile(errors, 0.5),
        "share_at_bounds": float(np.mean(status == FitStatus.AT_BOUND)) if count else 0,
        "failed": int((status >= FAILED).sum()),
        "status": {LEVELS[c]: int((status == c).sum()) for c in LEVELS},
        "slices_without_signal": empty_slices(seen),
    }


def doubts(summary: Mapping[str, Any]) -> list[str]:
    """What of a summary by `summarise` makes the maps doubtful: a line each."""
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


def empty_slices(seen: Sequence[Seen]) -> list[int]:
    """Indices of slices where no voxel has a signal."""
    nothing = FitStatus.NO_SIGNAL
    return [z for z, one in enumerate(seen) if (one.status == nothing).all()]


def ranges(indices: Sequence[int]) -> str:
    """`[0, 1, 2, 7]` -> `0 to 2, 7`."""
    parts: list[list[int]] = []
    for n in indices:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


def say(text: str) -> None:
    """To the person at the terminal."""
    print(text, flush=True)  # noqa: T201
