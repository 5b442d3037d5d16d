"""Coil compression: fewer virtual coils that hold nearly all of the signal."""

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from medjax.checks import check_arrays, check_integers
from medjax.mri.hermitian import eigenvectors
from medjax.mri.sense import mix_coils, normalize_sensitivities


def compression_matrix(
    kspace: Complex[Array, "*B E C H W"], *, coils: int
) -> tuple[Complex[Array, "*B V C"], Float[Array, "*B"]]:
    """(A, share of the energy kept): the `coils` strongest singular directions.

    A A^H = 1, so white noise stays white. The rows are eigenvectors of the C x C Gram
    matrix over all samples and contrasts; the phase of each is fixed by making its
    largest entry real and positive.

    Args:
        kspace: k-space in any unit, 0 where not sampled. Whiten it first, or a noisy
            coil counts as signal. Every slice gets its own matrix; a number that is not
            finite gives its slice a share of NaN and a matrix without use.
        coils: How many virtual coils V to keep, a static integer from 1 to C; C keeps
            everything.

    Returns:
        The matrix for `mix_coils`, without a unit, in the dtype of k-space, its rows by
        falling energy; and the share of the energy that V coils keep, 0 to 1, NaN
        where k-space is 0 everywhere (the rows then are any orthonormal ones).
        Derivatives of the matrix are finite: where two singular values are equal to
        rounding, so that the directions are free to turn into each other, this turn
        counts as none. Second derivatives are refused by a ValueError.

    Raises:
        ValueError: a number of virtual coils that is out of its range or traced,
            k-space without coils, a wrong shape or dtype.

    Source: Buehrer et al., MRM 57 (2007).
    """
    check_arrays("compression_matrix", kspace=(kspace, "*B E C H W", complex))
    physical = kspace.shape[-3]
    if physical == 0:
        raise ValueError(
            "compression_matrix: kspace: expected at least one coil, found "
            f"[.., E, C, H, W] = {kspace.shape}"
        )
    check_integers("compression_matrix", coils=(coils, 1, physical))
    gram = jnp.einsum("...echw,...edhw->...cd", kspace, kspace.conj())
    power, vectors = eigenvectors(gram)  # ascending
    strongest = jnp.flip(vectors, -1)[..., :coils]
    largest = jnp.argmax(jnp.abs(strongest), axis=-2, keepdims=True)
    anchor = jnp.take_along_axis(strongest, largest, axis=-2)
    matrix = strongest * jnp.conj(anchor / jnp.abs(anchor).astype(anchor.dtype))
    kept = jnp.sum(power[..., physical - coils :], -1) / jnp.sum(power, -1)
    return jnp.conj(jnp.swapaxes(matrix, -1, -2)), kept


def compress_sensitivities(
    sens: Complex[Array, "*B C H W"], matrix: Complex[Array, "*B V C"]
) -> Complex[Array, "*B V H W"]:
    """Maps of the virtual coils, normalised again: S_v = sum_c A[v, c] S_c / root.

    The root, sqrt(sum_v |sum_c A[v, c] S_c|^2), is at most 1; images scale by it; it is
    close to 1 where compression keeps the signal, and the same for every contrast.

    Args:
        sens: Maps of the physical coils, sum_c |S_c|^2 = 1, or 0 outside the object. A
            pixel at which a coil is not finite is NaN.
        matrix: The first result of `compression_matrix`, one a slice. A number that is
            not finite makes its slice NaN.

    Returns:
        Maps of V coils with sum_v |S_v|^2 = 1, or 0 where no virtual coil sees
        anything, as where `sens` is 0.

    Raises:
        ValueError: shapes that do not fit each other, numbers that are not complex.
    """
    check_arrays(
        "compress_sensitivities",
        sens=(sens, "*B C H W", complex),
        matrix=(matrix, "*B V C", complex),
    )
    return normalize_sensitivities(mix_coils(sens, matrix), floor=0)
