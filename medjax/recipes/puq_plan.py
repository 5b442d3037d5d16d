"""What `predict` computes of one slab of slices: k-space or images to fitted maps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from medjax.data.scans.formats import Scan, ScanSlice
from medjax.models.denoiser import Regressor
from medjax.mri.espirit import estimate_sensitivities
from medjax.mri.fit import FitResult, fit_map
from medjax.mri.masks import calibration_size
from medjax.mri.noise import mix_coils, noise_covariance, whitening_matrix
from medjax.mri.phase import smooth_phase
from medjax.mri.sense import normalize_sensitivities
from medjax.recipes.puq_methods import make_classical
from medjax.recipes.puq_setup import make_basis, make_design
from medjax.runtime.checkpoint import restore_params
from medjax.systems.puq import image_moments, init_params
from medjax.systems.quantification import (
    Quantity,
    fit_images,
    guided_variance,
    regressed_map,
)
from medjax.systems.reconstructor import image_scale
from medjax.types import Key, QmriBatch

CALIBRATION, KERNEL = 24, 6  # of ESPIRiT: its block at most, its patches
ESPIRIT = {"kernel": KERNEL, "threshold": 0.02, "crop": 0.8}
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
    checkpoint: str | None,
    *,
    data: Mapping[str, Any],
    network: Mapping[str, Any],
    fit: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Plan:
    """Choose, or take what `options` ask for.

    Images are fitted as they are. k-space goes through the classical method that is
    named; else through the checkpoint's network; else, where the first slice is fully
    sampled, through the adjoint alone; else through the default method.

    Raises:
        ValueError: an unknown method or fit, a checkpoint whose times differ.
    """
    if scan.kind == "images":
        plain = partial(_fit_pictures, quantity, magnitude=options["magnitude"])
        return Plan(f"images as they are, {quantity.model.name} fit", jax.jit(plain))
    if checkpoint and not options["method"]:
        compute = _network(quantity, checkpoint, data, network, fit, options)
        name = f"network of {checkpoint}, {options['fit']} {quantity.model.name} fit"
        return Plan(name, compute)
    name, methods = options["method"], options["methods"]
    if not name:  # nothing is missing in fully sampled k-space
        sampled = scan.read(0).mask
        name = FULL if sampled is None or sampled.all() else options["default"]
    if name == FULL:
        methods = {FULL: {"kind": "zero_filled"}}
    if name not in methods:
        raise ValueError(
            f"predict.method {name!r}: expected one of {', '.join(methods)}"
        )
    basis = partial(make_basis, scan.contrast, quantity.times)
    reconstruct = make_classical({name: methods[name]}, basis)[name]

    def classical(batch: QmriBatch, key: Key) -> FitResult:
        scale = image_scale(batch.kspace, batch.sens)
        kspace = batch.kspace / scale[:, None].astype(batch.kspace.dtype)
        images = scale * reconstruct(batch._replace(kspace=kspace), key)
        return fit_images(quantity, images)

    return Plan(f"{name}, {quantity.model.name} fit", jax.jit(classical))


def prepare_slice(found: ScanSlice, *, positive: int | None) -> ScanSlice:
    """White coils, sensitivities, and the object's phase inside them: real images.

    Args:
        found: of the scan.
        positive: contrast that has no negative signal; None where no contrast has.
    """
    if found.kspace is None:
        return found
    kspace, sens = jnp.asarray(found.kspace), found.sens
    if found.noise is not None:
        whitening = whitening_matrix(noise_covariance(jnp.asarray(found.noise)))
        kspace = mix_coils(kspace, whitening)
        if sens is not None:
            sens = normalize_sensitivities(mix_coils(sens, whitening), floor=0)
    size = kspace.shape[-2:]
    block = calibration_size(found.mask, size=size, limit=CALIBRATION)
    if sens is None:
        if min(block) < KERNEL:
            raise ValueError(
                f"the fully sampled centre is {block[0]} x {block[1]}; estimating "
                f"sensitivities needs at least {KERNEL} x {KERNEL}. Give them in the "
                "file"
            )
        sens = _espirit(kspace, block)
    phase = smooth_phase(kspace, sens, width=min(block), contrast=positive)
    sens = sens * jax.lax.complex(jnp.cos(phase), jnp.sin(phase))
    return found._replace(kspace=np.asarray(kspace), sens=np.asarray(sens))


@partial(jax.jit, static_argnums=1)
def _espirit(kspace: Array, block: tuple[int, int]) -> Array:
    return estimate_sensitivities(kspace, calibration=block, **ESPIRIT)


def make_slab(slices: Sequence[ScanSlice], first: int, size: int) -> QmriBatch:
    """Slices as a batch of a fixed size, the last one repeated to fill it."""
    rows = [*slices, *[slices[-1]] * (size - len(slices))]
    valid = np.arange(size) < len(slices)
    ids = np.arange(first, first + size, dtype=np.int32)
    if slices[0].images is not None:
        images = np.stack([np.asarray(row.images) for row in rows])
        blank = np.zeros((size, 1, 1, *images.shape[-2:]), np.complex64)
        roi = np.ones((size, *images.shape[-2:]), bool)
        mask = np.ones((size, 1, 1, 1), bool)
        return QmriBatch(blank, mask, blank[:, 0], images, roi, valid, ids)
    kspace, sens = (np.stack([getattr(r, k) for r in rows]) for k in ("kspace", "sens"))
    shape = (size, kspace.shape[1], *kspace.shape[-2:])
    masks = [np.asarray(row.mask) for row in rows]
    full = (shape[1], max(mask.shape[1] for mask in masks), shape[-1])
    mask = np.stack([np.broadcast_to(mask, full) for mask in masks])
    target = np.zeros(shape, np.float32)  # nobody knows
    roi = (np.abs(sens) > 0).any(axis=1)
    return QmriBatch(kspace, mask, sens, target, roi, valid, ids)


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
    quantity: Quantity,
    checkpoint: str,
    data: Mapping[str, Any],
    network: Mapping[str, Any],
    fit: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Compute:
    if options["fit"] not in FITS:
        raise ValueError(
            f"predict.fit {options['fit']!r}: expected one of {', '.join(FITS)}"
        )
    design, basis = make_design(network, data["contrast"], quantity.times)
    regressor = Regressor(fit["width"], fit["layers"])
    contrasts = len(quantity.times)
    abstract = jax.eval_shape(
        lambda key: init_params(design, regressor, contrasts, key), jax.random.key(0)
    )
    folder = Path(checkpoint)
    folders = [folder / "checkpoints", folder / "fit" / "checkpoints"]
    params = restore_params(next(filter(Path.is_dir, folders), folders[-1]), abstract)
    basis = None if basis is None else jnp.asarray(basis)
    moments = {"passes": options["passes"], "chunk": options["chunk"], "basis": basis}

    def compute(batch: QmriBatch, key: Key, params: Any = params) -> FitResult:
        mean, std = image_moments(design, params["network"], batch, key, **moments)
        if options["fit"] == "plain":
            return fit_images(quantity, mean)
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

    return jax.jit(compute)
