"""Coil compression: fewer virtual coils that hold nearly all of the signal."""

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from medjax.mri.sense import mix_coils, normalize_sensitivities


def compression_matrix(
    kspace: Complex[Array, "*B E C H W"], *, coils: int
) -> tuple[Complex[Array, "*B V C"], Float[Array, "*B"]]:
    """(A, share of the energy kept): the `coils` strongest singular directions.

    A A^H = 1, so white noise stays white. The rows are eigenvectors of the C x C Gram
    matrix over all samples and contrasts; the phase of each is fixed by making its
    largest entry real and positive. Prewhiten first, or a noisy coil counts as signal.

    Source: Buehrer et al., MRM 57 (2007).
    """
    found = kspace.shape[-3]
    if not 1 <= coils <= found:
        raise ValueError(f"expected 1 to {found} virtual coils, found {coils}")
    gram = jnp.einsum("...echw,...edhw->...cd", kspace, kspace.conj())
    power, vectors = jnp.linalg.eigh(gram)  # ascending
    strongest = jnp.flip(vectors, -1)[..., :coils]
    largest = jnp.argmax(jnp.abs(strongest), axis=-2, keepdims=True)
    anchor = jnp.take_along_axis(strongest, largest, axis=-2)
    matrix = strongest * jnp.conj(anchor / jnp.abs(anchor).astype(anchor.dtype))
    kept = jnp.sum(power[..., found - coils :], -1) / jnp.sum(power, -1)
    return jnp.conj(jnp.swapaxes(matrix, -1, -2)), kept


def compress_sensitivities(
    sens: Complex[Array, "*B C H W"], matrix: Complex[Array, "*B V C"]
) -> Complex[Array, "*B V H W"]:
    """Maps of the virtual coils, normalised again.

    Images scale by the root sum of squares that was divided out, at most 1; it is close
    to 1 where compression keeps the signal, and the same for every contrast.
    """
    return normalize_sensitivities(mix_coils(sens, matrix), floor=0)
