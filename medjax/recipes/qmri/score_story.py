"""What an evaluation of maps shows, in words for the head of its page."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

NEAR = (0.93, 0.97)  # coverage of 95 % intervals that is what they say
BEST = {"nrmse": ("NRMSE", "{:.4f}"), "tissue_ms": ("error in tissue", "{:.2f} ms")}


def score_story(
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    simulated: Bool[np.ndarray, "N"],
) -> list[str]:
    """Which method errs least, how the run's own does, and whether intervals hold.

    Args:
        scores: Of every slice by method, see `map_scores`; the last method is the
            run's own. NaN is left out of a mean.
        simulated: Which of the N slices are simulated; the others are measured.
    """
    lines = []
    for who, chosen in (("Simulated subjects", simulated), ("In vivo", ~simulated)):
        if not chosen.any():
            continue
        means = {
            name: {key: _mean(rows, chosen, key) for key in (*BEST, "coverage")}
            for name, rows in scores.items()
        }
        own = list(means)[-1]
        for key, (what, form) in BEST.items():
            known = {name: x[key] for name, x in means.items() if np.isfinite(x[key])}
            if not known:
                continue
            best = min(known, key=lambda name: known[name])
            how = f"least {what} by {best}," if len(means) > 1 else f"{what} of {best}"
            line = f"{who}: {how} {form.format(known[best])}"
            if own in known and own != best:
                line += f"; {own}, which the run stands for, {form.format(known[own])}"
            lines.append(f"{line} (means over slices).")
        lines += _coverage(who, {name: x["coverage"] for name, x in means.items()})
    return lines


def _mean(
    rows: Sequence[Mapping[str, float]], chosen: Bool[np.ndarray, "N"], key: str
) -> float:
    values = np.array([row[key] for row in rows], float)[chosen]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _coverage(who: str, shares: Mapping[str, float]) -> list[str]:
    """Whose 95 % intervals hold, whose are too narrow, whose too wide."""
    low, high = NEAR
    known = {name: share for name, share in shares.items() if np.isfinite(share)}
    groups = {
        "hold": [name for name, x in known.items() if low <= x <= high],
        "are too narrow": [name for name, x in known.items() if x < low],
        "are too wide": [name for name, x in known.items() if x > high],
    }
    return [
        f"{who}: 95 % intervals {kind} (share of references inside) of "
        f"{', '.join(f'{name} ({known[name]:.3f})' for name in names)}."
        for kind, names in groups.items()
        if names
    ]
