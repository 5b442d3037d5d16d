"""What `predict` does with a scan, decided before anything is reconstructed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.data.scans.b1 import read_b1
from medjax.data.scans.formats import Scan, middle_filled, open_scan
from medjax.mri.model import SignalModel
from medjax.mri.times import check_times
from medjax.recipes.qmri.choice import Choice
from medjax.recipes.qmri.compute import TRANSMIT
from medjax.recipes.qmri.models import choose_model
from medjax.recipes.qmri.options import Definition, Predict
from medjax.recipes.qmri.phases import moved_contrasts
from medjax.recipes.qmri.plan import Plan, make_plan
from medjax.recipes.qmri.skipping import skip_first
from medjax.recipes.qmri.t2_models import nominal_refocusing
from medjax.recipes.qmri.trained import find_trained
from medjax.recipes.qmri.verdict import ranges
from medjax.systems.puq.network import Quantity


class Decision(NamedTuple):
    """What is done with a scan, before anything is reconstructed or fitted."""

    scan: Scan  # without the echoes that are skipped
    choice: Choice
    plan: Plan
    bounds: tuple[float, float]  # of the time constant, s
    b1: Float[np.ndarray, "Z H W"] | None  # B1+ / nominal, where a map is named
    replaced: tuple[str, ...]  # of the config, by what a checkpoint's manifest says

    @property
    def notes(self) -> list[str]:
        """What a person must know; "doubt: " the maps may err."""
        doubt = self.choice.doubt and f"doubt: {self.choice.doubt}"
        return list(
            filter(
                None, (*self.scan.notes, self.plan.phases.note, *self.plan.notes, doubt)
            )
        )

    @property
    def lines(self) -> list[str]:
        """It in words, with all notes, for a person."""
        scan, model = self.scan, self.choice.model
        return [
            *self.replaced,
            f"{scan.path}: {scan.num_slices} slices, {scan.shape[0]} x {scan.shape[1]}",
            f"{_describe(scan)}; {self.plan.name}",
            f"{model.name}: {self.choice.reason}",
            *self.notes,
        ]


def open_source(source: str, options: Predict) -> Scan:
    """The scan that `--input` names.

    Args:
        source: A path, or several joined by commas.
        options: Their times, contrast, sensitivities, noise and voxel size win over the
            file.

    Raises:
        ValueError: It cannot be read as `options` say; the message says what would.
        FileNotFoundError: There is no such file.
    """
    paths = _paths(source)
    return open_scan(
        paths[0] if len(paths) == 1 else paths,
        times=options.times or None,
        contrast=options.contrast or None,
        sens=options.sens or None,
        noise=options.noise_scan or None,
        orientation=options.orientation,
        voxel_mm=options.voxel_mm or None,
    )


def decide(
    scan: Scan, *, checkpoint: str | None, options: Predict, config: Definition
) -> Decision:
    """Model, method and phases of a scan, all that `predict` refuses to begin with.

    Read are the first filled slice and the middle one, and three spread over the scan
    for phases (k-space) or for the level of the noise (magnitudes).

    Args:
        scan: As `open_source` gives it.
        checkpoint: Of `predict`, like the others.
        options: The section `predict`.
        config: The network, and the fit's bounds, of the sections beside it.

    Raises:
        ValueError: The scan or an option does not fit; the message says what would.
        FileNotFoundError: There is no such checkpoint.
    """
    if options.slab < 1:
        raise ValueError(f"predict.slab {options.slab}: expected at least 1 slice")
    _check_protocol(scan)
    scan = skip_first(scan, options.skip)
    networked = bool(checkpoint) and scan.kind == "kspace" and not options.method
    choice = choose_model(scan, options, trained=networked)
    model = choice.model
    lists = [scan.times] if scan.slice_times is None else scan.slice_times
    for times in lists:
        check_times(times, model=model, count=len(times))
    _check_sign(scan, model, magnitude=options.magnitude)
    contrast, bounds, trained = config.data.contrast, config.fit.bounds, None
    told: tuple[str, ...] = ()
    if checkpoint and networked:
        trained, replaced = find_trained(
            checkpoint, config, options.usual, fit=options.fit
        )
        contrast, bounds = trained.contrast, trained.estimator.quantity.bounds
        if replaced:
            told = (f"{checkpoint}: as its manifest says, {'; '.join(replaced)}",)
    # T2* is shorter than the T2 that the config's bounds are for; but a network's
    # regressors give shares of the upper bound that it was trained with.
    own = trained is None and model.time_constant != contrast
    low, high = model.bounds if own else bounds
    quantity = Quantity(model, tuple(scan.times.tolist()), (float(low), float(high)))
    plan = make_plan(
        scan, quantity, trained, contrast=config.data.contrast, options=options
    )
    scan = scan._replace(notes=(*scan.notes, *moved_contrasts(scan)))
    b1 = _transmit_field(scan, model, options.b1)
    return Decision(scan, choice, plan, quantity.bounds, b1, told)


def maps_folder(workdir: Path, source: str) -> Path:
    """Where the maps of a scan go.

    Args:
        workdir: The run's.
        source: As `--input` has it; of several files the first gives the name.
    """
    return workdir / "predict" / _title(Path(_paths(source)[0]))


def _paths(source: str) -> list[str]:
    return [part.strip() for part in source.split(",")]


def noted_doubts(decision: Decision, apart: Sequence[int]) -> list[str]:
    """What makes maps doubtful by what was decided, and by the contrasts' phases.

    Args:
        decision: Its notes are read.
        apart: The slices whose contrasts differ in phase, which were taken to agree.
    """
    notes, prefix = decision.notes, "doubt: "
    lines = [n.removeprefix(prefix) for n in notes if n.startswith(prefix)]
    if apart:
        lines.append(
            f"contrasts differ in phase in slices {ranges(apart)}, which the others "
            "tested do not show; say --config.predict.phase=each"
        )
    return lines


def _title(path: Path) -> str:
    """`mese.v2.nii.gz` -> `mese.v2`; a folder's name is whole."""
    name = path.name.removesuffix(".gz")
    return path.name if path.is_dir() else Path(name).stem


def _check_protocol(scan: Scan) -> None:
    """Refuse by name what no model takes."""
    protocol = scan.protocol
    if len(protocol.repetition) > 1 and scan.contrast == "t2":
        raise ValueError(
            f"{scan.path}: repetition times {protocol.repetition} s; expected one for "
            "all echoes. Name those that have the same"
        )
    if protocol.sequence == "MP2RAGE":
        raise ValueError(
            f"{scan.path}: an MP2RAGE measurement, two trains of gradient echoes after "
            "one inversion; expected one readout after each. Its T1 is looked up from "
            "Python, by medjax.mri.mp2rage_t1"
        )


def _transmit_field(
    scan: Scan, model: SignalModel, path: str
) -> Float[np.ndarray, "Z H W"] | None:
    """The map of B1+, if one is named, for a model that takes it.

    Of refocusing pulses it becomes relative to 180 degrees, whatever is nominal.
    """
    if not path:
        return None
    if model.name not in TRANSMIT:
        raise ValueError(
            f"{scan.path}: predict.b1 {path}: {model.name} has no flip angle that a "
            f"map of B1+ could scale; it is for {', '.join(TRANSMIT)}. Leave it out"
        )
    ratio = read_b1(Path(path), scan)
    if not model.train:
        return ratio
    return ratio * np.float32(nominal_refocusing(scan) / math.pi)


def _check_sign(scan: Scan, model: SignalModel, *, magnitude: bool) -> None:
    """Signed and absolute images after an inversion, told by the middle slice."""
    if scan.kind == "kspace":
        if magnitude:
            raise ValueError(
                f"{scan.path}: predict.magnitude is of images; k-space has its signs"
            )
        return
    if not model.crosses_zero:
        return
    signed = bool((np.asarray(middle_filled(scan).images) < 0).any())
    if magnitude == signed:
        sign = "with" if signed else "without"
        raise ValueError(
            f"{scan.path}: images {sign} negative values, predict.magnitude is "
            f"{magnitude}; say --config.predict.magnitude={not magnitude} to "
            + ("fit them as they are" if signed else "look for the sign")
        )


def _describe(scan: Scan) -> str:
    """`8 TE from 0 to 125 ms`."""
    if scan.contrast == "vfa":
        angles = np.rad2deg(scan.times)
        return (
            f"{len(angles)} flip angles, {angles.min():g} to {angles.max():g} degrees"
        )
    name = {"t2": "TE", "t1": "TI"}[scan.contrast]
    times = 1e3 * scan.times
    found = f"{len(times)} {name}, {times.min():g} to {times.max():g} ms"
    if scan.slice_times is None:
        return found
    return f"{found} in the middle, and times of their own in each slice"
