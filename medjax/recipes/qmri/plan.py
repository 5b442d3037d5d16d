"""What `predict` computes of one slab of slices: k-space or images to fitted maps."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from medjax.data.scans.formats import Scan, ScanSlice, first_filled
from medjax.recipes.qmri.calibrated import shipped
from medjax.recipes.qmri.choice import shown_parameter
from medjax.recipes.qmri.compute import Compute, fit_kspace, fit_pictures
from medjax.recipes.qmri.contest import Misfits, make_misfits
from medjax.recipes.qmri.evidence import Fitted, gather
from medjax.recipes.qmri.floor import KSPACE, Floor, find_floor
from medjax.recipes.qmri.joint import (
    KIND,
    OF_NETWORKS,
    Joint,
    centre_lines,
    check_posterior_options,
    make_joint,
    too_few_lines,
)
from medjax.recipes.qmri.method_choice import (
    default_method,
    keeping_inversions,
    keeping_stimulated,
)
from medjax.recipes.qmri.methods import rank
from medjax.recipes.qmri.models import widest_basis
from medjax.recipes.qmri.moved import CHOICES
from medjax.recipes.qmri.network_trust import make_network_posterior
from medjax.recipes.qmri.options import Method, Predict
from medjax.recipes.qmri.phases import Phases, find_phases, spread_slices
from medjax.recipes.qmri.plan_checks import (
    check_shared,
    check_still,
    check_subspace,
    check_trained,
    refuse_posterior,
)
from medjax.recipes.qmri.setup import make_basis
from medjax.recipes.qmri.slabs import check_whole
from medjax.recipes.qmri.trained import Trained
from medjax.recipes.qmri.trusted import Pictured, compute_trusted, fit_pictured
from medjax.systems.puq.fits import network_fit
from medjax.systems.puq.network import Estimator, Quantity
from medjax.systems.puq.reconstruction import init_params
from medjax.types import Key, Params, QmriBatch

FULL = "fully sampled, coils combined"


class Plan(NamedTuple):
    """How a scan becomes maps."""

    name: str  # of the reconstruction and fit, for people and sidecars
    compute: Compute  # compiled; the slab's slices are the batch
    basis: Float[np.ndarray, "E K"] | None  # of a subspace at the scan's times
    phases: Phases  # what `compute` takes the contrasts' to be
    floor: Floor = Floor()  # the noise of the images that `compute` fits
    full: bool = False  # whether nothing is missing of the images
    joint: Joint | None = None  # of joint TV and a posterior
    notes: tuple[str, ...] = ()  # what a person must know; "doubt: " maps may err
    trusted: bool = False  # whether times are those of a posterior
    rival: "Plan | None" = None  # that is used where it predicts held-out lines better
    misfits: Misfits | None = None  # which tell of both


def make_plan(
    scan: Scan,
    quantity: Quantity,
    trained: Trained | None,
    *,
    contrast: str,
    options: Predict,
) -> Plan:
    """Choose how a scan becomes maps, or take what `options` ask for.

    Images are fitted as they are. k-space goes through the network, where there is one;
    else through the classical method that is named; else, where the first slice with
    signal is fully sampled, through the adjoint alone; else through the default method.
    Contrasts that differ in phase (see `find_phases`) become magnitudes of complex
    images: through the adjoint where k-space is fully sampled, else through a method
    without a subspace, locally low rank before CG-SENSE. Subspaces of inversion
    recovery get the rank that imperfect inversions need, see `widest_subspace`.

    Args:
        scan: The first of its slices with signal is read, and three spread over it.
        quantity: The parameter that is fitted, at the scan's times.
        trained: The network that k-space goes through; None leaves it to a classical
            method.
        contrast: The config's; the subspaces of its methods have the range of this one.
        options: Which method and fit are asked for, and the passes with dropout.

    Raises:
        ValueError: The scan is 0 everywhere, a method or fit is unknown, a subspace is
            of another contrast, or the network's contrast or times differ; or contrasts
            differ in phase, and a subspace or network is asked for.
    """
    if options.register not in CHOICES:
        raise ValueError(
            f"predict.register {options.register!r}: expected '' or 'rigid'"
        )
    first = first_filled(scan)
    check_posterior_options(options)
    if trained is None and options.fit in OF_NETWORKS:
        raise ValueError(
            f"{scan.path}: predict.fit {options.fit!r} is of a network's images, and "
            "no network reconstructs this scan; leave it out, or name a checkpoint"
        )
    free = trained is None and not options.method
    model, phases = quantity.model.name, find_phases(scan, options.phase, free=free)
    fit = {"model": quantity.model, "bounds": quantity.bounds}
    if scan.kind == "images":
        floor = find_floor(scan, quantity.model, options)
        how = {"magnitude": options.magnitude, "coils": floor.coils}
        how |= {"register": bool(options.register)}
        if options.fit == "posterior":
            return _pictured(scan, quantity, phases, floor, options)
        name = "images as they are" + (", noise floor" if floor.coils else "")
        compute = partial(fit_pictures, **how, **fit)
        return Plan(f"{name}, {model} fit", compute, None, phases, floor, True)
    find_floor(scan, quantity.model, options)  # what is said of none is refused
    if trained is not None and quantity.model.train:
        raise ValueError(
            f"{scan.path}: predict.model {model!r}, but the network of "
            f"{trained.folder.parent} was trained on decays without stimulated echoes; "
            "leave the checkpoint or the model out"
        )
    if trained is not None:
        check_trained(scan, trained, fit=options.fit)
        check_still(scan, f"the network of {trained.folder.parent}", options)
        check_shared(scan, phases, f"the network of {trained.folder.parent}", options)
        if options.fit == "posterior":
            return _network_posterior(
                scan, first, quantity, trained, contrast=contrast, options=options
            )
        fitted = options.fit or "weighted"
        name = f"network of {trained.folder.parent}, {fitted} {model} fit"
        compute, params = _network(quantity, trained, options)
        rival = _rival(scan, quantity, contrast=contrast, options=options)
        misfits = None
        if rival is not None and rival.joint is not None and rival.basis is not None:
            estimator, how = trained.estimator, rival.joint.trusting
            misfits = make_misfits(estimator, params, basis=rival.basis, how=how)
        return Plan(name, compute, None, phases, rival=rival, misfits=misfits)
    name, methods, notes = options.method, options.methods, ()
    if not name:  # nothing is missing in fully sampled k-space
        sampled = first.mask
        full = sampled is None or sampled.all()
        name = FULL if full else default_method(scan, phases, options)
        for index in spread_slices(scan) if full else ():
            check_whole(scan, index, scan.read(index))
        if not full and name in methods and methods[name].kind == KIND:
            why = too_few_lines(first, centre_lines(first))
            if why:
                notes = (
                    f"{options.fallback} in place of {name}, which chooses its weight "
                    f"from lines held out: {why}. Intervals are not made",
                )
                name = options.fallback
    if name == FULL:
        methods = {FULL: Method("zero_filled")}
    if quantity.model.train:
        name = keeping_stimulated(scan, name, methods, options)
    # White coils have the variance 1, half of it in the real part, and an adjoint of
    # sensitivities whose squares sum to 1 keeps it.
    white = name == FULL and first.noise is not None
    falls = not phases.shared and not quantity.model.crosses_zero
    way = KSPACE if falls else ""
    floor = Floor(0.5**0.5, None, "noise samples", way) if white else Floor(way=way)
    if name not in methods:
        raise ValueError(
            f"predict.method {name!r}: expected one of {', '.join(methods)}"
        )
    how = fit | {"register": bool(options.register)}
    if phases.shared:
        check_subspace(scan, name, methods, contrast)
        if scan.contrast == "t1" and rank(methods[name]):
            name, methods = keeping_inversions(scan, quantity.model, name, options)
        make = widest_basis if scan.contrast == "t1" else partial(make_basis, "t2")
        subspace = methods[name].subspace
        basis = make(quantity.times, subspace) if rank(methods[name]) else None
        if rank(methods[name]):
            check_still(scan, f"the subspace of {name!r}", options)
        if methods[name].kind == KIND and basis is not None:
            known = options.calibration or shipped(scan.contrast, "joint TV").is_file()
            if options.fit == "posterior" and not known:
                refuse_posterior(scan, f"{name!r} of {scan.contrast}")
            if not known:
                notes = (
                    f"intervals are not made: no calibration of {scan.contrast} comes "
                    "with the package (predict.calibration takes one of "
                    "--mode=calibrate)",
                )
            elif options.fit != "plain":
                return _joint(
                    scan, first, quantity, name, methods[name], basis, phases, options
                )
            how |= {"center": centre_lines(first)}
        elif options.fit == "posterior":
            refuse_posterior(scan, name)
        compute = partial(fit_kspace, method=methods[name], separate=False, **how)
        title, full = f"{name}, {model} fit", name == FULL
        return Plan(title, compute, basis, phases, floor, full, notes=notes)
    if options.fit == "posterior":
        refuse_posterior(scan, f"{name!r} to magnitudes")
    if rank(methods[name]):
        check_shared(scan, phases, f"the subspace of {name!r}", options)
    compute = partial(fit_kspace, method=methods[name], separate=True, **how)
    title = f"{name}, magnitudes, {model} fit"
    return Plan(title, compute, None, phases, floor, name == FULL)


def _rival(
    scan: Scan, quantity: Quantity, *, contrast: str, options: Predict
) -> Plan | None:
    """Joint TV and its posterior, where nobody asks for a fit of the network's images.

    None where the scan is fully sampled, has too few lines to hold out, or lies outside
    of what joint TV is calibrated for.
    """
    if options.fit:
        return None
    plan = make_plan(scan, quantity, None, contrast=contrast, options=options)
    return plan if plan.joint is not None else None


def _joint(
    scan: Scan,
    first: ScanSlice,
    quantity: Quantity,
    name: str,
    method: Method,
    basis: Float[np.ndarray, "E K"],
    phases: Phases,
    options: Predict,
) -> Plan:
    """Joint TV at the weight that held-out lines choose, and a posterior."""
    joint = make_joint(scan, first, quantity, name, method, options)
    why = too_few_lines(first, centre_lines(first))
    if why:
        raise ValueError(
            f"{scan.path}: predict.method {name!r} chooses its weight from lines held "
            f"out, but {why}; name another method"
        )
    doubts = tuple(f"intervals: {line}" for line in joint.doubts)
    title = f"{name}, {quantity.model.name} posterior"
    compute = partial(compute_trusted, how=joint.trusting)
    return Plan(title, compute, basis, phases, Floor(), False, joint, doubts, True)


def _pictured(
    scan: Scan, quantity: Quantity, phases: Phases, floor: Floor, options: Predict
) -> Plan:
    """A posterior of images as they are, by the noise that is known of them."""
    if options.register:
        raise ValueError(
            f"{scan.path}: predict.register and predict.fit=posterior: an interval "
            "does not hold what moving images has smoothed; leave one of both out"
        )
    if quantity.model.time_constant != shown_parameter(quantity.model):
        refuse_posterior(scan, f"{quantity.model.name}, whose T1 follows from T1*,")
    pictured = Pictured(
        quantity.model, quantity.bounds, options.magnitude, options.quantiles
    )
    source = "predict.noise" if options.noise is not None else "residuals of each slice"
    title = f"images as they are, {quantity.model.name} posterior, noise by {source}"
    level = None if options.noise is None else floor.level
    compute = partial(fit_pictured, how=pictured)
    kept = floor._replace(level=level, coils=None)
    return Plan(title, compute, None, phases, kept, True, trusted=True)


def _network_posterior(
    scan: Scan,
    first: ScanSlice,
    quantity: Quantity,
    trained: Trained,
    *,
    contrast: str,
    options: Predict,
) -> Plan:
    """A network's images and their posterior, by the calibration of networks."""
    where = f"the network of {trained.folder.parent}"
    own = options.calibration or shipped(scan.contrast, "network").is_file()
    usual = options._replace(calibration="", method="", labels="", label_names="")
    plan = make_plan(scan, quantity, None, contrast=contrast, options=usual)
    if not own or plan.joint is None or plan.basis is None:
        refuse_posterior(scan, where)
    name = options.default
    joint = make_joint(
        scan, first, quantity, name, options.methods[name], options, of="network"
    )
    estimator, params = _restored(quantity, trained)
    compute = make_network_posterior(
        estimator,
        params,
        basis=plan.basis,
        how=joint.trusting,
        passes=options.passes,
        chunk=options.chunk,
    )
    doubts = tuple(f"intervals: {line}" for line in joint.doubts)
    title = f"network of {trained.folder.parent}, {quantity.model.name} posterior"
    return Plan(
        title, compute, None, plan.phases, joint=joint, notes=doubts, trusted=True
    )


def _restored(quantity: Quantity, trained: Trained) -> tuple[Estimator, Params]:
    from medjax.runtime.checkpoint import restore_params  # slow, and needed here alone

    estimator = trained.estimator._replace(quantity=quantity)
    abstract = jax.eval_shape(partial(init_params, estimator), jax.random.key(0))
    return estimator, restore_params(trained.folder, abstract, part=True)


def _network(
    quantity: Quantity, trained: Trained, options: Predict
) -> tuple[Compute, Params]:
    estimator, params = _restored(quantity, trained)

    # Its times are those that it was trained for, and constants of the program.
    # Parameters last: their place among the arguments decides the last digits.
    @jax.jit
    def compute(batch: QmriBatch, key: Key, params: Params) -> Fitted:
        maps, images = network_fit(
            estimator,
            params,
            batch,
            key,
            fit=options.fit or "weighted",
            passes=options.passes,
            chunk=options.chunk,
        )
        times = jnp.asarray(quantity.times, images.dtype)
        return gather(images, times, maps, model=quantity.model, magnitude=False)

    return lambda inputs: compute(inputs.batch, inputs.key, params), params
