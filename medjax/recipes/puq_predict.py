"""Maps of a user's scan, a slab of slices at a time, with figures and a summary."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from medjax.data.scans.formats import Scan, open_scan
from medjax.data.scans.maps import map_writer
from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.signal import SignalModel, check_times, signal_model
from medjax.recipes.puq_plan import make_plan, make_slab, prepare_slice
from medjax.recipes.puq_setup import MODELS
from medjax.recipes.scoring import NOTE
from medjax.runtime.progress import progress
from medjax.runtime.writer import write_atomic
from medjax.sharding import Rules, batch_sharding, shard_tree
from medjax.systems.quantification import Quantity

FAINT = 0.1  # of a slice's bright voxels: fainter ones are not in the summary
FIGURES = 6  # slices shown
LEVELS = {int(s): s.name.lower().replace("_", " ") for s in FitStatus}
FAILED = int(FitStatus.NOT_CONVERGED)  # and all codes above


class Seen(NamedTuple):
    """What the summary and the figures need of one slice."""

    value: Float[np.ndarray, "H W"]  # s
    sigma: Float[np.ndarray, "H W"]  # s
    status: Int[np.ndarray, "H W"]
    bright: Bool[np.ndarray, "H W"]


def predict(
    source: str,
    *,
    checkpoint: str | None,
    workdir: Path,
    seed: int,
    mesh: Mesh,
    rules: Rules,
    data: Mapping[str, Any],
    network: Mapping[str, Any],
    fit: Mapping[str, Any],
    predict: Mapping[str, Any],
    **unused: Mapping[str, Any],
) -> None:
    """Write maps, figures and a summary of a scan to `workdir`/predict/NAME.

    Args:
        source: path of the scan, or several joined by commas; see `data.scans.formats`.
        checkpoint: a run's folder, for its network.
        workdir: of the output.
        seed: of random shifts and dropout.
        mesh: devices; the slices of a slab are spread over them.
        rules: logical axis -> mesh axes.
        data: `contrast` of the config's network and bounds.
        network: the checkpoint's.
        fit: `bounds`, and the regressors' shape.
        predict: see the config.
        unused: of training.

    Raises:
        ValueError: a scan or option that does not fit; says what would.
        FileExistsError: maps are there already.
    """
    del unused
    paths = [part.strip() for part in source.split(",")]
    scan = open_scan(
        paths[0] if len(paths) == 1 else paths,
        times=tuple(predict["times"]) or None,
        contrast=predict["contrast"] or None,
    )
    model = _model(scan, predict["model"])
    check_times(scan.times, model=model, count=len(scan.times))
    ours = scan.contrast == data["contrast"]
    low, high = fit["bounds"] if ours else model.bounds
    quantity = Quantity(model, tuple(scan.times.tolist()), (float(low), float(high)))
    plan = make_plan(
        scan, quantity, checkpoint, data=data, network=network, fit=fit, options=predict
    )
    folder = workdir / "predict" / Path(paths[0]).name.split(".")[0]
    _say(f"{scan.path}: {scan.num_slices} slices, {scan.shape[0]} x {scan.shape[1]}")
    _say(f"{_describe(scan)}; {plan.name}")
    compute = _placed(plan.compute, mesh, rules, jax.random.key(seed))
    # the last contrast of a recovery is positive everywhere
    positive = int(np.argmax(scan.times)) if scan.contrast == "t1" else None
    names = _names(model)
    seen = []
    with map_writer(
        folder,
        scan,
        names=tuple(names),
        sidecar={"EstimationAlgorithm": plan.name},
        levels=LEVELS,
        overwrite=predict["overwrite"],
    ) as write:
        for maps, bright in _slices(scan, compute, positive, predict["slab"]):
            write({name: pick(maps) for name, pick in names.items()})
            seen.append(_seen(maps, model, bright))
    _finish(seen, scan, model, plan.name, folder)


def _slices(
    scan: Scan, compute: Callable[..., FitResult], positive: int | None, slab: int
) -> Iterator[tuple[FitResult, np.ndarray]]:
    """Fitted slices in order; what is in memory is a slab."""
    with progress("maps", first=0, total=scan.num_slices, show=()) as report:
        for first in range(0, scan.num_slices, slab):
            indices = range(first, min(first + slab, scan.num_slices))
            found = [prepare_slice(scan.read(i), positive=positive) for i in indices]
            batch = make_slab(found, first, slab)
            if first:
                fitted = jax.device_get(compute(batch))
            else:
                with report.busy(f"compiling for slabs of {slab}"):
                    fitted = jax.device_get(compute(batch))
            for row in range(len(indices)):
                maps = jax.tree.map(lambda x, row=row: x[row], fitted)
                yield maps, _bright(maps)
            report.step(indices[-1] + 1, {})


def _placed(compute, mesh: Mesh, rules: Rules, key) -> Callable[..., FitResult]:
    def run(batch):
        return compute(shard_tree(batch, batch_sharding(batch, mesh, rules)), key)

    return run


def _model(scan: Scan, name: str) -> SignalModel:
    """The model asked for, or the contrast's."""
    if scan.contrast == "vfa":
        return signal_model("t1_vfa", repetition_time=scan.repetition)
    return signal_model(name or MODELS[scan.contrast])


def _names(model: SignalModel) -> dict[str, Callable[[FitResult], Any]]:
    """NIfTI names (see `data.scans.maps`) -> what of a fit goes there."""
    constant = model.time_constant
    kind = "T1" if constant == "t1" else "T2"
    return {
        f"{kind}map": lambda maps: maps.params[constant],
        f"{kind}sigma": lambda maps: maps.sigma[constant],
        "M0map": lambda maps: np.abs(maps.params["s0"]),
        "M0sigma": lambda maps: maps.sigma["s0"],
        "residual": lambda maps: maps.residual,
        "rsquared": lambda maps: maps.r_squared,
        "status": lambda maps: maps.status,
    }


def _bright(maps: FitResult) -> Bool[np.ndarray, "H W"]:
    """Where there is an object: s0 above a tenth of the bright voxels'."""
    s0 = np.abs(maps.params["s0"])
    known = s0[np.isfinite(s0)]
    if not known.size:
        return np.zeros(s0.shape, bool)
    # what could not be fitted is counted wherever it lies among signal
    return ~np.isfinite(s0) & (maps.status != FitStatus.NO_SIGNAL) | (
        s0 > FAINT * np.quantile(known, 0.99)
    )


def _seen(maps: FitResult, model: SignalModel, bright: np.ndarray) -> Seen:
    name = model.time_constant
    value, sigma = np.asarray(maps.params[name]), np.asarray(maps.sigma[name])
    return Seen(value, sigma, np.asarray(maps.status), bright)


def _finish(
    seen: Sequence[Seen], scan: Scan, model: SignalModel, how: str, folder: Path
) -> None:
    """Figures, summary.json, and the summary for a person."""
    from medjax.report.maps import map_figure, write_png

    chosen = np.unique(np.linspace(0, len(seen) - 1, FIGURES).round().astype(int))
    for z in chosen.tolist():
        figure = map_figure(
            seen[z].value,
            seen[z].sigma,
            seen[z].status,
            contrast=scan.contrast,
            levels=LEVELS,
            roi=seen[z].bright,
            title=f"{scan.path.name}, slice {z}: {how}",
        )
        write_png(folder / "figures" / f"slice_{z:03d}.png", figure)
    summary = summarise(seen, model)
    write_atomic(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    _say(
        f"{model.time_constant} in {summary['voxels']} voxels with signal: median "
        f"{summary['median_ms']:.1f} ms, quartiles {summary['quartiles_ms'][0]:.1f} to "
        f"{summary['quartiles_ms'][1]:.1f} ms, median sigma "
        f"{summary['median_sigma_ms']:.2f} ms"
    )
    _say(
        f"at a bound: {100 * summary['share_at_bounds']:.2f} %, failed: "
        f"{summary['failed']} voxels"
    )
    _say(f"maps, figures and summary.json: {folder}\n{NOTE}")


def summarise(seen: Sequence[Seen], model: SignalModel) -> dict[str, Any]:
    """Numbers over the voxels with signal; NaN only where there is none."""
    value, sigma, status = (
        np.concatenate([getattr(one, name)[one.bright] for one in seen])
        for name in ("value", "sigma", "status")
    )
    times = 1e3 * value[np.isfinite(value)]
    errors = 1e3 * sigma[np.isfinite(sigma)]

    def quantile(x: np.ndarray, q: float) -> float:
        return float(np.quantile(x, q)) if x.size else float("nan")

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
    }


def _describe(scan: Scan) -> str:
    """`8 TE from 0 to 125 ms`."""
    if scan.contrast == "vfa":
        angles = np.rad2deg(scan.times)
        return (
            f"{len(angles)} flip angles, {angles.min():g} to {angles.max():g} degrees"
        )
    name = {"t2": "TE", "t1": "TI"}[scan.contrast]
    times = 1e3 * scan.times
    return f"{len(times)} {name}, {times.min():g} to {times.max():g} ms"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
