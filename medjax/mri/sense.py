"""The multi-coil acquisition y[e, c] = M_e F(S_c x_e) and its adjoint.

Source: Pruessmann et al., SENSE, MRM 42 (1999). The coils' maps are the same for every
contrast; leading dimensions are those of a batch, as many for all arguments, and one of
length 1 is shared. Every axis may have length 0, which gives empty images, and a sum
over no coils is 0. Dtypes are promoted by JAX's rules.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import FLAGS, Kind, check_arrays, check_ranges
from medjax.mri.fourier import fft2c, ifft2c
from medjax.mri.partition import batch_fft
from medjax.mri.promotion import promoted


def sense_forward(
    images: Inexact[Array, "*B E H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None = None,
) -> Complex[Array, "*B E C H W"]:
    """y[e, c] = M_e F(S_c x_e): centred k-space, 0 where not sampled.

    F is `fft2c`, orthonormal, with the origin of k-space at [H // 2, W // 2].

    Args:
        images: One a contrast, real or complex, in any unit, which k-space gets. A
            pixel that is not finite spoils all k-space of its contrast.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are not seen.
            Another sum is not refused: it scales k-space. A number that is not finite
            spoils its own coil in every contrast.
        mask: bool or integers, not 0 at the sampled points of centred k-space; [.., E,
            1, W] for whole columns. None takes all points, a mask of zeros none.

    Returns:
        k-space, complex, in the dtype to which images and `sens` are promoted.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    images, sens, mask = _checked("sense_forward", images, sens, mask)
    return _sampled(fft2c(_coil_images(images, sens)), mask)


def sense_adjoint(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None = None,
) -> Complex[Array, "*B E H W"]:
    """x_e = sum_c conj(S_c) F^-1(M_e y[e, c]), the adjoint of `sense_forward`.

    F is `fft2c`. With normalised sensitivities this is the zero-filled image.

    Args:
        kspace: In any unit, which the images get, its origin at [H // 2, W // 2]. A
            sample that is not finite spoils all of its contrast, unless the mask leaves
            it out.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are 0. Another
            sum is not refused: it scales the images. A number that is not finite spoils
            its own pixel in every contrast.
        mask: bool or integers, not 0 at the samples to take; [.., E, 1, W] for whole
            columns. None takes all: k-space that is 0 where it was not sampled needs no
            mask.

    Returns:
        The images, in the dtype to which k-space and `sens` are promoted.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    check_operands(
        "sense_adjoint",
        sens,
        mask,
        kspace=(kspace, "*#B E C H W", complex),
        shared=True,
    )
    kspace, sens = promoted(kspace, sens)
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
        images: Real or complex, in any unit, which the result keeps. A pixel that is
            not finite spoils all of its contrast, or its column if the mask has whole
            rows, or its row if the mask has whole columns.
        sens: sum_c |S_c|^2 = 1 or 0, so that no eigenvalue is above 1, which is not
            checked. A number that is not finite spoils, in every contrast, what a pixel
            of the images there would.
        mask: bool or integers, not 0 at the sampled points of centred k-space; [.., E,
            1, W] for whole columns. None takes all points and gives |S|^2 times the
            images, a mask of zeros gives 0.

    Returns:
        Images in the dtype to which images and `sens` are promoted, which is complex.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    images, sens, mask = _checked("sense_normal", images, sens, mask)
    axes = () if mask is None else tuple(a for a in (-2, -1) if mask.shape[a] > 1)
    shifted = None if mask is None else jnp.fft.ifftshift(mask, axes)

    def sample(spectra: Complex[Array, "*B E H W"]) -> Complex[Array, "*B E H W"]:
        return spectra if shifted is None else jnp.where(shifted, spectra, 0)

    return coilwise_normal(images, sens, axes, sample)


def coilwise_normal(
    images: Complex[Array, "*B E H W"],
    sens: Complex[Array, "*B C H W"],
    axes: tuple[int, ...],
    sample: Callable[[Array], Array],
) -> Complex[Array, "*B E H W"]:
    """sum_c conj(S_c) F^-1 sample(F S_c x), F over `axes` and not centred.

    Args:
        images: In the dtype of `sens`.
        sens: Of any sum.
        axes: Of -2 and -1 those along which `sample` is not constant.
        sample: Images' spectra of one coil -> the same, sampled; linear. It broadcasts
            axes of B that have length 1 as `sens` does.
    """

    def add_coil(
        total: Complex[Array, "*B E H W"], coil: Complex[Array, "*B 1 H W"]
    ) -> tuple[Complex[Array, "*B E H W"], None]:
        spectra = sample(batch_fft(images * coil, axes=axes))
        return total + jnp.conj(coil) * batch_fft(
            spectra, axes=axes, inverse=True
        ), None

    coils = jnp.moveaxis(sens[..., None, :, :], -4, 0)  # [C, .., 1, H, W]
    # Zeros that lie on the devices, and vary over them, as the sum will.
    total = jnp.zeros_like(sample(images * jnp.sum(coils, axis=0)))
    return jax.lax.scan(add_coil, total, coils)[0]


def combine_coils(
    coils: Complex[Array, "*B E C H W"], sens: Complex[Array, "*B C H W"]
) -> Complex[Array, "*B E H W"]:
    """x_e = sum_c conj(S_c) x[e, c]: least squares for white noise, sum |S_c|^2 = 1.

    Args:
        coils: Images of every coil, in any unit, which the result gets. A pixel that is
            not finite spoils itself only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where the result is 0. Another
            sum is not refused: it scales the result. A number that is not finite spoils
            its own pixel in every contrast.

    Returns:
        Images in the dtype to which both are promoted; 0 where there are no coils.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    check_arrays(
        "combine_coils",
        coils=(coils, "*#B E C H W", complex),
        sens=(sens, "*#B C H W", complex),
    )
    coils, sens = promoted(coils, sens)
    return jnp.sum(jnp.conj(sens)[..., None, :, :, :] * coils, axis=-3)


def normalize_sensitivities(
    sens: Complex[Array, "*B C H W"], *, floor: float
) -> Complex[Array, "*B C H W"]:
    """S_c / sqrt(sum_c |S_c|^2); 0 where the root is at most `floor` of its maximum.

    The images that belong to the result are those of `sens` times the root.

    Args:
        sens: In any unit. A pixel at which a coil is not finite is NaN in the result
            and does not count for the maximum; the others of its slice are right. In
            single precision roots above 1e19 are not finite, and those below 1e-19 are
            0, as their squares are: scale such maps first.
        floor: The share of the slice's largest root, 0 to 1, up to which a pixel counts
            as outside; 0 keeps every pixel that a coil sees, 1 none. A traced one is
            not looked at.

    Returns:
        Maps in the dtype of `sens`, without a unit. Where they are 0 because nothing
        was seen, their derivative is 0 too.

    Raises:
        ValueError: fewer than three axes, numbers that are not complex, or a `floor`
            outside its range.
    """
    check_arrays("normalize_sensitivities", sens=(sens, "*B C H W", complex))
    check_ranges("normalize_sensitivities", floor=(floor, 0, 1))
    sens = jnp.asarray(sens)
    root = root_sum_of_squares(sens)[..., None, :, :]
    finite = jnp.isfinite(root)
    largest = jnp.max(
        jnp.where(finite, root, 0), axis=(-2, -1), keepdims=True, initial=0
    )
    outside = finite & (root <= floor * largest)
    root = jnp.where(finite, root, root - root)  # NaN, of infinity too
    return jnp.where(outside, 0, sens / jnp.where(outside, 1, root).astype(sens.dtype))


def mix_coils(
    coils: Inexact[Array, "*B C H W"], matrix: Inexact[Array, "*M V C"]
) -> Inexact[Array, "*B V H W"]:
    """y_v = sum_c A[v, c] x_c: whitens or compresses coils, of k-space or of maps.

    Args:
        coils: k-space or maps, real or complex, in any unit. NaN of one coil spreads to
            all new ones at its own point.
        matrix: Real or complex, one for all, or one for each of the first axes of
            `coils`: the leading axes M are the first ones of B, so that [B, V, C]
            serves k-space [B, E, C, H, W]. An entry that is not finite spoils its own
            row's new coil.

    Returns:
        V new coils in the dtype to which both are promoted, in the product of the
        units; 0 where there are no coils.

    Raises:
        ValueError: a matrix of another number of coils, of more leading axes or of
            others than the first of `coils`; integers.
    """
    check_arrays(
        "mix_coils",
        matrix=(matrix, "*M V C", (float, complex)),
        coils=(coils, "... C H W", (float, complex)),
    )
    coils, matrix = promoted(coils, matrix)
    lead = coils.ndim - 3 - (matrix.ndim - 2)
    if lead < 0 or matrix.shape[:-2] != coils.shape[: matrix.ndim - 2]:
        raise ValueError(
            f"mix_coils: matrix: expected its leading axes to be the first ones of "
            f"coils {coils.shape}, found {matrix.shape}"
        )
    matrix = jnp.expand_dims(matrix, range(matrix.ndim - 2, matrix.ndim - 2 + lead))
    return jnp.einsum("...vc,...chw->...vhw", matrix, coils)


def root_sum_of_squares(
    coils: Inexact[Array, "*N C H W"],
) -> Float[Array, "*N H W"]:
    """sqrt(sum_c |x_c|^2), the combination that needs no sensitivities.

    Args:
        coils: Images of every coil, real or complex, in any unit, which the result
            gets; in single precision numbers below 1e-19 count as 0 and those above
            1e19 give infinity, as their squares do (in float16 above 255). A pixel at
            which one coil is NaN is NaN.

    Returns:
        Real images of the same precision. Where they are 0 the derivative, which does
        not exist, is taken as 0.

    Raises:
        ValueError: fewer than three axes, or integers.
    """
    check_arrays("root_sum_of_squares", coils=(coils, "*N C H W", (float, complex)))
    power = jnp.sum(jnp.real(coils) ** 2 + jnp.imag(coils) ** 2, axis=-3)
    dark = power == 0
    return jnp.where(dark, 0, jnp.sqrt(jnp.where(dark, 1, power)))


def check_operands(
    function: str,
    sens: Array,
    mask: Array | None,
    *,
    shared: bool,
    **arrays: tuple[Array | None, str, Kind | tuple[Kind, ...]],
) -> None:
    """`check_arrays` of `arrays`, then of sensitivities and mask.

    Args:
        function: The public function's name, with which a message begins.
        sens: [*B, C, H, W], complex.
        mask: [*B, E, #H, #W] of flags, or None.
        shared: Whether axes of B may have length 1 where others have not.
        arrays: As for `check_arrays`; the first set the sizes.

    Raises:
        ValueError: naming function and argument; also which of the two is which.
    """
    flags = mask is not None and jnp.iscomplexobj(mask)
    if flags and not jnp.iscomplexobj(sens):
        raise ValueError(
            f"{function}: sens: expected complex sensitivities, then a mask of bool; "
            f"found {jnp.result_type(sens)}, then {jnp.result_type(mask)}: the order "
            "is sens, mask"
        )
    batch = "*#B" if shared else "*B"
    check_arrays(
        function,
        **arrays,
        sens=(sens, f"{batch} C H W", complex),
        mask=(mask, f"{batch} E #H #W", FLAGS),
    )


def _coil_images(
    images: Complex[Array, "*B E H W"], sens: Complex[Array, "*B C H W"]
) -> Complex[Array, "*B E C H W"]:
    return images[..., :, None, :, :] * sens[..., None, :, :, :]


def _sampled(
    kspace: Complex[Array, "*B E C H W"], mask: Bool[Array, "*B E #H #W"] | None
) -> Complex[Array, "*B E C H W"]:
    """Zero, whatever stands there, where the mask is 0."""
    if mask is None:
        return kspace
    mask = jnp.asarray(mask).astype(bool)
    return jnp.where(mask[..., :, None, :, :], kspace, 0)


def _checked(
    function: str,
    images: Inexact[Array, "*#B E H W"],
    sens: Complex[Array, "*#B C H W"],
    mask: Bool[Array, "*#B E #H #W"] | None,
) -> tuple[Array, Array, Array | None]:
    """All three, of fitting shapes, in one complex dtype, the mask as flags."""
    check_operands(
        function,
        sens,
        mask,
        images=(images, "*#B E H W", (float, complex)),
        shared=True,
    )
    images, sens = promoted(images, sens)
    return images, sens, None if mask is None else jnp.asarray(mask).astype(bool)
