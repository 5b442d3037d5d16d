"""Score an evaluation of maps: the table of methods, figures, and the report's page."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from medjax.data.qmri.batches import SliceRecord
from medjax.evals.calibration import calibration
from medjax.evals.qmri import map_scores, method_table
from medjax.evals.tables import Table
from medjax.recipes.policy.scoring import NOTE, write_evaluation
from medjax.runtime.writer import write_atomic
from medjax.systems.puq.maps import Maps, Quantity

SHOWN = (
    "nrmse",
    "tissue_ms",
    "csf_ms",
    "coverage",
)  # of the last method, in eval.jsonl
PRINTED = ("nrmse", "ssim", "tissue_ms", "csf_ms", "coverage", "spearman")
INVIVO = -1  # `subject` of a measured slice
BINS = 12  # of sigma in the calibration figure


class Scored(NamedTuple):
    """The valid slices of an evaluation, in order."""

    records: list[SliceRecord]
    roi: list[Bool[np.ndarray, "H W"]]
    reference: list[Float[np.ndarray, "H W"]]
    maps: dict[str, list[Float[np.ndarray, "H W"]]]  # by method
    sigma: dict[str, list[Float[np.ndarray, "H W"]]]
    images: dict[str, list[float]]  # NRMSE of the images, by method
    mean: list[Float[np.ndarray, "E H W"]]
    std: list[Float[np.ndarray, "E H W"]]


def make_score(
    stage: str,
    quantity: Quantity,
    methods: Sequence[str],
    *,
    contrast: str,
    tissue_below: float,
    num_samples: int,
    level: float,
    seed: int,
) -> Callable[[Iterable[Any], Path], Mapping[str, Any]]:
    """A function that scores a stage's maps and writes them into a folder.

    The folder gets slices.jsonl (scores of every slice by every method), the table as
    text and maps.npz; the stage's folder above it `report.html` and its figures.
    Process 0 writes.

    Args:
        stage: its name.
        quantity: what was fitted.
        methods: in the order of the table's rows; the last one stands for the run.
        contrast: "t2" or "t1".
        tissue_below: a longer reference is fluid, s.
        num_samples: of the bootstrap over subjects.
        level: of its intervals.
        seed: of it.
    """

    def score(results: Iterable[Any], folder: Path) -> Mapping[str, Any]:
        found = collect(results, methods)
        scores = score_maps(found, limit=quantity.longest, tissue_below=tissue_below)
        if jax.process_index() == 0:
            how = {"num_samples": num_samples, "level": level, "seed": seed}
            tables = _tables(found, scores, f"{contrast.upper()}, {stage}", how)
            lines = _rows(found, scores)
            shown = {"name": "slices.jsonl", "printed": len(tables) // 2}
            write_evaluation(folder, lines, tables, **shown)
            _write_page(folder, stage, contrast, tables, found, scores)
        rows = [
            row
            for row, record in zip(scores[methods[-1]], found.records, strict=True)
            if record.subject != INVIVO
        ]
        summary = {key: [row[key] for row in rows] for key in SHOWN}
        images = {
            f"image_nrmse: {k}": float(np.mean(x)) for k, x in found.images.items()
        }
        means = {key: float(np.nanmean(x)) for key, x in summary.items()}
        return means | images | {"n": len(found.records)}

    return score


def collect(results: Iterable[Any], methods: Sequence[str]) -> Scored:
    """Join the batches of `loop.evaluate`: rows that have a record."""
    maps, sigma = ({name: [] for name in methods} for _ in range(2))
    found = Scored([], [], [], maps, sigma, {}, [], [])
    for predictions, metrics, records in results:
        rows = np.flatnonzero(np.asarray(metrics["valid"]))
        found.records.extend(records)
        for row in rows:
            _append(found, predictions, metrics, row)
    return found


def _append(found: Scored, predictions: Maps, metrics: Mapping[str, Any], row: int):
    found.roi.append(np.asarray(predictions.roi[row]))
    found.reference.append(np.asarray(predictions.reference[row], np.float64))
    for name, maps in found.maps.items():
        maps.append(np.asarray(predictions.maps[name][row], np.float64))
        found.sigma[name].append(np.asarray(predictions.sigma[name][row], np.float64))
    prefix = "image nrmse: "
    for name, values in metrics.items():
        if name.startswith(prefix):
            method = name.removeprefix(prefix)
            found.images.setdefault(method, []).append(float(values[row]))
    found.mean.append(np.asarray(predictions.mean[row]))
    found.std.append(np.asarray(predictions.std[row]))


def score_maps(
    found: Scored, *, limit: float, tissue_below: float
) -> dict[str, list[dict[str, float]]]:
    """`map_scores` of every slice by method; voxels without a reference don't count."""
    scores: dict[str, list[dict[str, float]]] = {}
    for name, maps in found.maps.items():
        scores[name] = [
            map_scores(
                maps[n],
                found.sigma[name][n],
                found.reference[n],
                found.roi[n] & np.isfinite(found.reference[n]),
                limit=limit,
                tissue_below=tissue_below,
            )
            for n in range(len(found.records))
        ]
    return scores


def _tables(
    found: Scored,
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    title: str,
    how: Mapping[str, Any],
) -> list[Table]:
    """Of what people see: what a terminal has room for, then all with intervals."""
    subjects = np.array([record.subject for record in found.records])
    tables = []
    for who, rows in (
        ("simulated", subjects != INVIVO),
        ("in vivo", subjects == INVIVO),
    ):
        if rows.any():
            chosen = {k: np.array(x)[rows].tolist() for k, x in scores.items()}
            part = (chosen, subjects[rows])
            full = {"title": f"{title}, {who}", **how}
            narrow = {"columns": PRINTED, "intervals": False}
            tables.insert(len(tables) // 2, method_table(*part, **full, **narrow))
            tables.append(method_table(*part, **full))
    return tables


def _rows(
    found: Scored, scores: Mapping[str, Sequence[Mapping[str, float]]]
) -> Iterable[dict[str, Any]]:
    for n, record in enumerate(found.records):
        about = {
            "sample_id": record.sample_id,
            "subject": record.subject,
            "slice": record.slice,
            "acceleration": record.acceleration,
            "snr": round(record.snr, 2),
        }
        for method, rows in scores.items():
            values = {k: round(float(x), 6) for k, x in rows[n].items() if x == x}
            yield about | {"method": method} | values


def _write_page(
    folder: Path,
    stage: str,
    contrast: str,
    tables: Sequence[Any],
    found: Scored,
    scores: Mapping[str, Sequence[Mapping[str, float]]],
) -> None:
    from medjax.report.page import write_report

    last = list(scores)[-1]
    errors = np.array([row["tissue_ms"] for row in scores[last]])
    simulated = np.array([record.subject != INVIVO for record in found.records])
    order = [n for n in np.argsort(errors).tolist() if simulated[n]]
    chosen = {"median": order[len(order) // 2], "worst": order[-1]}
    if not simulated.all():
        chosen["in_vivo"] = int(np.argmin(simulated))
    figures: dict[str, Any] = {}
    for which, n in chosen.items():
        figures[f"maps_{which}"] = _sheet(found, scores, n, contrast)
    figures["calibration"] = _calibration(found)
    for name, rows in (("maps", simulated), ("maps_in_vivo", ~simulated)):
        if rows.any():
            write_atomic(folder / f"{name}.npz", _packed(found, np.flatnonzero(rows)))
    write_report(
        folder.parents[1],
        title=f"{stage}, step {folder.name}",
        tables=tables,
        figures=figures,
        note=f"Simulated subjects of one template. {NOTE}",
    )


def _packed(found: Scored, rows: np.ndarray) -> bytes:
    """Maps, sigma, and mean and deviation of the images, as an npz file."""

    def stack(slices: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([slices[n] for n in rows])

    arrays = {"reference": stack(found.reference), "roi": stack(found.roi)}
    arrays |= {f"map: {k}": stack(x) for k, x in found.maps.items()}
    arrays |= {f"sigma: {k}": stack(x) for k, x in found.sigma.items()}
    arrays |= {k: stack(getattr(found, k)).astype(np.float16) for k in ("mean", "std")}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def _sheet(found: Scored, scores: Any, n: int, contrast: str) -> Any:
    from medjax.report.qmri import comparison_sheet

    record = found.records[n]
    return comparison_sheet(
        found.reference[n],
        {name: maps[n] for name, maps in found.maps.items()},
        contrast=contrast,
        roi=found.roi[n],
        notes={
            name: f"tissue {rows[n]['tissue_ms']:.1f} ms"
            for name, rows in scores.items()
        },
        title=_title(record),
    )


def _title(record: SliceRecord) -> str:
    if record.subject == INVIVO:
        return f"in vivo, R = {record.acceleration:g}"
    who = f"subject {record.subject}, slice {record.slice}"
    return f"{who}, R = {record.acceleration:g}, SNR {record.snr:.0f}"


def _calibration(found: Scored) -> Any:
    from medjax.report.qmri import calibration_figure

    curves = {}
    for name, maps in found.maps.items():
        error, sigma = [], []
        for n, estimate in enumerate(maps):
            s, reference = found.sigma[name][n], found.reference[n]
            ok = found.roi[n] & np.isfinite(estimate) & np.isfinite(s)
            ok &= np.isfinite(reference) & (s > 0)
            error.append(estimate[ok] - reference[ok])
            sigma.append(s[ok])
        if sum(map(len, error)):
            joined = np.concatenate(error), np.concatenate(sigma)
            curves[name] = calibration(*joined, bins=BINS)
    return calibration_figure(curves)
