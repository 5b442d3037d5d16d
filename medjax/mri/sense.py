"""The multi-coil acquisition y[e, c] = M_e F(S_c x_e) and its adjoint.

Source: Pruessmann et al., SENSE, MRM 42 (1999). The coils' maps are the same for every
contrast; leading dimensions are those of a batch, as many for all arguments, and one of
length 1 is shared.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import check_arrays
from medjax.mri.fourier import fft2c, ifft2c
from medjax.mri.partition import batch_fft


def sense_forward(
    images: Inexact[Array, "*B E H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None = None,
) -> Complex[Array, "*B E C H W"]:
    """y[e, c] = M_e F(S_c x_e): centred k-space, 0 where not sampled.

    Args:
        images: One a contrast, in any unit, which k-space gets; real images are taken
            as complex ones. A pixel that is not finite spoils all of its contrast.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are not seen.
        mask: 1 at the sampled points of centred k-space, [.., E, 1, W] for whole
            columns; an empty one gives zeros. None = all.

    Returns:
        k-space in the dtype of `sens`.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    _check("sense_forward", images, sens, mask)
    return _sampled(fft2c(_coil_images(images, sens)), mask)


def sense_adjoint(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None = None,
) -> Complex[Array, "*B E H W"]:
    """x_e = sum_c conj(S_c) F^-1(M_e y[e, c]), the adjoint of `sense_forward`.

    With normalised sensitivities this is the zero-filled image.

    Args:
        kspace: Centred, in any unit, which the images get. A sample that is not finite
            spoils all of its contrast, unless the mask leaves it out.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are 0.
        mask: 1 at the samples to take, [.., E, 1, W] for whole columns. None = all:
            k-space that is 0 where it was not sampled needs no mask.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    check_arrays(
        "sense_adjoint",
        kspace=(kspace, "*#B E C H W", complex),
        sens=(sens, "*#B C H W", complex),
        mask=(mask, "*#B E #H #W", (bool, int, float)),
    )
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

    Args:
        images: As `sense_forward` takes them; the result has their unit.
        sens: sum_c |S_c|^2 = 1 or 0, so that no eigenvalue is above 1.
        mask: 1 at the sampled points of centred k-space, [.., E, 1, W] for whole
            columns; an empty one gives zeros. None = all: |S|^2 times the images.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    _check("sense_normal", images, sens, mask)
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
    # Zeros that lie on the devices, and vary over them, as the sum will.
    total = _sampled(_coil_images(images, jnp.sum(sens, -3, keepdims=True)), shifted)
    total = jnp.zeros_like(total[..., 0, :, :])
    return jax.lax.scan(add_coil, total, coils)[0]


def combine_coils(
    coils: Complex[Array, "*B E C H W"], sens: Complex[Array, "*B C H W"]
) -> Complex[Array, "*B E H W"]:
    """x_e = sum_c conj(S_c) x[e, c]: least squares for white noise, sum |S_c|^2 = 1.

    Args:
        coils: Images of every coil, in any unit. A pixel that is not finite spoils
            itself only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where the result is 0.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    check_arrays(
        "combine_coils",
        coils=(coils, "*#B E C H W", complex),
        sens=(sens, "*#B C H W", complex),
    )
    return jnp.sum(jnp.conj(sens)[..., None, :, :, :] * coils, axis=-3)


def normalize_sensitivities(
    sens: Complex[Array, "*B C H W"], *, floor: float
) -> Complex[Array, "*B C H W"]:
    """S_c / sqrt(sum_c |S_c|^2); 0 where the root is at most `floor` of its maximum.

    The images that belong to the result are those of `sens` times the root.

    Args:
        sens: In any unit, all numbers finite: one that is not makes the maps of its
            whole slice 0.
        floor: The share of the slice's largest root, 0 to 1, up to which a pixel counts
            as outside; 0 keeps every pixel that a coil sees.

    Raises:
        ValueError: fewer than three axes, or numbers that are not complex.
    """
    check_arrays("normalize_sensitivities", sens=(sens, "*B C H W", complex))
    root = root_sum_of_squares(sens)[..., None, :, :]
    inside = root > floor * jnp.max(root, axis=(-2, -1), keepdims=True)
    return jnp.where(inside, sens / jnp.where(inside, root, 1).astype(sens.dtype), 0)


def mix_coils(
    coils: Complex[Array, "*B C H W"], matrix: Complex[Array, "*M V C"]
) -> Complex[Array, "*B V H W"]:
    """y_v = sum_c A[v, c] x_c: whitens or compresses coils, of k-space or of maps.

    Args:
        coils: k-space or maps, in any unit. NaN of one coil spreads to all new ones at
            its own point.
        matrix: One for all, or one for each of the first axes of `coils`: the leading
            axes M are the first ones of B, so that [B, V, C] serves k-space
            [B, E, C, H, W].

    Raises:
        ValueError: a matrix of another number of coils, or of more leading axes.
    """
    check_arrays(
        "mix_coils",
        matrix=(matrix, "*M V C", (float, complex)),
        coils=(coils, "... C H W", (float, complex)),
    )
    lead = coils.ndim - 3 - (matrix.ndim - 2)
    if lead < 0 or matrix.shape[:-2] != coils.shape[: matrix.ndim - 2]:
        raise ValueError(
            f"mix_coils: matrix: expected its leading axes to be the first ones of "
            f"coils {coils.shape}, found {matrix.shape}"
        )
    matrix = jnp.expand_dims(matrix, range(matrix.ndim - 2, matrix.ndim - 2 + lead))
    return jnp.einsum("...vc,...chw->...vhw", matrix, coils)


def root_sum_of_squares(
    coils: Complex[Array, "*N C H W"],
) -> Float[Array, "*N H W"]:
    """sqrt(sum_c |x_c|^2), the combination that needs no sensitivities.

    Args:
        coils: Images of every coil, in any unit, which the result gets. A pixel at
            which one coil is NaN is NaN.
    """
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


def _check(
    function: str,
    images: Inexact[Array, "*#B E H W"],
    sens: Complex[Array, "*#B C H W"],
    mask: Bool[Array, "*#B E #H #W"] | None,
) -> None:
    check_arrays(
        function,
        images=(images, "*#B E H W", (float, complex)),
        sens=(sens, "*#B C H W", complex),
        mask=(mask, "*#B E #H #W", (bool, int, float)),
    )
