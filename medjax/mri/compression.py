"""Coil compression: fewer virtual coils that hold nearly all of the signal."""

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from medjax.checks import check_arrays
from medjax.mri.sense import mix_coils, normalize_sensitivities


def compression_matrix(
    kspace: Complex[Array, "*B E C H W"], *, coils: int
) -> tuple[Complex[Array, "*B V C"], Float[Array, "*B"]]:
    """(A, share of the energy kept): the `coils` strongest singular directions.

    A A^H = 1, so white noise stays white. The rows are eigenvectors of the C x C Gram
    matrix over all samples and contrasts; the phase of each is fixed by making its
    largest entry real and positive.

    Args:
        kspace: In any unit, 0 where not sampled. Prewhitened, or a noisy coil counts as
            signal. Every slice gets its own matrix; one that holds NaN a NaN share and
            a matrix without use.
        coils: How many virtual coils V to keep, 1 to C; C keeps everything.

    Returns:
        The matrix for `mix_coils`, and the share of the energy that V coils keep, 0 to
        1; NaN where k-space is 0 everywhere.

    Raises:
        ValueError: fewer than 1 or more than C virtual coils, a wrong shape or dtype.

    Source: Buehrer et al., MRM 57 (2007).
    """
    check_arrays("compression_matrix", kspace=(kspace, "*B E C H W", complex))
    physical = kspace.shape[-3]
    if not 1 <= coils <= physical:
        raise ValueError(
            f"compression_matrix: coils: expected 1 to {physical} virtual coils, "
            f"found {coils}"
        )
    gram = jnp.einsum("...echw,...edhw->...cd", kspace, kspace.conj())
    power, vectors = jnp.linalg.eigh(gram)  # ascending
    strongest = jnp.flip(vectors, -1)[..., :coils]
    largest = jnp.argmax(jnp.abs(strongest), axis=-2, keepdims=True)
    anchor = jnp.take_along_axis(strongest, largest, axis=-2)
    matrix = strongest * jnp.conj(anchor / jnp.abs(anchor).astype(anchor.dtype))
    kept = jnp.sum(power[..., physical - coils :], -1) / jnp.sum(power, -1)
    return jnp.conj(jnp.swapaxes(matrix, -1, -2)), kept


def compress_sensitivities(
    sens: Complex[Array, "*B C H W"], matrix: Complex[Array, "*B V C"]
) -> Complex[Array, "*B V H W"]:
    """Maps of the virtual coils, normalised again.

    Images scale by the root sum of squares that was divided out, at most 1; it is close
    to 1 where compression keeps the signal, and the same for every contrast.

    Args:
        sens: Maps of the physical coils, sum_c |S_c|^2 = 1, or 0 outside the object;
            where they are 0 the result is 0.
        matrix: The first result of `compression_matrix`, one a slice.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    return normalize_sensitivities(mix_coils(sens, matrix), floor=0)
