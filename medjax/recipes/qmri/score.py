"""Score an evaluation of maps: the table of methods, figures, and the report's page."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from medjax.data.qmri.batches import SliceRecord
from medjax.data.qmri.invivo import INVIVO
from medjax.evals.calibration import calibration
from medjax.evals.qmri import map_scores, method_table
from medjax.evals.tables import Table, render_text
from medjax.recipes.policy.scoring import write_evaluation
from medjax.recipes.qmri.options import Evaluation
from medjax.recipes.qmri.score_story import score_story
from medjax.recipes.qmri.score_trust import (
    HIGH,
    LOW,
    Judged,
    interval_table,
    judged_voxels,
    noise_bounds,
    trust_curves,
    trust_sheets,
)
from medjax.runtime.stages import Results
from medjax.runtime.writer import write_atomic
from medjax.systems.puq.categorical import MEASURED
from medjax.systems.puq.maps import CATEGORICAL, COVERED, FACTOR, MEAN, POSTERIOR, Maps
from medjax.systems.puq.network import Quantity

SHOWN = ("nrmse", "tissue_ms", "csf_ms", "coverage")  # of the last method, eval.jsonl
PRINTED = ("nrmse", "ssim", "tissue_ms", "csf_ms", "coverage", "spearman")
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
    # by method with a posterior, at `PROBABILITIES`
    quantiles: dict[str, list[Float[np.ndarray, "Q H W"]]]
    # on dropout's deviation, and what it covers of validation; the same of all slices
    factors: list[tuple[float, float]]


def score_stage(
    results: Results,
    folder: Path,
    *,
    stage: str,
    contrast: str,
    quantity: Quantity,
    methods: Sequence[str],
    evaluation: Evaluation,
    factor: str = "",
) -> Mapping[str, float]:
    """Score a stage's maps and write them into a folder; the means of the last method.

    The folder gets slices.jsonl (scores of every slice by every method), the table as
    text and maps.npz; the stage's folder above it gets `report.html` and its figures.
    Process 0 writes.

    Args:
        results: Batches of `Maps`, with a record of each valid slice.
        folder: STAGE/eval/STEP in the workdir; it is made if it does not exist.
        stage: The stage's name, which titles have.
        contrast: The contrast that was measured, "t2" or "t1", which titles have.
        quantity: The parameter that was fitted; values above its largest count as that.
        methods: Names in the order of the table's rows; the last one stands for the
            run.
        evaluation: Its `tissue_below` says where tissue ends; its number of resamples,
            level and seed make the intervals.
        factor: Where the factor on dropout's deviation comes from, in words.
    """
    scored = collect(results, methods)
    scores = score_maps(
        scored, limit=quantity.longest, tissue_below=evaluation.tissue_below
    )
    rows = [
        row
        for row, record in zip(scores[methods[-1]], scored.records, strict=True)
        if record.subject != INVIVO
    ]
    means = {key: float(np.nanmean([row[key] for row in rows])) for key in SHOWN}
    images = {f"image_nrmse: {k}": float(np.mean(x)) for k, x in scored.images.items()}
    found = means | images | {"n": len(scored.records)}
    if jax.process_index() == 0:
        title = f"{contrast.upper()}, {stage}"
        tables = _tables(scored, scores, title, evaluation, factor)
        write_evaluation(
            folder,
            _rows(scored, scores),
            tables,
            name="slices.jsonl",
            printed=len(tables) // 2,
        )
        page = (folder, stage, contrast, tables, scored, scores, quantity, evaluation)
        _write_page(*page, found)
    return found


def collect(results: Results, methods: Sequence[str]) -> Scored:
    """The valid rows of all batches joined: those that have a record.

    Args:
        results: Of each batch its `Maps`, its metrics with a boolean `valid`, and
            records.
        methods: Names of the methods whose maps are kept.
    """
    maps, sigma = ({name: [] for name in methods} for _ in range(2))
    scored = Scored([], [], [], maps, sigma, {}, [], [], {}, [])
    for predictions, metrics, records in results:
        rows = np.flatnonzero(np.asarray(metrics["valid"]))
        scored.records.extend(records)
        for row in rows:
            _append(scored, predictions, metrics, row)
    return scored


def _append(
    scored: Scored, predictions: Maps, metrics: Mapping[str, np.ndarray], row: int
) -> None:
    scored.roi.append(np.asarray(predictions.roi[row]))
    scored.reference.append(np.asarray(predictions.reference[row], np.float64))
    for name, maps in scored.maps.items():
        maps.append(np.asarray(predictions.maps[name][row], np.float64))
        scored.sigma[name].append(np.asarray(predictions.sigma[name][row], np.float64))
    for name, ends in predictions.quantiles.items():
        scored.quantiles.setdefault(name, []).append(np.asarray(ends[row], np.float64))
    prefix = "image nrmse: "
    for name, values in metrics.items():
        if name.startswith(prefix):
            method = name.removeprefix(prefix)
            scored.images.setdefault(method, []).append(float(values[row]))
    if FACTOR in metrics:
        own = float(metrics[FACTOR][row]), float(metrics[COVERED][row])
        scored.factors.append(own)
    scored.mean.append(np.asarray(predictions.mean[row]))
    scored.std.append(np.asarray(predictions.std[row]))


def score_maps(
    scored: Scored, *, limit: float, tissue_below: float
) -> dict[str, list[dict[str, float]]]:
    """`map_scores` of every slice by method; voxels without a reference do not count.

    Args:
        limit: Values and references above this, in seconds, count as this.
        tissue_below: Voxels whose reference is shorter than this, in seconds, are
            tissue.
    """
    scores: dict[str, list[dict[str, float]]] = {}
    for name, maps in scored.maps.items():
        scores[name] = [
            map_scores(
                maps[n],
                scored.sigma[name][n],
                scored.reference[n],
                scored.roi[n] & np.isfinite(scored.reference[n]),
                limit=limit,
                tissue_below=tissue_below,
                interval=(
                    scored.quantiles[name][n][[LOW, HIGH]]
                    if name in scored.quantiles
                    else None
                ),
            )
            for n in range(len(scored.records))
        ]
    return scores


def _tables(
    scored: Scored,
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    title: str,
    evaluation: Evaluation,
    factor: str,
) -> list[Table]:
    """Of what people see: what a terminal has room for, then all with intervals."""
    intervals = {
        "num_samples": evaluation.bootstrap,
        "level": evaluation.level,
        "seed": evaluation.seed,
    }
    subjects = np.array([record.subject for record in scored.records])
    tables = []
    for who, rows in (
        ("simulated", subjects != INVIVO),
        ("in vivo", subjects == INVIVO),
    ):
        if rows.any():
            chosen = {k: np.array(x)[rows].tolist() for k, x in scores.items()}
            part = (chosen, subjects[rows])
            full = {"title": f"{title}, {who}", **intervals}
            narrow = {"columns": PRINTED, "intervals": False}
            notes = _notes(scored, factor, measured=who == "in vivo")
            short = method_table(*part, **full, **narrow)
            tables.insert(len(tables) // 2, _noted(short, notes))
            tables.append(_noted(method_table(*part, **full), notes))
    return tables


def _notes(scored: Scored, factor: str, *, measured: bool) -> list[str]:
    """What has to be known of two rows."""
    notes = []
    if scored.factors and POSTERIOR in scored.maps:
        scale, share = scored.factors[0]
        covers = f" cover {share:.3f}" if share == share else ""
        notes.append(
            f"{POSTERIOR}: u is {scale:.3g} times dropout's deviation, {factor}{covers}"
        )
    if measured and CATEGORICAL in scored.maps:
        notes.append(f"{CATEGORICAL}: {MEASURED}")
    return notes


def _noted(table: Table, notes: Sequence[str]) -> Table:
    return table._replace(title="\n".join([table.title, *notes]))


def _rows(
    scored: Scored, scores: Mapping[str, Sequence[Mapping[str, float]]]
) -> Iterable[dict[str, Any]]:
    for n, record in enumerate(scored.records):
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
    tables: Sequence[Table],
    scored: Scored,
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    quantity: Quantity,
    evaluation: Evaluation,
    found: Mapping[str, float],
) -> None:
    from medjax.report.page import write_report

    last = list(scores)[-1]
    errors = np.array([row["tissue_ms"] for row in scores[last]])
    simulated = np.array([record.subject != INVIVO for record in scored.records])
    order = [n for n in np.argsort(errors).tolist() if simulated[n]]
    chosen = {"median": order[len(order) // 2], "worst": order[-1]}
    if not simulated.all():
        chosen["in_vivo"] = int(np.argmin(simulated))
    figures = {}
    for which, n in chosen.items():
        figures[f"maps_{which}"] = _sheet(scored, scores, n, contrast)
    figures["calibration"] = _calibration(scored)
    more, drawn = _trust(scored, chosen, contrast, quantity, evaluation)
    if more:
        lines = [render_text(table) for table in more]
        write_atomic(folder / "intervals.txt", "\n\n".join(lines) + "\n")
    figures |= drawn
    for name, rows in (("maps", simulated), ("maps_in_vivo", ~simulated)):
        if rows.any():
            write_atomic(folder / f"{name}.npz", _packed(scored, np.flatnonzero(rows)))
    write_report(
        folder.parents[1],
        title=f"{stage}, step {folder.name}",
        tables=[*tables, *more],
        figures=figures,
        note="Simulated subjects are warps of one template: methods are compared, and "
        "no error of a scanner is predicted.",
        story=score_story(scores, simulated),
        evaluated=(int(folder.name), found),
    )


def _trust(
    scored: Scored,
    chosen: Mapping[str, int],
    contrast: str,
    quantity: Quantity,
    evaluation: Evaluation,
) -> tuple[list[Table], dict[str, Any]]:
    """Tables of each method with intervals, which figures compare by slice.

    A posterior's mean has the intervals of its median, and stands for itself in the
    table of scores alone. Curves are those of the first method: what predict uses.
    """
    known = {
        name: Judged(
            scored.records,
            scored.roi,
            scored.reference,
            scored.maps[name],
            scored.sigma[name],
            scored.quantiles[name],
        )
        for name in scored.maps
        if name in scored.quantiles and not name.endswith(MEAN)
    }
    if not known:
        return [], {}
    limit, tissue = quantity.longest, evaluation.tissue_below
    options = {"limit": limit, "tissue_below": tissue}
    tables, figures = [], {}
    for name, judged in known.items():
        for who, in_vivo in (("simulated", False), ("in vivo", True)):
            voxels = judged_voxels(judged, in_vivo=in_vivo, **options)
            if voxels is None:
                continue
            tables.append(interval_table(voxels, title=f"{name}, {who}"))
            if not in_vivo and "intervals" not in figures:
                bounds = noise_bounds(judged, quantity, limit=limit)
                figures["intervals"] = trust_curves(voxels, method=name, bounds=bounds)
    return tables, trust_sheets(known, dict(chosen), contrast=contrast) | figures


def _packed(scored: Scored, rows: np.ndarray) -> bytes:
    """Maps, sigma, and mean and deviation of the images, as an npz file."""

    def stack(slices: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([slices[n] for n in rows])

    arrays = {"reference": stack(scored.reference), "roi": stack(scored.roi)}
    arrays |= {f"map: {k}": stack(x) for k, x in scored.maps.items()}
    arrays |= {f"sigma: {k}": stack(x) for k, x in scored.sigma.items()}
    arrays |= {k: stack(getattr(scored, k)).astype(np.float16) for k in ("mean", "std")}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def _sheet(
    scored: Scored,
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    n: int,
    contrast: str,
) -> Any:
    from medjax.report.qmri import comparison_sheet

    record = scored.records[n]
    return comparison_sheet(
        scored.reference[n],
        {name: maps[n] for name, maps in scored.maps.items()},
        contrast=contrast,
        roi=scored.roi[n],
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


def _calibration(scored: Scored) -> Any:
    from medjax.report.qmri import calibration_figure

    curves = {}
    for name, maps in scored.maps.items():
        error, sigma = [], []
        for n, estimate in enumerate(maps):
            s, reference = scored.sigma[name][n], scored.reference[n]
            ok = scored.roi[n] & np.isfinite(estimate) & np.isfinite(s)
            ok &= np.isfinite(reference) & (s > 0)
            error.append(estimate[ok] - reference[ok])
            sigma.append(s[ok])
        if sum(map(len, error)):
            joined = np.concatenate(error), np.concatenate(sigma)
            curves[name] = calibration(*joined, bins=BINS)
    return calibration_figure(curves)
