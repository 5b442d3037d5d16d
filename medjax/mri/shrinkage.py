"""The shrinkage of singular values as a function of a Gram matrix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact


@jax.custom_jvp
def shrinkage(
    gram: Inexact[Array, "*N E E"], threshold: Float[Array, "*#N 1"]
) -> Inexact[Array, "*N E E"]:
    """V h(s) V^H of gram = V s^2 V^H, with h(s) = max(1 - threshold / s, 0).

    The derivative is V (D * (V^H dG V)) V^H, D the divided differences of h in s^2
    (Daleckii and Krein, 1965). Eigenvectors alone have none where eigenvalues are
    equal; h(gram) has.

    Args:
        gram: Hermitian, positive semidefinite.
        threshold: At least 0, of as many axes as the singular values; with 0 the result
            is the identity, with NaN it is NaN.
    """
    _, vectors, kept = _spectrum(gram, threshold)
    return _matrix(vectors, kept)


@shrinkage.defjvp
def _derivative(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    gram, threshold = primals
    gram_dot, threshold_dot = tangents
    singular, vectors, kept = _spectrum(gram, threshold)
    gram_dot = (gram_dot + _adjoint(gram_dot)) / 2
    inner = _adjoint(vectors) @ gram_dot @ vectors
    inner = _divided_differences(singular, threshold).astype(vectors.dtype) * inner
    above = singular > threshold
    slope = -jnp.where(above, 1 / jnp.where(above, singular, 1), 0)
    along = vectors @ inner @ _adjoint(vectors)
    return _matrix(vectors, kept), along + _matrix(vectors, slope * threshold_dot)


def _spectrum(gram: Array, threshold: Array) -> tuple[Array, Array, Array]:
    """Singular values, vectors and h; 1 below a threshold of 0, which drops nothing."""
    power, vectors = jnp.linalg.eigh(gram)
    none = power <= 0
    singular = jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, power)))
    above = singular > threshold
    below = jnp.where(
        threshold == 0, 1.0, jnp.where(jnp.isnan(threshold), jnp.nan, 0.0)
    )
    below = below.astype(singular.dtype)
    kept = jnp.where(above, 1 - threshold / jnp.where(above, singular, 1), below)
    return singular, vectors, kept


def _divided_differences(
    singular: Float[Array, "*N E"], threshold: Float[Array, "*#N 1"]
) -> Float[Array, "*N E E"]:
    """(h(s) - h(r)) / (s^2 - r^2), h'(s) / 2s where s = r, without cancellation."""
    threshold = threshold[..., None]
    s, r = singular[..., :, None], singular[..., None, :]
    s, r = jnp.maximum(s, r), jnp.minimum(s, r)
    one, both = s > threshold, r > threshold
    large, small = jnp.where(one, s, 1), jnp.where(both, r, 1)
    kept = threshold / (large * small * (large + small))
    gap = jnp.where(one & ~both, s - r, 1)
    dropped = (large - threshold) / (large * gap * (large + r))
    slope = jnp.where(both, kept, jnp.where(one, dropped, 0))
    return jnp.where(threshold == 0, 0, slope)


def _matrix(vectors: Array, values: Array) -> Array:
    return (vectors * values[..., None, :].astype(vectors.dtype)) @ _adjoint(vectors)


def _adjoint(matrix: Array) -> Array:
    return jnp.conj(jnp.swapaxes(matrix, -1, -2))
