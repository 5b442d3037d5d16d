"""What of a scan's numbers makes its maps doubtful, in words."""

from collections.abc import Sequence

import numpy as np

from medjax.recipes.qmri.findings import Known, Residuals, Summary
from medjax.recipes.qmri.moved import WAY

# Of the voxels with signal, failed or at a bound. Of sound scans at SNR 10 a tenth are
# at a bound (fluid, and what noise makes of the faint), so a tenth is no reason.
MANY = 0.2
MISFIT = 0.02  # mean residual of a contrast, as a share of the mean signal
BENT = 0.05  # the same of undersampled k-space: aliasing and priors bend signals
ERRORS = 5.0  # standard errors of that mean
# s: of tissue, fluid and phantoms; T2 has bounds of its own as close as these
PLAUSIBLE = {"t1": (0.02, 6.0)}
SATURATED = 1e-3  # of the voxels with signal
CLIPPED = 0.05
FLOOR = 0.05  # samples of magnitudes below two noise levels
TURNS = 0.01  # of the signal, by which echoes alternate
LOUD = 2.0  # residuals above so many known noise levels


def doubts(summary: Summary, known: Known) -> list[str]:
    """What makes the maps of a summary doubtful, a line each; [] for none.

    A low R^2 is no reason: noise alone makes one, and T2 of 80 ms at SNR 10 is fitted
    rightly with .8.

    Args:
        summary: As `summarise` gives it.
        known: As it was given to `summarise`.
    """
    lines = []
    if summary.slices_without_signal:
        lines.append(
            f"slices without signal: {ranges(summary.slices_without_signal)}; "
            "k-space, images or sensitivities are 0 there, maps are NaN"
        )
    if summary.median_ms is None:
        return [*lines, "no voxel could be fitted"]
    shares = {
        "could not be fitted": summary.share_failed,
        "lie at a bound": summary.share_at_bounds,
    }
    for what, share in shares.items():
        if share > MANY:
            lines.append(
                f"{100 * share:.0f} % of the voxels with signal {what}: see "
                "status.nii.gz; are times, contrast and model those of the scan?"
            )
    lines += _no_samples(summary)
    if summary.moved_slices and not known.registered:
        far = np.flatnonzero(np.array(summary.motion) > known.noted).tolist()
        lines.append(
            f"contrasts {ranges(far)} lie up to {max(summary.motion):.1f} pixels from "
            f"the strongest one, in slices {ranges(summary.moved_slices)}; "
            + (WAY if known.full else "edges are wrong there")
        )
    lines += _implausible(summary, known)
    if summary.median_sigma_ms is None:
        lines.append("no voxel has a sigma: the maps are without error bars")
    return lines


def _no_samples(summary: Summary) -> list[str]:
    """Voxels of which values were left out."""
    lines, voxels = [], summary.voxels
    if summary.saturated > SATURATED * voxels:
        lines.append(
            f"{summary.saturated} voxels are at the largest value that the images "
            "hold: saturated. These samples are left out; export the images with "
            "another scaling"
        )
    if summary.clipped > CLIPPED * voxels:
        lines.append(
            f"{summary.clipped} of {voxels} voxels with signal are clipped to 0, or to "
            "the background's value, in some contrasts. These samples are left out; "
            "what noise leaves above the clipping level may still lengthen times"
        )
    return lines


def _implausible(summary: Summary, known: Known) -> list[str]:
    """A fit that is not that of the scan, by what it leaves and what it finds."""
    lines, name, median = [], summary.parameter, summary.median_ms or 0.0
    for bound in known.bounds:
        if abs(median / (1e3 * bound) - 1) < 1e-3:
            lines.append(f"the median of {name} is its bound, {1e3 * bound:g} ms")
    low, high = PLAUSIBLE.get(name, (0.0, np.inf))
    if not 1e3 * low <= median <= 1e3 * high:
        lines.append(
            f"the median of {name}, {median:.0f} ms, is of no tissue or fluid, "
            f"{1e3 * low:g} to {1e3 * high:g} ms: are times, angles and repetition "
            "time those of the scan, in seconds and degrees?"
        )
    if summary.not_inverted is not None and summary.not_inverted > 0.5:
        lines.append(
            f"{100 * summary.not_inverted:.0f} % of the voxels have an efficiency of "
            "the inversion that is not 0 to 1: the signals do not recover from an "
            "inversion. Are the times inversion times, and in the order of the images?"
        )
    if summary.residual is not None:
        lines += _misfit(summary.residual, known)
    if known.repetition and name.startswith("t2") and median > 1e3 * known.repetition:
        lines.append(
            f"the median of {name}, {median:.0f} ms, is above the repetition time, "
            f"{1e3 * known.repetition:g} ms"
        )
    return lines


def _misfit(found: Residuals, known: Known) -> list[str]:
    """Residuals that have a mean, or are above the noise."""
    lines = []
    limit = MISFIT if known.full else BENT
    large, sure = np.abs(found.share) > limit, np.abs(found.errors) > ERRORS
    wrong = np.flatnonzero(large & sure).tolist()
    if wrong:
        worst = max(wrong, key=lambda e: abs(found.share[e]))
        lines.append(
            f"{known.model.name} does not fit: contrasts {ranges(wrong)} differ from "
            f"it by up to {100 * found.share[worst]:+.1f} % of the mean signal "
            f"(contrast {worst}), and not by noise. Look at times, order, model "
            "(--config.predict.model), stimulated echoes, scaling and motion"
        )
    turns, sure = found.alternation, abs(found.alternation_errors) > ERRORS
    limit, name = TURNS if known.full else BENT, known.model.name
    if name in ("t2", "t2_offset") and abs(turns) > limit and sure:
        lines.append(
            f"even and odd echoes differ from {name} in turn, by {100 * turns:+.1f} % "
            "of the signal, as stimulated echoes do, which make T2 too long. Of a "
            "spin-echo train say --config.predict.model=t2_epg, or leave the first "
            "echo out by predict.skip=1, which mends a part"
        )
    floor = known.floor
    if floor.way and not floor.coils and found.faint > FLOOR:
        where = f"{floor.level:.4g} by {floor.source}" if floor.source else "unknown"
        lines.append(
            f"{100 * found.faint:.0f} % of the samples are below twice the noise (its "
            f"level is {where}), where magnitudes are not 0: {known.model.name} comes "
            f"out too long. {floor.way}"
        )
    if found.over_noise is not None and found.over_noise > LOUD:
        lines.append(
            f"residuals are {found.over_noise:.1f} times the known noise: the model is "
            "not that of the scan, or the noise level has another unit or bandwidth"
        )
    return lines


def ranges(indices: Sequence[int]) -> str:
    """Rising indices in words: `[0, 1, 2, 7]` becomes `0 to 2, 7`."""
    parts: list[list[int]] = []
    for n in indices:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)
