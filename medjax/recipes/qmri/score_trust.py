"""Whether intervals of an evaluation hold: tables by level and part, and figures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from medjax.data.qmri.batches import SliceRecord
from medjax.data.qmri.invivo import INVIVO
from medjax.evals.intervals import (
    LEVELS,
    LevelScores,
    bound_scores,
    level_probabilities,
    scores_by_part,
    sparsification_curve,
)
from medjax.evals.tables import Table
from medjax.mri.bounds import cramer_rao_bound
from medjax.systems.puq.network import Quantity

PROBABILITIES = level_probabilities()
LOW, HIGH = (PROBABILITIES.index(p) for p in (0.025, 0.975))


class Judged(NamedTuple):
    """Slices of one method with a posterior, in order."""

    records: Sequence[SliceRecord]
    roi: Sequence[Bool[np.ndarray, "H W"]]
    reference: Sequence[Float[np.ndarray, "H W"]]  # s
    value: Sequence[Float[np.ndarray, "H W"]]  # s
    sigma: Sequence[Float[np.ndarray, "H W"]]  # s
    quantiles: Sequence[Float[np.ndarray, "Q H W"]]  # s, at `PROBABILITIES`


class Voxels(NamedTuple):
    """The voxels that are judged, of all slices in a row."""

    reference: Float[np.ndarray, "N"]
    error: Float[np.ndarray, "N"]
    sigma: Float[np.ndarray, "N"]
    quantiles: Float[np.ndarray, "Q N"]
    parts: dict[str, Bool[np.ndarray, "N"]]


def judged_voxels(
    judged: Judged, *, limit: float, tissue_below: float, in_vivo: bool
) -> Voxels | None:
    """Voxels whose reference is below the limit, and their parts; None without any.

    Args:
        judged: Of one method.
        limit: The largest value of a map in s; a reference at it is not judged, as the
            fit was cut there.
        tissue_below: In s; what is longer is fluid.
        in_vivo: Whether measured slices are taken, or simulated ones.
    """
    columns: list[tuple[np.ndarray, ...]] = []
    for n, record in enumerate(judged.records):
        if (record.subject == INVIVO) != in_vivo:
            continue
        reference = judged.reference[n]
        ok = judged.roi[n] & np.isfinite(reference) & (reference < 0.999 * limit)
        ok &= np.isfinite(judged.value[n])
        rate = np.full(ok.sum(), record.acceleration)
        value, sigma = judged.value[n][ok], judged.sigma[n][ok]
        quantiles = judged.quantiles[n][:, ok].T
        columns.append((reference[ok], value, sigma, quantiles, rate))
    if not columns:
        return None
    reference, value, sigma, quantiles, rate = (
        np.concatenate(x) for x in zip(*columns, strict=True)
    )
    tissue = reference < tissue_below
    parts = {"all": np.ones(len(rate), bool), "tissue": tissue, "fluid": ~tissue}
    rates = np.unique(rate)
    if len(rates) > 1:
        parts |= {f"R {r:g}": rate == r for r in rates.tolist()}
    return Voxels(reference, value - reference, sigma, quantiles.T, parts)


def interval_table(voxels: Voxels, *, title: str) -> Table:
    """Coverage of each level by part, then width and interval score of the 95 % one."""
    heads = ("", "voxels", *(f"{100 * p:g} %" for p in LEVELS))
    rows = []
    for name, levels in _scores(voxels).items():
        at = next(one for one in levels if one.nominal == 0.95)
        cells = [f"{one.coverage:.3f}" for one in levels]
        ends = (f"{1e3 * at.width:.1f}", f"{1e3 * at.score:.1f}")
        rows.append((name, str(int(voxels.parts[name].sum())), *cells, *ends))
    heads = (*heads, "width of 95 %, ms", "its score, ms")
    return Table(f"{title}: observed coverage of intervals", heads, tuple(rows))


def trust_sheets(
    known: Mapping[str, Judged], chosen: dict[str, int], *, contrast: str
) -> dict[str, Any]:
    """Each method's map beside half-widths and errors, of some slices.

    Args:
        known: By the method's name in tables, all of the same slices; at least one.
        chosen: Slices by the name of their figure.
        contrast: "t2" or "t1".
    """
    from medjax.report.trust import trust_sheet

    figures = {}
    first = next(iter(known.values()))
    for name, n in chosen.items():
        record = first.records[n]
        where = "in vivo" if record.subject == INVIVO else f"subject {record.subject}"
        ends = {method: judged.quantiles[n] for method, judged in known.items()}
        figures[f"trust_{name}"] = trust_sheet(
            first.reference[n],
            {method: judged.value[n] for method, judged in known.items()},
            {method: (x[HIGH] - x[LOW]) / 2 for method, x in ends.items()},
            contrast=contrast,
            roi=first.roi[n],
            title=f"{where}, R = {record.acceleration:g}",
        )
    return figures


def trust_curves(
    voxels: Voxels,
    *,
    method: str,
    bounds: Sequence[Float[np.ndarray, "H W"]] | None = None,
) -> Any:  # noqa: ANN401
    """Coverage, what is left of the error, and z-scores: a figure of one method.

    Args:
        voxels: Of `judged_voxels`.
        method: Its name in tables.
        bounds: Cramer-Rao sigma of each slice in s, of simulated ones in their order;
            None leaves the z-scores out.
    """
    from medjax.report.trust import interval_figure

    coverage = {
        name: ([one.nominal for one in levels], [one.coverage for one in levels])
        for name, levels in _scores(voxels).items()
    }
    known = np.isfinite(voxels.sigma)
    removed = {}
    for name in ("all", "tissue"):
        part = voxels.parts[name] & known
        if part.any() and voxels.error[part].any():
            curve = sparsification_curve(voxels.error[part], voxels.sigma[part])
            removed[name] = curve
    z = {}
    if bounds is not None:
        bound = np.concatenate([np.ravel(b) for b in bounds])
        if len(bound) == len(voxels.error):
            for name in ("tissue", "fluid"):
                part = voxels.parts[name]
                z[name] = bound_scores(voxels.error[part], bound[part])
    return interval_figure(coverage, removed, z, title=method)


def noise_bounds(
    judged: Judged, quantity: Quantity, *, limit: float
) -> list[Float[np.ndarray, "N"]]:
    """Cramer-Rao sigma in s of the voxels that `judged_voxels` takes, by slice.

    That of fully sampled images with the noise of the scan and the amplitude 1: a fit
    of fewer lines cannot do better on average, but for what a regulariser knows.

    Args:
        judged: Simulated slices, whose records say the noise.
        quantity: The signal model and its times.
        limit: Of `judged_voxels`.
    """
    model, times = quantity.model, np.array(quantity.times, np.float32)
    references, noise = [], []
    for n, record in enumerate(judged.records):
        if record.subject == INVIVO:
            continue
        reference = judged.reference[n]
        ok = judged.roi[n] & np.isfinite(reference) & (reference < 0.999 * limit)
        ok &= np.isfinite(judged.value[n])
        references.append(reference[ok].astype(np.float32))
        noise.append(record.noise)
    if not references:
        return []
    # All slices at once, of noise 1: each number of voxels would be compiled anew.
    params = {name: np.float32(1) for name in model.parameters}
    params[model.time_constant] = np.concatenate(references)
    bound = cramer_rao_bound(times, model=model, params=params, noise_sd=np.float32(1))[
        model.time_constant
    ]
    ends = np.cumsum([len(x) for x in references])[:-1]
    parts = np.split(np.asarray(bound, np.float64), ends)
    return [sd * part for sd, part in zip(noise, parts, strict=True)]


def _scores(voxels: Voxels) -> dict[str, list[LevelScores]]:
    return scores_by_part(
        voxels.reference, voxels.quantiles, PROBABILITIES, voxels.parts, levels=LEVELS
    )
