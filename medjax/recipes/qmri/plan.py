"""What `predict` computes of one slab of slices: k-space or images to fitted maps."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax.data.qmri.simulate import make_protocol
from medjax.data.scans.formats import Scan, first_filled
from medjax.models.denoiser import Regressor
from medjax.mri.fit import FitResult, fit_map
from medjax.recipes.qmri.methods import make_classical
from medjax.recipes.qmri.setup import make_basis, make_design
from medjax.recipes.qmri.trained import Trained
from medjax.runtime.checkpoint import restore_params
from medjax.systems.puq.maps import (
    Quantity,
    fit_images,
    guided_variance,
    regressed_map,
)
from medjax.systems.puq.network import image_scale
from medjax.systems.puq.reconstruction import image_moments, init_params
from medjax.types import Key, QmriBatch

FULL = "fully sampled, coils combined"
FITS = ("plain", "weighted", "puq")
Compute = Callable[[QmriBatch, Key], FitResult]


class Plan(NamedTuple):
    """How a scan becomes maps."""

    name: str  # of the reconstruction and fit, for people and sidecars
    compute: Compute  # compiled; the slab's slices are the batch


def make_plan(
    scan: Scan,
    quantity: Quantity,
    trained: Trained | None,
    *,
    contrast: str,
    options: Mapping[str, Any],
) -> Plan:
    """Choose, or take what `options` ask for.

    Images are fitted as they are. k-space goes through the network, where there is one;
    else through the classical method that is named; else, where the first slice with
    signal is fully sampled, through the adjoint alone; else through the default method.

    Args:
        scan: to be read.
        quantity: to be fitted.
        trained: from `find_trained`.
        contrast: whose range the subspaces of the methods have.
        options: `predict` of the config.

    Raises:
        ValueError: a scan that is 0, an unknown method or fit, a subspace of another
            contrast, a network whose contrast or times differ.
    """
    first = first_filled(scan)
    if scan.kind == "images":
        plain = partial(_fit_pictures, quantity, magnitude=options["magnitude"])
        return Plan(f"images as they are, {quantity.model.name} fit", jax.jit(plain))
    if trained is not None:
        _check_trained(scan, trained, fit=options["fit"])
        name = f"network of {trained.folder.parent}"
        name = f"{name}, {options['fit']} {quantity.model.name} fit"
        return Plan(name, _network(quantity, trained, scan.contrast, options))
    name, methods = options["method"], options["methods"]
    if not name:  # nothing is missing in fully sampled k-space
        sampled = first.mask
        name = FULL if sampled is None or sampled.all() else options["default"]
    if name == FULL:
        methods = {FULL: {"kind": "zero_filled"}}
    if name not in methods:
        raise ValueError(
            f"predict.method {name!r}: expected one of {', '.join(methods)}"
        )
    _check_subspace(scan, name, methods, contrast)
    basis = partial(make_basis, scan.contrast, quantity.times)
    chosen = make_classical({name: methods[name]}, basis)[name]

    def classical(batch: QmriBatch, key: Key) -> FitResult:
        scale = image_scale(batch.kspace, batch.sens)
        kspace = batch.kspace / scale[:, None].astype(batch.kspace.dtype)
        images = scale * chosen.reconstruct(batch._replace(kspace=kspace), key)
        return fit_images(quantity, images, rank=chosen.rank)

    return Plan(f"{name}, {quantity.model.name} fit", jax.jit(classical))


def _check_subspace(
    scan: Scan, name: str, methods: Mapping[str, Mapping[str, Any]], contrast: str
) -> None:
    """The range of a subspace's time constants is that of the config's contrast."""

    def rank(options: Mapping[str, Any]) -> int:
        return options.get("subspace", {}).get("rank", 0)

    if not rank(methods[name]) or scan.contrast == contrast:
        return
    others = ", ".join(n for n, options in methods.items() if not rank(options))
    way = f"choose a config with contrast={scan.contrast}, or "
    raise ValueError(
        f"{scan.path}: a {scan.contrast} scan, but the subspace of {name!r} is one of "
        f"{contrast}; {'' if scan.contrast == 'vfa' else way}name a predict.method "
        f"without a subspace: {others}"
    )


def _check_trained(scan: Scan, trained: Trained, *, fit: str) -> None:
    """A network knows one contrast at one series of times."""
    data, where = trained.data, trained.folder.parent
    if trained.stage == "reconstruction" and fit != "plain":
        raise ValueError(
            f"{where}: the stage that trains for predict.fit {fit!r} comes after this "
            "one; name the run's folder, or say predict.fit=plain"
        )
    times = make_protocol(data["contrast"], tuple(data["times"]) or None).times
    if scan.contrast == data["contrast"] and len(times) == len(scan.times):
        if np.allclose(times, scan.times, rtol=0, atol=1e-6):
            return
    found, expected = (", ".join(f"{t:.6g}" for t in x) for x in (scan.times, times))
    raise ValueError(
        f"{scan.path}: {scan.contrast} at {found} s, but the network of "
        f"{where} was trained for {data['contrast']} at {expected} s; train "
        "one with data.times, or leave the checkpoint out"
    )


def _fit_pictures(
    quantity: Quantity, batch: QmriBatch, key: Key, *, magnitude: bool
) -> FitResult:
    del key
    return fit_map(
        jnp.moveaxis(batch.target, 1, 0),
        np.array(quantity.times, np.float32),
        model=quantity.model,
        bounds=quantity.bounds,
        magnitude=magnitude,
    )


def _network(
    quantity: Quantity, trained: Trained, contrast: str, options: Mapping[str, Any]
) -> Compute:
    if options["fit"] not in FITS:
        raise ValueError(
            f"predict.fit {options['fit']!r}: expected one of {', '.join(FITS)}"
        )
    fit = trained.fit
    design, basis = make_design(trained.network, contrast, quantity.times)
    regressor = Regressor(fit["width"], fit["layers"])
    contrasts = len(quantity.times)
    abstract = jax.eval_shape(
        lambda key: init_params(design, regressor, contrasts, key), jax.random.key(0)
    )
    params = restore_params(trained.folder, abstract)
    basis = None if basis is None else jnp.asarray(basis)
    moments = {"passes": options["passes"], "chunk": options["chunk"], "basis": basis}

    def compute(batch: QmriBatch, key: Key, params: Any) -> FitResult:
        mean, std = image_moments(design, params["network"], batch, key, **moments)
        if options["fit"] == "plain":
            rank = None if basis is None else design.channels
            return fit_images(quantity, mean, rank=rank)
        variance = guided_variance(mean, std, params["misfit"])
        fitted = fit_images(quantity, mean, variance=variance)
        if options["fit"] == "weighted":
            return fitted
        value, sigma = regressed_map(
            regressor,
            params["regressors"]["guided"],
            "guided",
            mean,
            std,
            normalisation=fit["normalisation"],
            longest=quantity.longest,
        )
        name = quantity.model.time_constant
        return fitted._replace(
            params=fitted.params | {name: value}, sigma=fitted.sigma | {name: sigma}
        )

    return partial(jax.jit(compute), params=params)
