"""Coil sensitivities from the fully sampled centre of k-space: ESPIRiT.

Patches of k-space (k x k points of all coils) lie in a subspace, the same for every
contrast, because each is a short window on the spectra of smooth sensitivities. The
average over all patches of the projection onto it is a convolution, hence in the image
a C x C matrix G(r) for every pixel, with G(r) S(r) = S(r) where there is an object.

Source: Uecker et al., ESPIRiT, MRM 71 (2014). Where others hold every kernel (BART) or
the C x C matrices of the whole image (SigPy), here G comes row by row from its compact
form: C x C x (2k - 1)^2 lags.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from medjax.checks import check_arrays
from medjax.mri.compression import compression_matrix

_BLOCK = 1 << 17  # complex numbers of G at a time: what stays in a cache


def estimate_sensitivities(
    kspace: Complex[Array, "*B E C H W"],
    *,
    calibration: tuple[int, int],
    kernel: int,
    threshold: float,
    crop: float,
    soft: bool = False,
    iterations: int = 30,
) -> Complex[Array, "*B C H W"]:
    """Sensitivities S with sum_c |S_c|^2 = 1 inside the object and 0 outside.

    All contrasts share the coils, so their calibration matrices are stacked: each
    counts by its energy, and a contrast near its null neither helps nor harms. The
    phase, which the data leave open at each pixel, is that of the strongest virtual
    coil: it is smooth, does not depend on the machine, and images get its phase.

    Args:
        kspace: Centred (its origin at [H // 2, W // 2]), in any unit; only the middle
            `calibration` points are read. A slice of zeros gets zeros, one with NaN in
            those points NaN everywhere.
        calibration: (rows, columns) of the centre block that is fully sampled in all
            contrasts, see `calibration_size`: 24 is plenty, 12 will do. At least the
            kernel, at most the image. That it is sampled is not checked.
        kernel: Side of a patch in points of k-space, 5 to 8; 6 in the other packages.
        threshold: Patches keep the singular directions above this share of the largest
            singular value, between 0 and 1; 0.02 in SigPy. Too low a value lets noise
            in, too high a one loses coils.
        crop: The map is 0 where the eigenvalue of G, 0 to about 1, is not above this:
            outside the object. 0.8 in BART, 0.95 in SigPy.
        soft: Let the maps fade to 0 between an eigenvalue of `crop` and 1, so that
            sum_c |S_c|^2 is below 1 at the edge, instead of cutting.
        iterations: Steps of the power method that finds the eigenvector; 30 in BART.

    Raises:
        ValueError: a calibration block that the kernel or the image does not fit, a
            wrong shape or dtype.
    """
    check_arrays("estimate_sensitivities", kspace=(kspace, "*B E C H W", complex))
    _check_sizes(kspace.shape, calibration, kernel)
    if kspace.ndim > 4:
        one = functools.partial(
            estimate_sensitivities,
            calibration=calibration,
            kernel=kernel,
            threshold=threshold,
            crop=crop,
            soft=soft,
            iterations=iterations,
        )
        return jax.vmap(one)(kspace)
    height, width = kspace.shape[-2:]
    block = _center(kspace, *calibration)
    lags = _projection_lags(block, kernel, threshold)  # [C, C, L, L]
    rows, cols = (_waves(n, kernel, kspace.dtype) for n in (height, width))
    partial = jnp.einsum("cdij,xj->icdx", lags, cols)
    reference = compression_matrix(block, coils=1)[0][0]  # [C]

    def row_maps(row: Complex[Array, "L"]) -> Complex[Array, "C W"]:
        matrix = jnp.einsum("i,icdx->cdx", row, partial)
        maps, eigenvalue = _leading_eigenvector(matrix, iterations)
        phase = jnp.sign(jnp.einsum("c,cx->x", reference, maps))
        phase = jnp.where(phase == 0, 1, phase)
        weight = _crop_weight(eigenvalue, crop, soft).astype(maps.dtype)
        return maps * (weight * phase.conj())[None]

    together = max(1, _BLOCK // partial[0].size)
    maps = jax.lax.map(row_maps, rows, batch_size=together)  # [H, C, W]
    return jnp.swapaxes(maps, 0, 1)


def _center(
    kspace: Complex[Array, "E C H W"], height: int, width: int
) -> Complex[Array, "E C h w"]:
    top = kspace.shape[-2] // 2 - height // 2
    left = kspace.shape[-1] // 2 - width // 2
    return kspace[..., top : top + height, left : left + width]


def _projection_lags(
    block: Complex[Array, "E C h w"], kernel: int, threshold: float
) -> Complex[Array, "C C L L"]:
    """Autocorrelation of the projection onto the patches' subspace, L = 2k - 1 lags."""
    contrasts, coils, height, width = block.shape
    rows, cols = height - kernel + 1, width - kernel + 1
    shifts = [(i, j) for i in range(kernel) for j in range(kernel)]
    patches = jnp.stack([block[..., i : i + rows, j : j + cols] for i, j in shifts], 2)
    patches = patches.reshape(contrasts, coils * kernel**2, rows * cols)
    patches = jnp.moveaxis(patches, 0, 1).reshape(coils * kernel**2, -1)
    projection = _projection(patches, threshold)
    projection = projection.reshape(coils, kernel, kernel, coils, kernel, kernel)
    # Entry (a, b) belongs to lag a - b: reversed, b runs along the lags from a on.
    reversed_ = jnp.flip(projection, (-2, -1)).transpose(1, 2, 0, 3, 4, 5)
    lags = jnp.zeros((coils, coils, 2 * kernel - 1, 2 * kernel - 1), block.dtype)
    for i, j in shifts:
        lags = lags.at[:, :, i : i + kernel, j : j + kernel].add(reversed_[i, j])
    return lags / kernel**2


def _projection(
    patches: Complex[Array, "D N"], threshold: float
) -> Complex[Array, "D D"]:
    """U U^H over the left singular vectors above the threshold.

    From the smaller of the two Gram matrices; float32 has room for a threshold^2.
    """
    few = patches.shape[1] < patches.shape[0]
    gram = patches.conj().T @ patches if few else patches @ patches.conj().T
    power, vectors = jnp.linalg.eigh(gram)
    kept = (power > threshold**2 * power[-1]) & (power > 0)
    if few:  # left vectors are patches @ vectors / sqrt(power)
        vectors = patches @ vectors
        weight = jnp.where(kept, 1 / jnp.where(kept, power, 1), 0)
    else:
        weight = kept
    return (vectors * weight.astype(vectors.dtype)[None]) @ vectors.conj().T


def _waves(points: int, kernel: int, dtype: jnp.dtype) -> Complex[np.ndarray, "W L"]:
    """exp(2 pi i lag r / points), r from the image's centre."""
    place = np.arange(points) - points // 2
    lags = np.arange(1 - kernel, kernel)
    return np.exp(2j * np.pi * np.outer(place, lags) / points).astype(dtype)


def _leading_eigenvector(
    matrix: Complex[Array, "C C W"], iterations: int
) -> tuple[Complex[Array, "C W"], Float[Array, "W"]]:
    """Power method from the strongest column, which the eigenvector has a part in."""

    def unit(vector: Complex[Array, "C W"]) -> Complex[Array, "C W"]:
        power = jnp.sum(jnp.real(vector * vector.conj()), axis=0)
        scale = jax.lax.rsqrt(jnp.where(power > 0, power, 1))
        return vector * scale.astype(vector.dtype)[None]

    def apply(vector: Complex[Array, "C W"]) -> Complex[Array, "C W"]:
        return jnp.sum(matrix * vector[None], axis=1)

    diagonal = jnp.real(jnp.diagonal(matrix)).T  # [C, W]
    strongest = jnp.argmax(diagonal, axis=0)[None, None]
    start = jnp.take_along_axis(matrix, strongest, axis=1)[:, 0]
    vector = jax.lax.fori_loop(0, iterations, lambda _, v: unit(apply(v)), unit(start))
    return vector, jnp.sum(jnp.real(vector.conj() * apply(vector)), axis=0)


def _crop_weight(
    eigenvalue: Float[Array, "W"], crop: float, soft: bool
) -> Float[Array, "W"]:
    if not soft:
        return (eigenvalue > crop).astype(eigenvalue.dtype)
    rise = jnp.clip((eigenvalue - crop) / (1 - crop), 0, 1)
    return rise * rise * (3 - 2 * rise)


def _check_sizes(
    shape: tuple[int, ...], calibration: tuple[int, int], kernel: int
) -> None:
    if min(calibration) < kernel or any(
        side > size for side, size in zip(calibration, shape[-2:], strict=True)
    ):
        raise ValueError(
            f"calibration {calibration} must hold the kernel, {kernel} x {kernel}, and "
            f"fit the image {shape[-2:]}: sample a larger centre or lower the kernel"
        )
