"""Eigenvectors of Hermitian matrices with derivatives that stay finite at equal values.

The derivative of an eigenvector divides by the gap to every other eigenvalue. JAX's own
is NaN where two are equal, even where nothing that is asked for depends on the two: the
five zeros of eight coils that see three signals spoil every gradient. Here first
derivatives are right; second ones, which at equal values need more, are refused.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float


@jax.custom_jvp
def eigenvectors(
    matrix: Complex[Array, "*B C C"],
) -> tuple[Float[Array, "*B C"], Complex[Array, "*B C C"]]:
    """(eigenvalues, ascending; eigenvectors, in columns), as `jnp.linalg.eigh`.

    Args:
        matrix: Hermitian, one for each leading index; another counts as (M + M^H) / 2.

    Where two eigenvalues are equal to rounding any rotation of their vectors will do,
    and derivatives of the vectors count none between the two.
    """
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


@eigenvectors.defjvp
def _eigenvectors_jvp(primals, tangents):
    values, vectors = _once(eigenvectors(*primals))
    change = _in_basis(tangents[0], vectors)
    slopes = jnp.real(jnp.diagonal(change, axis1=-2, axis2=-1))
    gaps = values[..., None, :] - values[..., :, None]
    largest = jnp.max(jnp.abs(values), axis=-1)[..., None, None]
    equal = jnp.abs(gaps) <= jnp.finfo(values.dtype).eps * largest
    inverse = jnp.where(equal, 0, 1 / jnp.where(equal, 1, gaps))
    turn = vectors @ (inverse.astype(change.dtype) * change)
    return (values, vectors), (slopes, turn)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def strong_part(
    matrix: Complex[Array, "C C"], share: Float[Array, ""], inverse: bool
) -> Complex[Array, "C C"]:
    """The sum of u u^H over the eigenvectors of eigenvalues above share * the largest.

    With `inverse` each counts by 1 / its eigenvalue. The derivative, by the divided
    differences of Daleckii and Krein, needs the gap at the share only; it takes what is
    above as fixed, so that `share` has the derivative 0.
    """
    values, vectors = eigenvectors(matrix)
    weight = jnp.where(*_weights(values, share, inverse), 0).astype(vectors.dtype)
    return (vectors * weight[None]) @ vectors.conj().T


@strong_part.defjvp
def _strong_part_jvp(inverse, primals, tangents):
    matrix, share = primals
    values, vectors = _once(eigenvectors(matrix))
    kept, weight = _weights(values, share, inverse)
    weight = jnp.where(kept, weight, 0)
    apart = kept[:, None] != kept[None]
    gaps = jnp.where(apart, values[:, None] - values[None], 1)
    quotient = jnp.where(apart, (weight[:, None] - weight[None]) / gaps, 0)
    if inverse:  # of 1 / value between two that are kept
        quotient = quotient - weight[:, None] * weight[None]
    change = _in_basis(tangents[0], vectors)
    change = vectors @ (quotient.astype(change.dtype) * change) @ vectors.conj().T
    return strong_part(matrix, share, inverse), change


@jax.custom_jvp
def _once(
    pair: tuple[Float[Array, "*B C"], Complex[Array, "*B C C"]],
) -> tuple[Float[Array, "*B C"], Complex[Array, "*B C C"]]:
    """As it is, for a rule of which there is no derivative."""
    return pair


@_once.defjvp
def _once_jvp(primals, tangents):
    del primals, tangents
    raise ValueError(
        "estimate_sensitivities and compression_matrix have first derivatives only: "
        "take second ones for fixed maps (jax.lax.stop_gradient of the result)"
    )


def above(values: Float[Array, "C"], share: Float[Array, ""]) -> Bool[Array, "C"]:
    """Which of the ascending eigenvalues are above `share` of the largest, and above 0.

    Args:
        values: C of them, ascending, in any unit.
        share: 0 to 1.
    """
    return (values > share * values[-1]) & (values > 0)


def _weights(
    values: Float[Array, "C"], share: Float[Array, ""], inverse: bool
) -> tuple[Bool[Array, "C"], Float[Array, "C"]]:
    """Which are kept, and what they count by."""
    kept = above(values, share)
    counted = 1 / jnp.where(kept, values, 1) if inverse else jnp.ones_like(values)
    return kept, counted


def _in_basis(
    change: Complex[Array, "*B C C"], vectors: Complex[Array, "*B C C"]
) -> Complex[Array, "*B C C"]:
    """V^H dM V of the Hermitian part, which is all that `eigh` reads."""
    adjoint = jnp.conj(jnp.swapaxes(change, -1, -2))
    basis = jnp.conj(jnp.swapaxes(vectors, -1, -2))
    return basis @ ((change + adjoint) / 2) @ vectors
