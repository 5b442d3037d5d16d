"""What a mutated scan says, judged without the library: by fields, range and pixels."""

from typing import NamedTuple

import numpy as np

# s: of a time constant, beyond which nobody takes it for one of tissue or fluid
PLAUSIBLE = {"t2": (0.01, 2.0), "t1": (0.02, 6.0), "vfa": (0.02, 6.0)}
WRONG = 0.05  # of the median
MISFIT = 0.03  # of the brightest contrast, in one of them: pixels contradict a model
GRID = np.geomspace(1e-4, 100, 1200)  # s


class Seen(NamedTuple):
    """A scan as its fields and pixels say it."""

    model: str  # "t2", "t1" or "vfa"; "" where the fields do not tell
    times: np.ndarray | None  # s or radians, one an image; None: not all are numbers
    curve: np.ndarray  # the material's signal in each image
    repetition: float | None  # s


def label(seen: Seen, truth: float, clash: str) -> tuple[str, str]:
    """One of harmless, contradicted and consistent, and by what.

    Args:
        seen: The mutated scan.
        truth: The time constant of what was measured, s.
        clash: What fields contradict each other, "" for none.
    """
    clash = clash or impossible(seen)
    if clash:
        return "contradicted", clash
    value, misfit = fitted(seen)
    if misfit > MISFIT:
        return "contradicted", "pixels"
    if abs(value / truth - 1) <= WRONG:
        return "harmless", ""
    low, high = PLAUSIBLE[seen.model]
    if not low < value < high:
        return "contradicted", "range of the time constant"
    return "consistent", ""


def impossible(seen: Seen) -> str:
    """Which field is missing, or out of any protocol's range."""
    model, times, repetition = seen.model, seen.times, seen.repetition
    if not model:
        return "no axis"
    if times is None or not np.isfinite(times).all():
        return "a time is missing or no number"
    if len(times) != len(seen.curve):
        return "number of times"
    if times.min() < 0 or len(np.unique(times)) < (3 if model == "t1" else 2):
        return "range of the times"
    if repetition is not None and not 0 < repetition <= 60:
        return "range of TR"
    if model == "vfa":
        if repetition is None:
            return "no TR"
        if times.max() > np.pi or times.max() < np.deg2rad(1.6) or repetition > 1:
            return "range of the angles or of TR"
    elif repetition is not None and times.max() >= repetition:
        return "times not below TR"
    elif times.max() > {"t2": 1, "t1": 20}[model]:
        return "range of the times"
    return ""


def fitted(seen: Seen) -> tuple[float, float]:
    """(time constant in s, largest residual as a share of the brightest contrast)."""
    times, curve = seen.times, np.asarray(seen.curve, float)
    decay = np.exp(-np.multiply.outer(1 / GRID, times))
    signals = curve[None]
    if seen.model == "t2":
        columns = decay[..., None]
    elif seen.model == "t1":
        columns = np.stack([np.ones_like(decay), decay], -1)
        rank = np.argsort(np.argsort(times))
        signs = np.where(rank < np.arange(len(times))[:, None], -1, 1)
        signals = np.abs(curve) * signs if curve.min() >= 0 else signals
    else:
        e = np.exp(-seen.repetition / GRID)[:, None]
        columns = (np.sin(times) * (1 - e) / (1 - np.cos(times) * e))[..., None]
    q = np.linalg.qr(columns)[0]  # [T, E, K]
    projected = np.einsum("tek,tfk,sf->tse", q, q, signals)
    residual = np.abs(signals - projected)
    best = np.argmin((residual**2).sum(-1))
    t, s = np.unravel_index(best, residual.shape[:2])
    return GRID[t], residual[t, s].max() / np.abs(curve).max()
