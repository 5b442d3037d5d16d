"""Maps of a user's scan, a slab of slices at a time, with figures and a summary."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from medjax.data.scans.formats import Scan, first_filled, open_scan
from medjax.data.scans.writer import map_writer
from medjax.mri.fit import FitResult
from medjax.mri.signals import SignalModel
from medjax.mri.times import check_times
from medjax.recipes.qmri.compute import Compute, Inputs, slab_inputs
from medjax.recipes.qmri.evidence import Fitted
from medjax.recipes.qmri.models import choose_model
from medjax.recipes.qmri.options import Predict, read_definition
from medjax.recipes.qmri.outputs import SUMMARY
from medjax.recipes.qmri.phases import Phases
from medjax.recipes.qmri.plan import make_plan
from medjax.recipes.qmri.skipping import skip_first
from medjax.recipes.qmri.slabs import fitted_slices
from medjax.recipes.qmri.summary import say, write_summary
from medjax.recipes.qmri.trained import find_trained
from medjax.recipes.qmri.verdict import LEVELS, Known, SliceMaps, ranges, slice_maps
from medjax.recipes.sections import read_section
from medjax.sharding import Rules, batch_sharding, shard_tree
from medjax.systems.puq.network import Quantity
from medjax.types import QmriBatch


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
        source: Path of the scan, or several joined by commas; see `data.scans.formats`.
        checkpoint: A run's folder, for its network; None or "" for a classical method.
            It is not opened for images, nor where a method of k-space is named.
        workdir: The folder in which predict/NAME is made.
        seed: Decides random shifts and dropout; other seeds give slightly other maps.
        mesh: The devices that the slices of a slab are spread over.
        rules: The mesh axes of each logical axis; they must name "batch", that of the
            slices.
        data: Section of the config; its contrast is that of bounds and subspaces.
        network: Section of the config; a checkpoint's own takes its place.
        fit: Section of the config; the bounds and the regressors' shape are read.
        predict: Section of the config; what it leaves empty follows from the scan.
        unused: Sections of the config for training, which are not read.

    Returns:
        What makes the maps doubtful, a line each, as summary.json has them under
        "warnings": slices without signal, many voxels that could not be fitted, a model
        that is not the scan's. Where `predict.strict` is False they are printed, and
        nothing is returned.

    Raises:
        ValueError: A scan or an option does not fit; the message says what would.
        FileExistsError: Maps or their summary are there already.
    """
    del unused
    options = read_section(Predict, "predict", predict)
    config = read_definition({"data": data, "network": network, "fit": fit})
    if options.slab < 1:
        raise ValueError(f"predict.slab {options.slab}: expected at least 1 slice")
    paths = [part.strip() for part in source.split(",")]
    scan = open_scan(
        paths[0] if len(paths) == 1 else paths,
        times=options.times or None,
        contrast=options.contrast or None,
        sens=options.sens or None,
        voxel_mm=options.voxel_mm or None,
    )
    _check_protocol(scan)
    scan = skip_first(scan, options.skip)
    networked = bool(checkpoint) and scan.kind == "kspace" and not options.method
    choice = choose_model(scan, options, trained=networked)
    model = choice.model
    check_times(scan.times, model=model, count=len(scan.times))
    _check_sign(scan, model, magnitude=options.magnitude)
    contrast, bounds, trained = config.data.contrast, config.fit.bounds, None
    if checkpoint and networked:
        trained, replaced = find_trained(
            checkpoint, config, options.usual, fit=options.fit
        )
        contrast, bounds = trained.contrast, trained.estimator.quantity.bounds
        if replaced:
            say(f"{checkpoint}: as its manifest says, {'; '.join(replaced)}")
    # T2* is shorter than the T2 that the config's bounds are for.
    low, high = bounds if model.time_constant == contrast else model.bounds
    quantity = Quantity(model, tuple(scan.times.tolist()), (float(low), float(high)))
    plan = make_plan(
        scan, quantity, trained, contrast=config.data.contrast, options=options
    )
    say(f"{scan.path}: {scan.num_slices} slices, {scan.shape[0]} x {scan.shape[1]}")
    say(f"{_describe(scan)}; {plan.name}")
    say(f"{model.name}: {choice.reason}")
    for note in (*scan.notes, *([plan.phases.note] if plan.phases.note else ())):
        say(note)
    slab = min(options.slab, scan.num_slices)
    slab += -slab % mesh.size
    make = partial(slab_inputs, scan, key=jax.random.key(seed), basis=plan.basis)
    compute = partial(_placed, plan.compute, make, mesh, rules)
    phases, apart = plan.phases, []
    fits = fitted_slices(
        scan,
        compute,
        model,
        phases.reference,
        slab,
        apart=apart if phases.shared and phases.tested else None,
    )
    folder, names = workdir / "predict" / _title(Path(paths[0])), _names(model)
    slices = _write(fits, scan, model, plan.name, folder, overwrite=options.overwrite)
    warnings = write_summary(
        slices,
        scan,
        Known(model, quantity.bounds, _repetition(scan), plan.noise),
        plan.name,
        folder,
        maps=[f"{name}.{suffix}" for name in names for suffix in ("nii.gz", "json")],
        reason=choice.reason,
        noted=_noted_doubts(scan, phases, apart),
    )
    if options.strict:
        return warnings
    for line in warnings:
        say(f"warning: {line}")
    return []


def _repetition(scan: Scan) -> float | None:
    """The shortest TR that is known, s."""
    known = scan.protocol.repetition
    return min(known) if known else scan.repetition


def _noted_doubts(scan: Scan, phases: Phases, apart: Sequence[int]) -> list[str]:
    """What makes maps doubtful by the reader's notes, and by the contrasts' phases."""
    notes, prefix = (*scan.notes, phases.note), "doubt: "
    lines = [n.removeprefix(prefix) for n in notes if n.startswith(prefix)]
    if apart:
        lines.append(
            f"contrasts differ in phase in slices {ranges(apart)}, which the others "
            "tested do not show; say --config.predict.phase=each"
        )
    return lines


def _write(
    fits: Iterator[Fitted],
    scan: Scan,
    model: SignalModel,
    method: str,
    folder: Path,
    *,
    overwrite: bool,
) -> list[SliceMaps]:
    """Maps, slice by slice; returns what the summary needs of them."""
    names = _names(model)
    slices = []
    with map_writer(
        folder,
        scan,
        names=tuple(names),
        sidecar={"EstimationAlgorithm": method},
        levels=LEVELS,
        overwrite=overwrite,
    ) as write:
        if (folder / SUMMARY).exists() and not overwrite:
            raise FileExistsError(
                f"{folder / SUMMARY} exists; choose another workdir, or set "
                "predict.overwrite"
            )
        for fitted in fits:
            write({name: pick(fitted.maps) for name, pick in names.items()})
            slices.append(slice_maps(fitted, model))
    return slices


def _placed(
    compute: Compute,
    make: Callable[[QmriBatch], Inputs],
    mesh: Mesh,
    rules: Rules,
    batch: QmriBatch,
) -> Fitted:
    """Maps of a slab that is spread over the devices."""
    inputs = make(batch)
    spread = {"batch": inputs.batch, "b1": inputs.b1}
    spread = shard_tree(spread, batch_sharding(spread, mesh, rules))
    return compute(inputs._replace(**spread))


def _title(path: Path) -> str:
    """`mese.v2.nii.gz` -> `mese.v2`; a folder's name is whole."""
    name = path.name.removesuffix(".gz")
    return path.name if path.is_dir() else Path(name).stem


def _check_protocol(scan: Scan) -> None:
    """Refuse by name what no model takes."""
    protocol = scan.protocol
    if len(protocol.repetition) > 1:
        raise ValueError(
            f"{scan.path}: repetition times {protocol.repetition} s; expected one for "
            "all images. Name those that have the same"
        )
    if protocol.sequence in ("LL", "MOLLI", "MP2RAGE"):
        raise ValueError(
            f"{scan.path}: a {protocol.sequence} measurement, several readouts after "
            "one inversion; expected one readout after each. Its T1 needs another model"
        )
    if scan.slice_times is not None:
        raise ValueError(
            f"{scan.path}: inversion times differ by slice; expected one list for all"
        )


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
        sign = "with" if signed else "without"
        raise ValueError(
            f"{scan.path}: images {sign} negative values, predict.magnitude is "
            f"{magnitude}; say --config.predict.magnitude={not magnitude} to "
            + ("fit them as they are" if signed else "look for the sign")
        )


def _names(model: SignalModel) -> dict[str, Callable[[FitResult], Any]]:
    """NIfTI names (see `data.scans.writer`) -> what of a fit goes there."""
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
