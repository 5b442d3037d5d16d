"""The multi-coil acquisition y[e, c] = M_e F(S_c x_e) and its adjoint.

Source: Pruessmann et al., SENSE, MRM 42 (1999). The coils' maps are the same for every
contrast; leading dimensions of all arguments are those of a batch and must agree.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.mri.fourier import fft2c, ifft2c
from medjax.mri.partition import batch_fft


def sense_forward(
    images: Inexact[Array, "*B E H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None = None,
) -> Complex[Array, "*B E C H W"]:
    """y[e, c] = M_e F(S_c x_e): centred k-space, 0 where not sampled.

    Args:
        images: one a contrast; real images are taken as complex ones.
        sens: coil sensitivities, sum_c |S_c|^2 = 1 (or 0 outside the object).
        mask: sampled points of centred k-space, [.., E, 1, W] for whole columns;
            None = all.
    """
    _check_shapes(images, sens, mask)
    return _sampled(fft2c(_coil_images(images, sens)), mask)


def sense_adjoint(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None = None,
) -> Complex[Array, "*B E H W"]:
    """x_e = sum_c conj(S_c) F^-1(M_e y[e, c]), the adjoint of `sense_forward`.

    With normalised sensitivities this is the zero-filled image. k-space that is 0 where
    it was not sampled needs no mask.
    """
    if kspace.ndim != sens.ndim + 1 or kspace.shape[-3:] != sens.shape[-3:]:
        raise ValueError(
            "expected k-space [.., E, C, H, W] and sens [.., C, H, W] of the same "
            f"coils and size, found {kspace.shape} and {sens.shape}"
        )
    _check_shapes(kspace[..., 0, :, :], sens, mask)
    return combine_coils(ifft2c(_sampled(kspace, mask)), sens)


def sense_normal(
    images: Inexact[Array, "*B E H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None = None,
) -> Complex[Array, "*B E H W"]:
    """sense_adjoint(sense_forward(x)), without the work that cancels.

    Centring an image multiplies its spectrum by phases, which cancel in F^H M F: only
    the mask is shifted. Along an axis on which the mask is constant (length 1) the
    transform itself cancels: whole lines need 1-D transforms only. One coil at a time,
    because coil images of all coils leave the cache (and need C times the memory).
    """
    _check_shapes(images, sens, mask)
    axes = () if mask is None else tuple(a for a in (-2, -1) if mask.shape[a] > 1)
    shifted = None if mask is None else jnp.fft.ifftshift(mask, axes)

    def add_coil(
        total: Complex[Array, "*B E H W"], coil: Complex[Array, "*B 1 H W"]
    ) -> tuple[Complex[Array, "*B E H W"], None]:
        coils = _coil_images(images, coil)
        if axes:
            spectrum = _sampled(batch_fft(coils, axes=axes), shifted)
            coils = batch_fft(spectrum, axes=axes, inverse=True)
        else:
            coils = _sampled(coils, shifted)
        return total + combine_coils(coils, coil), None

    coils = jnp.moveaxis(sens[..., None, :, :], -4, 0)  # [C, .., 1, H, W]
    shapes = [x.shape for x in (images, coils[0], mask) if x is not None]
    total = jnp.zeros(jnp.broadcast_shapes(*shapes), sens.dtype)
    return jax.lax.scan(add_coil, total, coils)[0]


def combine_coils(
    coils: Complex[Array, "*B E C H W"], sens: Complex[Array, "*B C H W"]
) -> Complex[Array, "*B E H W"]:
    """x_e = sum_c conj(S_c) x[e, c]: least squares for white noise, sum |S_c|^2 = 1."""
    return jnp.sum(jnp.conj(sens)[..., None, :, :, :] * coils, axis=-3)


def normalize_sensitivities(
    sens: Complex[Array, "*B C H W"], *, floor: float
) -> Complex[Array, "*B C H W"]:
    """S_c / sqrt(sum_c |S_c|^2); 0 where the root is at most `floor` of its maximum.

    The images that belong to the result are those of `sens` times the root.
    """
    root = root_sum_of_squares(sens)[..., None, :, :]
    inside = root > floor * jnp.max(root, axis=(-2, -1), keepdims=True)
    return jnp.where(inside, sens / jnp.where(inside, root, 1).astype(sens.dtype), 0)


def mix_coils(
    coils: Complex[Array, "*B C H W"], matrix: Complex[Array, "*M V C"]
) -> Complex[Array, "*B V H W"]:
    """y_v = sum_c A[v, c] x_c: whitens or compresses coils, of k-space or of maps.

    Leading dimensions of the matrix are the first ones of the coils.
    """
    lead = coils.ndim - 3 - (matrix.ndim - 2)
    if matrix.shape[-1] != coils.shape[-3] or lead < 0:
        raise ValueError(
            f"expected coils [.., {matrix.shape[-1]}, H, W] for a matrix "
            f"{matrix.shape}, found {coils.shape}"
        )
    matrix = jnp.expand_dims(matrix, range(matrix.ndim - 2, matrix.ndim - 2 + lead))
    return jnp.einsum("...vc,...chw->...vhw", matrix, coils)


def root_sum_of_squares(
    coils: Complex[Array, "*N C H W"],
) -> Float[Array, "*N H W"]:
    """sqrt(sum_c |x_c|^2), the combination that needs no sensitivities."""
    power = jnp.real(coils) ** 2 + jnp.imag(coils) ** 2
    return jnp.sqrt(jnp.sum(power, axis=-3))


def _coil_images(
    images: Inexact[Array, "*B E H W"], sens: Complex[Array, "*B C H W"]
) -> Complex[Array, "*B E C H W"]:
    images = images[..., :, None, :, :].astype(sens.dtype)
    return images * sens[..., None, :, :, :]


def _sampled(
    kspace: Complex[Array, "*B E C H W"], mask: Bool[Array, "*B E #H #W"] | None
) -> Complex[Array, "*B E C H W"]:
    """Zero, whatever stands there, where the mask is 0."""
    if mask is None:
        return kspace
    return jnp.where(mask[..., :, None, :, :].astype(bool), kspace, 0)


def _check_shapes(
    images: Inexact[Array, "*B E H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None,
) -> None:
    if images.ndim != sens.ndim or images.shape[-2:] != sens.shape[-2:]:
        raise ValueError(
            "expected images [.., E, H, W] and sens [.., C, H, W] of the same leading "
            f"dimensions and size, found {images.shape} and {sens.shape}"
        )
    if mask is not None and mask.ndim != images.ndim:
        raise ValueError(
            f"expected a mask [.., E, H or 1, W or 1] without coils, found "
            f"{mask.shape} for images {images.shape}"
        )
