"""The normal equations A^H A x = A^H y of all contrasts, and where loops start."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from medjax.mri.sense import sense_adjoint, sense_normal
from medjax.mri.subspace import project, subspace_kernel, subspace_normal


class NormalEquations(NamedTuple):
    """After the adjoint k-space is not needed again."""

    normal_fn: Callable[[Array], Array]  # A^H A
    adjoint: Array  # A^H y


def normal_equations(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    basis: Float[Array, "E K"] | None,
) -> NormalEquations:
    """Of the images, or with a basis of the K images of a temporal subspace.

    Args:
        kspace: Centred, in any unit, which the images get.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object.
        mask: Not 0 where sampled.
        basis: Real, with orthonormal columns, or None.
    """
    adjoint = sense_adjoint(kspace, sens, mask)
    if basis is None:
        return NormalEquations(lambda x: sense_normal(x, sens, mask), adjoint)
    kernel = subspace_kernel(mask, basis)
    return NormalEquations(
        lambda x: subspace_normal(x, sens, kernel), project(adjoint, basis)
    )


def carry_for(step: Callable[[Array], Array], start: Array) -> Array:
    """`start`, so that a loop of `step` may begin with it on any mesh.

    Inside `shard_map` a carry has to vary over devices, and on an explicit mesh to lie
    on them, as soon as what `step` closes over does.

    Args:
        step: Called for the type of its result alone, of the shape of `start`.
        start: What the loop begins with.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not (mesh.manual_axes or mesh.explicit_axes):
        return start
    return start + jnp.zeros_like(step(start))
