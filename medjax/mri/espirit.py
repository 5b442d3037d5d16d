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
from jax.core import Tracer
from jaxtyping import Array, Complex, Float

from medjax.checks import check_arrays, check_flags, check_integers
from medjax.mri.compression import compression_matrix
from medjax.mri.hermitian import above, eigenvectors, strong_part

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
    """Sensitivities S with sum_c |S_c|^2 = 1 inside the object and 0 outside (ESPIRiT).

    Patches of kernel x kernel points of all coils are cut from the calibration block;
    the projection on the space that they span acts at each pixel as a C x C matrix G,
    whose eigenvector of the eigenvalue 1 is S. All contrasts share the coils, so their
    calibration matrices are stacked: each counts by its energy, and a contrast near its
    null neither helps nor harms. The phase, which the data leave open at each pixel, is
    that of the strongest virtual coil: it is smooth, does not depend on the machine,
    and images get its phase.

    Args:
        kspace: Centred k-space (its origin at [H // 2, W // 2]) of at least one
            contrast and coil, in any unit; only the middle `calibration` points are
            read. A slice of zeros gets zeros, one with a number that is not finite in
            those points NaN everywhere.
        calibration: (rows, columns) of the centre block that is fully sampled in all
            contrasts, static integers, see `calibration_size`: 24 is plenty, 12 will
            do. At least the kernel, at most the image. That the block is sampled is not
            checked.
        kernel: Side of a patch in points of k-space, a static integer of at least 1;
            5 to 8 are useful, other packages take 6.
        threshold: Patches keep the singular directions above this share of the largest
            singular value, from 0 (all but those of the value 0) to below 1; SigPy
            takes 0.02. Too low a value lets noise in, too high a one loses coils. It
            may be traced, as `crop`, and is then not looked at.
        crop: The map is 0, for outside the object, where the eigenvalue of G, 0 to
            about 1, is not above this: from 0 to below 1. BART takes 0.8, SigPy 0.95.
        soft: A static bool. True lets the maps fade to 0 between an eigenvalue of 1 and
            `crop`, so that sum_c |S_c|^2 is below 1 at the edge; False cuts.
        iterations: Steps of the power method that finds the eigenvector, a static
            integer of at least 0 (the strongest column of G is taken); BART takes 30.

    Returns:
        The maps, without a unit, in the dtype of k-space. Derivatives are those of what
        is computed, with what is kept and where it is cut as constants; they are finite
        where singular values are equal and where no coil has signal. Second
        derivatives are refused by a ValueError.

    Raises:
        ValueError: a calibration block that the kernel or the image does not fit, a
            number out of its range, a static one that is traced, k-space without a
            contrast or a coil, a wrong shape or dtype.

    Source: Uecker et al., ESPIRiT, MRM 71 (2014).
    """
    check_arrays(
        "estimate_sensitivities",
        kspace=(kspace, "*B E C H W", complex),
        threshold=(threshold, "", (float, int)),
        crop=(crop, "", (float, int)),
    )
    _check_sizes(kspace.shape, calibration, kernel)
    check_integers("estimate_sensitivities", iterations=(iterations, 0, None))
    check_flags("estimate_sensitivities", soft=soft)
    _check_shares(threshold, crop)
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
        turn = jnp.einsum("c,cx->x", reference, maps)
        turn = jnp.where(turn == 0, 1, turn)
        # jnp.sign would do, but for its derivative, which is 0 of complex numbers too
        phase = turn / jnp.abs(turn).astype(turn.dtype)
        weight = _crop_weight(eigenvalue, crop, soft).astype(maps.dtype)
        return maps * (weight * phase.conj())[None]

    together = max(1, _BLOCK // partial[0].size)
    maps = jax.lax.map(row_maps, rows, batch_size=together)  # [H, C, W]
    return jnp.swapaxes(maps, 0, 1)


def noise_share(
    kspace: Complex[Array, "E C H W"], *, calibration: tuple[int, int], kernel: int
) -> Float[Array, ""]:
    """What noise reaches of the calibration matrix's largest singular value.

        s_q (1 + sqrt(g)) / (1 - 0.3 sqrt(g)) / s_max,   g = D / N

    s_q is the value that a quarter lies below, taken for noise. Singular values of a
    D x N matrix of noise lie between sqrt(N) (1 -+ sqrt(g)) of its deviation, evenly
    about the middle; the quarter of all, of which some are signal, is near -0.3.
    Directions below are of noise: with a lower `threshold` they span everything, and
    any vector is a sensitivity.

    Args:
        kspace: As `estimate_sensitivities` takes it, three coils or more: of fewer,
            signal may fill three quarters of the directions.
        calibration: Likewise, static.
        kernel: Likewise, static.

    Returns:
        From 0 (no noise) to 1; 0 for k-space of zeros.

    Source: Marchenko and Pastur, Math. USSR Sbornik 1 (1967).
    """
    patches = _patches(_center(kspace, *calibration), kernel)
    if patches.shape[0] > patches.shape[1]:
        patches = patches.T
    power = jnp.linalg.eigvalsh(patches @ patches.conj().T)  # ascending
    low, most = jnp.maximum(power[len(power) // 4], 0), power[-1]
    root = (patches.shape[0] / patches.shape[1]) ** 0.5
    share = jnp.sqrt(low / jnp.where(most > 0, most, 1))
    return jnp.minimum(share * ((1 + root) / (1 - 0.3 * root)), 1)


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
    coils = block.shape[1]
    shifts = [(i, j) for i in range(kernel) for j in range(kernel)]
    patches = _patches(block, kernel)
    projection = _projection(patches, threshold)
    projection = projection.reshape(coils * kernel**2, coils, kernel, kernel)
    projection = projection.reshape(coils, kernel, kernel, coils, kernel, kernel)
    # Entry (a, b) belongs to lag a - b: reversed, b runs along the lags from a on.
    reversed_ = jnp.flip(projection, (-2, -1)).transpose(1, 2, 0, 3, 4, 5)
    lags = jnp.zeros((coils, coils, 2 * kernel - 1, 2 * kernel - 1), block.dtype)
    for i, j in shifts:
        lags = lags.at[:, :, i : i + kernel, j : j + kernel].add(reversed_[i, j])
    return lags / kernel**2


def _patches(block: Complex[Array, "E C h w"], kernel: int) -> Complex[Array, "D N"]:
    """The calibration matrix: points of a patch, by coil, of all patches."""
    contrasts, coils, height, width = block.shape
    rows, cols = height - kernel + 1, width - kernel + 1
    shifts = [(i, j) for i in range(kernel) for j in range(kernel)]
    patches = jnp.stack([block[..., i : i + rows, j : j + cols] for i, j in shifts], 2)
    # One axis at a time is merged or split: with explicit shardings JAX asks for it.
    patches = jnp.moveaxis(patches, 0, 2)
    patches = patches.reshape(coils * kernel**2, contrasts, rows, cols)
    return patches.reshape(coils * kernel**2, contrasts * rows * cols)


@jax.custom_jvp
def _projection(
    patches: Complex[Array, "D N"], threshold: float
) -> Complex[Array, "D D"]:
    """U U^H over the left singular vectors above the threshold.

    From the smaller of the two Gram matrices; float32 has room for a threshold^2.
    """
    adjoint = patches.conj().T
    if patches.shape[1] >= patches.shape[0]:
        return strong_part(patches @ adjoint, threshold**2, False)
    # left vectors are patches @ vectors / sqrt(power)
    power, vectors = eigenvectors(adjoint @ patches)
    kept = above(power, threshold**2)
    vectors = patches @ vectors
    weight = jnp.where(kept, 1 / jnp.where(kept, power, 1), 0)
    return (vectors * weight.astype(vectors.dtype)[None]) @ vectors.conj().T


@_projection.defjvp
def _projection_jvp(primals, tangents):
    patches, threshold = primals

    def through_gram(patches):
        """Less exact in float32, but differentiable at equal singular values."""
        adjoint = patches.conj().T
        if patches.shape[1] >= patches.shape[0]:
            return strong_part(patches @ adjoint, threshold**2, False)
        inverse = strong_part(adjoint @ patches, threshold**2, True)
        return patches @ inverse @ adjoint

    _, change = jax.jvp(through_gram, (patches,), (tangents[0],))
    return _projection(patches, threshold), change


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
    check_integers("estimate_sensitivities", kernel=(kernel, 1, None))
    for side in calibration:
        check_integers("estimate_sensitivities", calibration=(side, 1, None))
    if 0 in shape[-4:-2]:
        raise ValueError(
            "estimate_sensitivities: kspace: expected at least one contrast and one "
            f"coil, found [.., E, C, H, W] = {shape}"
        )
    if min(calibration) < kernel or any(
        side > size for side, size in zip(calibration, shape[-2:], strict=True)
    ):
        raise ValueError(
            f"estimate_sensitivities: calibration {calibration} must hold the kernel, "
            f"{kernel} x {kernel}, and fit the image {shape[-2:]}: sample a larger "
            "centre or lower the kernel"
        )


def _check_shares(threshold: float, crop: float) -> None:
    """Those that are known when the program is traced."""
    for name, value in (("threshold", threshold), ("crop", crop)):
        traced = isinstance(value, Tracer)
        if not traced and not 0 <= value < 1:
            raise ValueError(
                f"estimate_sensitivities: {name}: expected from 0 to below 1, found "
                f"{value}"
            )
