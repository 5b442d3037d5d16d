"""Maps of a user's scan, a slab of slices at a time, with figures and a summary."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from medjax.data.scans.formats import Scan, first_filled, open_scan
from medjax.data.scans.writer import map_writer
from medjax.mri.fit import FitResult
from medjax.mri.signals import SignalModel, check_times, signal_model
from medjax.recipes.qmri.files import SUMMARY
from medjax.recipes.qmri.plan import make_plan
from medjax.recipes.qmri.setup import MODELS
from medjax.recipes.qmri.slabs import fitted_slices
from medjax.recipes.qmri.summary import LEVELS, say, see, write_summary
from medjax.recipes.qmri.trained import find_trained
from medjax.sharding import Rules, batch_sharding, shard_tree
from medjax.systems.puq.maps import Quantity

CONSTANTS = {"t2": ("t2", "t2star"), "t1": ("t1",)}  # by contrast: of its models


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
) -> list[str]:
    """Write maps, figures and a summary of a scan to `workdir`/predict/NAME.

    Args:
        source: path of the scan, or several joined by commas; see `data.scans.formats`.
        checkpoint: a run's folder, for its network; see `find_trained`.
        workdir: of the output.
        seed: of random shifts and dropout.
        mesh: devices; the slices of a slab are spread over them.
        rules: logical axis -> mesh axes.
        data: `contrast` of the config's bounds and subspaces.
        network: see `find_trained`.
        fit: `bounds`, and the regressors' shape.
        predict: see the config.
        unused: of training.

    Returns:
        What makes the maps doubtful, a line each: slices without signal, many voxels
        that could not be fitted.

    Raises:
        ValueError: a scan or option that does not fit; says what would.
        FileExistsError: maps or their summary are there already.
    """
    del unused
    if predict["slab"] < 1:
        raise ValueError(f"predict.slab {predict['slab']}: expected at least 1 slice")
    paths = [part.strip() for part in source.split(",")]
    scan = open_scan(
        paths[0] if len(paths) == 1 else paths,
        times=tuple(predict["times"]) or None,
        contrast=predict["contrast"] or None,
        sens=predict["sens"] or None,
        voxel_mm=tuple(predict["voxel_mm"]) or None,
    )
    model = _model(scan, predict["model"])
    check_times(scan.times, model=model, count=len(scan.times))
    _check_sign(scan, model, magnitude=predict["magnitude"])
    contrast, trained = data["contrast"], None
    if checkpoint and scan.kind == "kspace" and not predict["method"]:
        config = {"data": data, "network": network, "fit": fit}
        usual, use = predict["usual"], predict["fit"]
        trained, other = find_trained(checkpoint, config, usual=usual, use=use)
        data, fit = trained.data, trained.fit
        if other:
            say(f"{checkpoint}: as its manifest says, {'; '.join(other)}")
    ours = scan.contrast == data["contrast"]
    low, high = fit["bounds"] if ours else model.bounds
    quantity = Quantity(model, tuple(scan.times.tolist()), (float(low), float(high)))
    plan = make_plan(scan, quantity, trained, contrast=contrast, options=predict)
    folder = workdir / "predict" / _title(Path(paths[0]))
    say(f"{scan.path}: {scan.num_slices} slices, {scan.shape[0]} x {scan.shape[1]}")
    say(f"{_describe(scan)}; {plan.name}")
    compute = _placed(plan.compute, mesh, rules, jax.random.key(seed))
    # The last contrast of a recovery is positive wherever T1 < TI / log 2. The sign of
    # longer ones turns in all contrasts together, which changes s0 alone.
    positive = int(np.argmax(scan.times)) if scan.contrast == "t1" else None
    names = _names(model)
    seen = []
    how = {"levels": LEVELS, "overwrite": predict["overwrite"]}
    how |= {"names": tuple(names), "sidecar": {"EstimationAlgorithm": plan.name}}
    with map_writer(folder, scan, **how) as write:
        if (folder / SUMMARY).exists() and not predict["overwrite"]:
            raise FileExistsError(
                f"{folder / SUMMARY} exists; choose another workdir, or set "
                "predict.overwrite"
            )
        slab = min(predict["slab"], scan.num_slices)
        slab += -slab % mesh.size
        for maps in fitted_slices(scan, compute, model, positive, slab):
            write({name: pick(maps) for name, pick in names.items()})
            seen.append(see(maps, model))
    files = [f"{name}.{suffix}" for name in names for suffix in ("nii.gz", "json")]
    return write_summary(seen, scan, model, plan.name, folder, maps=files)


def _title(path: Path) -> str:
    """`mese.v2.nii.gz` -> `mese.v2`; a folder's name is whole."""
    name = path.name.removesuffix(".gz")
    return path.name if path.is_dir() else Path(name).stem


def _placed(compute, mesh: Mesh, rules: Rules, key) -> Callable[..., FitResult]:
    def run(batch):
        return compute(shard_tree(batch, batch_sharding(batch, mesh, rules)), key)

    return run


def _model(scan: Scan, name: str) -> SignalModel:
    """The model asked for, or the contrast's."""
    if scan.contrast == "vfa":
        if scan.repetition is None:
            raise ValueError(
                f"{scan.path}: flip angles without a repetition time; expected 'tr' in "
                "the file, or RepetitionTime in its sidecar, in seconds"
            )
        if name in ("", "t1_vfa"):
            return signal_model("t1_vfa", repetition_time=scan.repetition)
    model = signal_model(name or MODELS[scan.contrast])
    if model.time_constant not in CONSTANTS.get(scan.contrast, ()):
        raise ValueError(
            f"{scan.path}: predict.model {name!r} is none of a {scan.contrast} scan"
        )
    return model


def _check_sign(scan: Scan, model: SignalModel, *, magnitude: bool) -> None:
    """Signed and absolute images after an inversion, told by the middle slice.

    That one shows most of an object; where it is empty, the first that is not.
    """
    if scan.kind == "kspace":
        if magnitude:
            raise ValueError(
                f"{scan.path}: predict.magnitude is of images; k-space has its signs"
            )
        return
    if not model.crosses_zero:
        return
    middle = scan.read(scan.num_slices // 2)
    images = (first_filled(scan) if middle.empty else middle).images
    signed = bool((np.asarray(images) < 0).any())
    if magnitude == signed:
        found = "with" if signed else "without"
        raise ValueError(
            f"{scan.path}: images {found} negative values, predict.magnitude is "
            f"{magnitude}; say --config.predict.magnitude={not magnitude} to "
            + ("fit them as they are" if signed else "look for the sign")
        )


def _names(model: SignalModel) -> dict[str, Callable[[FitResult], Any]]:
    """NIfTI names (see `data.scans.maps`) -> what of a fit goes there."""
    constant = model.time_constant
    kind = constant.replace("t", "T", 1)
    return {
        f"{kind}map": lambda maps: maps.params[constant],
        f"{kind}sigma": lambda maps: maps.sigma[constant],
        "M0map": lambda maps: np.abs(maps.params["s0"]),
        "M0sigma": lambda maps: maps.sigma["s0"],
        "residual": lambda maps: maps.residual,
        "rsquared": lambda maps: maps.r_squared,
        "status": lambda maps: maps.status,
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
