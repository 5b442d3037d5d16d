"""Maps of a user's scan, a slab of slices at a time, with figures and a summary."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from medjax.data.scans.formats import Scan
from medjax.data.scans.writer import map_writer
from medjax.evals.regions import RegionSums
from medjax.mri.model import SignalModel
from medjax.recipes.qmri.choice import shown_kind, shown_parameter
from medjax.recipes.qmri.compute import Compute, Inputs, slab_inputs
from medjax.recipes.qmri.contest import Contest, hold_contest
from medjax.recipes.qmri.decide import (
    Decision,
    decide,
    maps_folder,
    noted_doubts,
    open_source,
)
from medjax.recipes.qmri.evidence import Fitted
from medjax.recipes.qmri.findings import LEVELS, Known, SliceMaps, slice_maps
from medjax.recipes.qmri.joint import (
    posterior_fields,
    regularisation_fields,
    self_check,
)
from medjax.recipes.qmri.maps_page import Told
from medjax.recipes.qmri.moved import check_motion, noticeable
from medjax.recipes.qmri.options import Predict, read_definition
from medjax.recipes.qmri.outputs import SUMMARY
from medjax.recipes.qmri.region_results import region_results
from medjax.recipes.qmri.regions import (
    Regions,
    read_regions,
    region_notes,
    slice_sums,
)
from medjax.recipes.qmri.slabs import fitted_slices
from medjax.recipes.qmri.summary import (
    counted,
    draw_slice,
    posterior_summary,
    say,
    shown_slices,
    write_summary,
)
from medjax.recipes.qmri.t2_models import nominal_refocusing
from medjax.recipes.qmri.trusted import REASONS, empty_trusted
from medjax.recipes.sections import read_section
from medjax.report.qmri import import_figures
from medjax.sharding import Rules, batch_sharding, shard_tree
from medjax.systems.puq.scan_checks import Verdict, verdict_text
from medjax.types import Key, QmriBatch


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
    scan = open_source(source, options)
    with ThreadPoolExecutor(1) as thread:  # the first read waits for the unpacking
        thread.submit(import_figures)
        decision = decide(scan, checkpoint=checkpoint, options=options, config=config)
    folder = maps_folder(workdir, source)
    if (folder / SUMMARY).exists() and not options.overwrite:
        raise FileExistsError(
            f"{folder / SUMMARY} exists; choose another workdir, or set "
            "predict.overwrite"
        )
    regions = read_regions(scan, options, shown_kind(decision.choice.model))
    for line in (*decision.lines, *region_notes(regions)):
        say(line)
    decision, contest = _contested(decision, jax.random.key(seed))
    scan, choice, plan = decision.scan, decision.choice, decision.plan
    model, phases, apart = choice.model, plan.phases, []
    slab = min(options.slab, scan.num_slices)
    slab += -slab % mesh.size
    make = partial(
        slab_inputs,
        scan,
        key=jax.random.key(seed),
        basis=plan.basis,
        b1=decision.b1,
        noise=plan.floor.level,
    )
    compute = partial(_placed, plan.compute, make, mesh, rules)
    fits = fitted_slices(
        scan,
        compute,
        model,
        phases.reference,
        slab,
        apart=apart if phases.shared and phases.tested else None,
        whole=plan.full,
    )
    names = _names(model, scan, trusted=plan.trusted)
    written = _write(fits, decision, regions, folder, options)
    maps = [f"{name}.{suffix}" for name in names for suffix in ("nii.gz", "json")]
    replicas = plan.joint is not None and plan.joint.trusting.replicas > 0
    told = region_results(
        regions,
        written.sums,
        folder,
        maps=tuple(names),
        model=model,
        known=replicas or plan.full,  # how voxels err
        alone=plan.full,
        title=f"{scan.path.name}: {plan.name}",
    )
    for line in told.lines:
        say(line)
    checks = [  # of the error bars: the maps may be right
        ("warning: " if verdict.narrow else "") + verdict_text(verdict)
        for verdict in written.verdicts
    ]
    for line in checks:
        say(line)
    warnings = write_summary(
        written.slices,
        scan,
        _known(decision, registered=bool(options.register)),
        plan.name,
        folder,
        maps=[*maps, *told.files],
        reason=choice.reason,
        noted=noted_doubts(decision, apart),
        drawn=written.drawn,
        posterior=written.posterior,
        compared=None if contest is None else contest._asdict(),
        facts=dict(told.facts),
        figures=dict(told.figures),
        told=Told(
            f"{scan.path.name}: {shown_kind(model)}",
            found=(*checks, *told.story, *region_notes(regions)),
            done=(*decision.lines, *(() if contest is None else (contest.line,))),
            tables=told.tables,
            source=str(scan.path),
        ),
    )
    return counted(warnings, strict=options.strict)


def _contested(decision: Decision, key: Key) -> tuple[Decision, Contest | None]:
    """The network, or joint TV where it predicts held-out lines better."""
    plan = decision.plan
    if plan.misfits is None or plan.rival is None:
        return decision, None
    found = hold_contest(
        decision.scan, plan.misfits, key, positive=plan.phases.reference
    )
    say(found.line)
    if found.better == "network":
        return decision, found
    for line in plan.rival.notes:
        say(line)
    return decision._replace(plan=plan.rival), found


def _known(decision: Decision, *, registered: bool) -> Known:
    """What the maps are held against."""
    scan, plan = decision.scan, decision.plan
    repetition = scan.protocol.repetition
    return Known(
        decision.choice.model,
        decision.bounds,
        min(repetition) if repetition else scan.repetition,
        plan.floor,
        registered=registered,
        full=plan.full,
        noted=noticeable(scan.shape, decision.choice.model),
    )


class Written(NamedTuple):
    """What the summary and the table of regions need of all slices."""

    slices: list[SliceMaps]
    sums: list[dict[int, RegionSums]]
    drawn: dict[int, Future[bytes]]  # figures of slices that may be shown
    posterior: dict[str, Any] | None  # as JSON; None without one
    verdicts: tuple[Verdict, ...] = ()  # of its error bars


def _write(
    fits: Iterator[Fitted],
    decision: Decision,
    regions: Regions | None,
    folder: Path,
    options: Predict,
) -> Written:
    """Maps, slice by slice; returns what the summary needs of them.

    Where contrasts have to lie still, one that moved far is refused.
    """
    scan, plan, model = decision.scan, decision.plan, decision.choice.model
    names = _names(model, scan, trusted=plan.trusted)
    still = plan.full and not options.register
    sidecar: dict[str, Any] = {"EstimationAlgorithm": plan.name}
    slices, sums, weights, checks, drawn = [], [], [], [], {}
    verdicts: tuple[Verdict, ...] = ()
    early = shown_slices(range(scan.num_slices))  # where none is empty
    with (
        ThreadPoolExecutor(1) as thread,
        map_writer(
            folder,
            scan,
            names=tuple(names),
            sidecar=sidecar,
            levels={"status": LEVELS, "distrust": REASONS},
            details=_details(model, options) if plan.trusted else {},
            overwrite=options.overwrite,
        ) as write,
    ):
        for z, fitted in enumerate(fits):
            if still:
                origin = f"{scan.path.name}, slice {z}"
                check_motion(fitted.shift, fitted.bright, origin)
            if plan.trusted and fitted.trusted is None:  # a slice without signal
                count = plan.joint.trusting.replicas if plan.joint else 0
                fitted = fitted._replace(trusted=empty_trusted(scan.shape, count))
            write({name: pick(fitted) for name, pick in names.items()})
            slices.append(slice_maps(fitted, model))
            if z in early:
                drawn[z] = thread.submit(draw_slice, slices[z], z, scan, plan.name)
            if regions is not None:
                sums.append(slice_sums(regions, z, fitted, model))
            if fitted.trusted is not None:
                weights.append((fitted.trusted.weight, fitted.trusted.interior))
                if fitted.trusted.checks is not None:
                    checks.append(fitted.trusted.checks)
        if plan.joint is not None:  # known when all slices are in
            chosen = np.array([w for w, _ in weights], float)
            interior = np.array([i for _, i in weights], bool)
            how = plan.joint.trusting
            sidecar["Posterior"] = posterior_fields(plan.joint)
            if how.calibration.reconstruction == "joint TV":
                fields = regularisation_fields(chosen, interior, how)
                sidecar["Regularisation"] = fields
            verdicts = self_check(plan.joint, checks)
            sidecar["SelfChecks"] = [x._asdict() | {"holds": x.holds} for x in verdicts]
    if not plan.trusted:
        return Written(slices, sums, drawn, None)
    found = posterior_summary(slices, options.quantiles)
    fields = ("Posterior", "Regularisation", "SelfChecks")
    kept = {k: sidecar[k] for k in fields if k in sidecar}
    return Written(slices, sums, drawn, found | kept, verdicts)


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


def _details(model: SignalModel, options: Predict) -> dict[str, dict[str, Any]]:
    """What the sidecar of each map of a posterior says beside the others."""
    kind = shown_kind(model)
    low, high = options.quantiles
    return {
        f"{kind}map": {"Statistic": "median of the posterior"},
        f"{kind}mean": {"Statistic": "mean of the posterior"},
        f"{kind}sigma": {"Statistic": "standard deviation of the posterior"},
        f"{kind}low": {"Statistic": "quantile of the posterior", "Quantile": low},
        f"{kind}high": {"Statistic": "quantile of the posterior", "Quantile": high},
    }


def _names(
    model: SignalModel, scan: Scan, *, trusted: bool
) -> dict[str, Callable[[Fitted], Any]]:
    """NIfTI names (see `data.scans.writer`) -> what of a slice goes there."""
    constant, shown = model.time_constant, shown_parameter(model)

    def pair(name: str) -> dict[str, Callable[[Fitted], Any]]:
        kind = name.replace("t", "T", 1)
        return {
            f"{kind}map": lambda one: one.maps.params[name],
            f"{kind}sigma": lambda one: one.maps.sigma[name],
        }

    more = pair(constant) if constant != shown else {}
    if "t1star" in model.parameters:  # B / 2A of A - B exp(-t/T1*)
        more["efficiency"] = lambda one: (
            (1 + one.maps.params["t1"] / one.maps.params["t1star"]) / 2
        )
    if model.train:
        nominal = nominal_refocusing(scan)
        more["TB1map"] = lambda one: one.maps.params["angle"] / nominal
    if "efficiency" in model.parameters:
        more["efficiency"] = lambda one: one.maps.params["efficiency"]
    if trusted:
        kind = shown_kind(model)
        more |= {
            name: partial(_of_posterior, field)
            for name, field in (
                (f"{kind}mean", "mean"),
                (f"{kind}low", "low"),
                (f"{kind}high", "high"),
                ("distrust", "distrust"),
            )
        }
    return {
        **pair(shown),
        **more,
        "M0map": lambda one: np.abs(one.maps.params["s0"]),
        "M0sigma": lambda one: one.maps.sigma["s0"],
        "residual": lambda one: one.maps.residual,
        "rsquared": lambda one: one.maps.r_squared,
        "status": lambda one: one.maps.status,
    }


def _of_posterior(field: str, fitted: Fitted) -> Any:  # noqa: ANN401
    return getattr(fitted.trusted, field)
