"""The programs of `predict`: from the arrays of one slab to its fitted maps.

Times and bases are arguments, so that one program serves every protocol of as many
contrasts, also in one process.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.data.scans.formats import Scan
from medjax.mri.fit import fit_map
from medjax.mri.magnitude import fit_magnitudes
from medjax.mri.model import SignalModel
from medjax.mri.motion import contrast_motion
from medjax.recipes.qmri.evidence import Fitted, gather
from medjax.recipes.qmri.methods import make_classical, make_separate
from medjax.recipes.qmri.moved import bring_back
from medjax.recipes.qmri.options import Method
from medjax.systems.puq.fits import fit_slices
from medjax.systems.puq.network import image_scale
from medjax.types import Key, QmriBatch

TRANSMIT = ("t1_vfa", "t2_epg")  # models with an angle, which B1+ scales


class Inputs(NamedTuple):
    """The arrays of a slab; what decides shapes, as a subspace's rank, is static."""

    batch: QmriBatch
    key: Key
    times: Float[Array | np.ndarray, "E *B"]  # s or radians; [E, B] where slices differ
    basis: Float[Array | np.ndarray, "E K"] | None  # of a subspace at these times
    b1: Float[Array | np.ndarray, "B H W"] | None  # transmit field / nominal; None = 1
    noise: Float[Array | np.ndarray, ""] | None = None  # sd of images, where known

    def voxel_times(self, model: SignalModel) -> Float[Array, "E *#N"]:
        """As `fit_map` takes them beside images [E, B, H, W].

        Flip angles are the actual ones, the nominal times B1+; NaN where a map of B1+
        has no value, so that the voxel is INVALID.

        Args:
            model: The signal model that is fitted.
        """
        times = jnp.asarray(self.times)
        mapped = self.b1 is not None and model.name == "t1_vfa"
        if times.ndim == 1 and not mapped:
            return times
        times = times.reshape(len(times), -1, 1, 1)
        return times * jnp.asarray(self.b1)[None] if mapped else times

    def refocusing(self, model: SignalModel) -> Float[Array, "B H W"] | None:
        """The refocusing angle in radians where a map of B1+ says it.

        Args:
            model: The signal model that is fitted; `b1` is relative to 180 degrees for
                one that has a refocusing angle.
        """
        known = self.b1 is not None and model.train
        return math.pi * jnp.asarray(self.b1) if known else None


Compute = Callable[[Inputs], Fitted]


def slab_inputs(
    scan: Scan,
    batch: QmriBatch,
    key: Key,
    *,
    basis: Float[np.ndarray, "E K"] | None = None,
    b1: Float[np.ndarray, "S H W"] | None = None,
    noise: float | None = None,
) -> Inputs:
    """A slab with the times and the transmit field of its own slices.

    Args:
        scan: Its times are read.
        batch: The slab; its `sample_id` are the slices' indices in the scan.
        key: One typed key; a slice's draw is that of its `sample_id`.
        basis: Of the plan.
        b1: Of all slices of the scan.
        noise: Standard deviation of the images' noise in their unit.
    """
    times = scan.times
    if scan.slice_times is not None:
        times = scan.slice_times[np.asarray(batch.sample_id)].T
    field = None if b1 is None else b1[np.asarray(batch.sample_id)]
    return Inputs(
        batch,
        key,
        np.asarray(times, np.float32),
        basis,
        None if field is None else np.asarray(field, np.float32),
        None if noise is None else np.asarray(noise, np.float32),
    )


@partial(jax.jit, static_argnames=("model", "bounds", "magnitude", "coils", "register"))
def fit_pictures(
    inputs: Inputs,
    *,
    model: SignalModel,
    bounds: tuple[float, float],
    magnitude: bool,
    coils: int | None = None,
    register: bool = False,
) -> Fitted:
    """Maps of images as they are, the `target` of the slab.

    Args:
        inputs: A slab of images, whose mask says what of them are samples.
        model: The signal model that is fitted.
        bounds: Of its time constant in seconds.
        magnitude: Whether a model that crosses 0 is fitted to absolute values.
        coils: The channels of magnitudes whose noise floor is fitted too, at the level
            of the inputs; None fits them as they are.
        register: Whether contrasts are brought together first.
    """
    times = inputs.voxel_times(model)
    images, mask = inputs.batch.target, inputs.batch.mask
    mask = mask if mask.shape[1] > 1 else None  # [B, E, H, W]: some are no samples
    first, motion, weights = jnp.moveaxis(images, 1, 0), None, None
    if register:
        motion = contrast_motion(first, rotations=True)
        images, mask = bring_back(images, mask, motion)
        first = jnp.moveaxis(images, 1, 0)
    if mask is not None:
        weights = jnp.moveaxis(mask, 1, 0).astype(images.dtype)
    options = {"model": model, "bounds": bounds, "weights": weights}
    options |= {"angle": inputs.refocusing(model)}
    if coils is None:
        maps = fit_map(first, times, magnitude=magnitude, **options)
    else:
        maps = fit_magnitudes(first, times, noise=inputs.noise, coils=coils, **options)
    return gather(
        images,
        times,
        maps,
        model=model,
        magnitude=magnitude,
        mask=mask,
        motion=motion,
        noise=inputs.noise,
        coils=coils,
    )


@partial(
    jax.jit,
    static_argnames=("model", "bounds", "method", "separate", "register", "center"),
)
def fit_kspace(
    inputs: Inputs,
    *,
    model: SignalModel,
    bounds: tuple[float, float],
    method: Method,
    separate: bool,
    register: bool = False,
    center: int = 0,
) -> Fitted:
    """Maps of images that a classical method makes of k-space.

    Args:
        inputs: A slab of k-space that is ready, and the basis of the method's subspace.
        model: The signal model that is fitted.
        bounds: Of its time constant in seconds.
        method: The reconstruction and its options.
        separate: Whether contrasts have phases of their own: then magnitudes are
            fitted, of 0 or more, whose signs the fit finds where they count.
        register: Whether contrasts are brought together before they are fitted.
        center: Lines in the middle that joint TV never holds out.
    """
    if separate:
        classical = make_separate(method)
    else:
        classical = make_classical({"": method}, lambda _: inputs.basis, center=center)[
            ""
        ]
    batch = inputs.batch
    # Images of about 1, in which penalties are, and back.
    scale = image_scale(batch.kspace, batch.sens)
    kspace = batch.kspace / scale[:, None].astype(batch.kspace.dtype)
    images = classical.reconstruct(batch._replace(kspace=kspace), inputs.key)
    images, times = scale * images, inputs.voxel_times(model)
    motion = None
    if register:
        motion = contrast_motion(jnp.moveaxis(images, 1, 0), rotations=True)
        images, _ = bring_back(images, None, motion)
    options = {"model": model, "magnitude": separate and model.crosses_zero}
    angle, rank = inputs.refocusing(model), classical.rank
    maps = fit_slices(images, times, bounds=bounds, rank=rank, angle=angle, **options)
    return gather(images, times, maps, noise=inputs.noise, motion=motion, **options)
