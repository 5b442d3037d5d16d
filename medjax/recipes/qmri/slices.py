"""A scan's slices made ready: white coils, sensitivities, phase; and slabs of them."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from medjax.data.scans.formats import ScanSlice
from medjax.mri.espirit import estimate_sensitivities
from medjax.mri.masks import calibration_size
from medjax.mri.noise import noise_covariance, whitening_matrix
from medjax.mri.phase import smooth_phase
from medjax.mri.sense import mix_coils, normalize_sensitivities, root_sum_of_squares
from medjax.types import QmriBatch

CALIBRATION, KERNEL = 24, 6  # of ESPIRiT: its block at most, its patches
ESPIRIT = {"kernel": KERNEL, "threshold": 0.02, "crop": 0.8}


def prepare_slice(found: ScanSlice, *, positive: int | None) -> ScanSlice:
    """White coils, sensitivities, and the object's phase inside them: real images.

    A centre too small to show the phase leaves it to the sensitivities that are given.

    Args:
        found: of the scan.
        positive: contrast that has no negative signal; None where no contrast has.

    Raises:
        ValueError: noise of a singular covariance; no sensitivities, and too small a
            centre to estimate them or no object in it.
    """
    if found.kspace is None:
        return found
    kspace, sens = jnp.asarray(found.kspace), found.sens
    if found.noise is not None:
        whitening = whitening_matrix(_covariance(found.noise))
        kspace = mix_coils(kspace, whitening)
        if sens is not None:
            sens = normalize_sensitivities(mix_coils(sens, whitening), floor=0)
    size = kspace.shape[-2:]
    mask = np.asarray(found.mask)
    middle = mask[..., mask.shape[-2] // 2, size[1] // 2]
    block = (0, 0)
    if middle.all():
        block = calibration_size(mask, size=size, limit=CALIBRATION)
    if sens is None:
        if min(block) < KERNEL:
            raise ValueError(
                f"the fully sampled centre is {block[0]} x {block[1]}; estimating "
                f"sensitivities needs at least {KERNEL} x {KERNEL}. Give them in the "
                "file"
            )
        sens = _espirit(kspace, block)
        if not sens.any():
            raise ValueError(
                "no object was found in the centre of k-space: sensitivities are 0 "
                "everywhere. Is it noise alone, or not centred? Give them in the file"
            )
    if min(block) >= KERNEL:
        sens = _absorb_phase(kspace, sens, min(block), positive)
    return found._replace(kspace=np.asarray(kspace), sens=np.asarray(sens))


def image_unit(found: ScanSlice, prepared: ScanSlice) -> Float[np.ndarray, "H W"]:
    """What 1 in an image of white coils is in an image of the file's coils.

    With Psi = L L^H, x S = L (x_white S_white), and S has root sum of squares 1:
    the root sum of squares of L S_white. Times do not depend on it, amplitudes do.
    """
    if found.noise is None or prepared.sens is None:
        return np.ones((), np.float32)
    lower = jnp.linalg.cholesky(_covariance(found.noise))
    return np.asarray(root_sum_of_squares(mix_coils(prepared.sens, lower)))


def make_slab(slices: Mapping[int, ScanSlice], size: int) -> QmriBatch:
    """Slices as a batch of a fixed size, the last one repeated to fill it.

    Args:
        slices: by their index in the scan, which is what a slice draws by.
        size: of the batch.
    """
    order = [*slices, *[list(slices)[-1]] * (size - len(slices))]
    rows = [slices[index] for index in order]
    valid = np.arange(size) < len(slices)
    ids = np.array(order, np.int32)
    if rows[0].images is not None:
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


def _covariance(noise: Complex[np.ndarray, "C N"]) -> Complex[Array, "C C"]:
    covariance = noise_covariance(jnp.asarray(noise))
    if not jnp.isfinite(jnp.linalg.cholesky(covariance)).all():
        power = np.real(np.diagonal(covariance))
        raise ValueError(
            f"noise: the coils' covariance is singular, their variances are "
            f"{power.min():.3g} to {power.max():.3g}; expected samples of every coil, "
            "independent of each other. Leave the noise out, or measure it again"
        )
    return covariance


@partial(jax.jit, static_argnums=1)
def _espirit(kspace: Array, block: tuple[int, int]) -> Array:
    scaled = kspace / jnp.max(jnp.abs(kspace)).astype(kspace.dtype)
    return estimate_sensitivities(scaled, calibration=block, **ESPIRIT)


@partial(jax.jit, static_argnums=(2, 3))
def _absorb_phase(kspace: Array, sens: Array, width: int, positive: int | None):
    phase = smooth_phase(kspace, sens, width=width, contrast=positive)
    return sens * jax.lax.complex(jnp.cos(phase), jnp.sin(phase))
