"""The normal equations A^H A x = A^H y of all contrasts, and where loops start."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from medjax.mri.sense import sense_adjoint, sense_normal
from medjax.mri.subspace import project, subspace_kernel, subspace_normal

Carry = TypeVar("Carry")


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
    """x -> A^H A x and A^H y of the images, or of the K images of a temporal subspace.

    A = M F S is `sense_forward`; with a basis A is A basis, and x its coefficients.

    Args:
        kspace: y, its origin at [H // 2, W // 2], in any unit, which the images get;
            read where the mask is not 0.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, which is not checked.
        mask: bool or integers, not 0 where sampled.
        basis: Real, with orthonormal columns (not checked), or None for the images
            themselves.
    """
    adjoint = sense_adjoint(kspace, sens, mask)
    if basis is None:
        return NormalEquations(lambda x: sense_normal(x, sens, mask), adjoint)
    kernel = subspace_kernel(mask, basis)
    return NormalEquations(
        lambda x: subspace_normal(x, sens, kernel), project(adjoint, basis)
    )


def carry_for(step: Callable[[Carry], Carry], start: Carry) -> Carry:
    """`start`, so that a loop of `step` may begin with it on any mesh.

    Inside `shard_map` a carry has to vary over devices, and on an explicit mesh to lie
    on them, as soon as what `step` closes over does.

    Args:
        step: Called once, where the mesh asks for it, for the type of its result alone,
            which has the shapes and dtypes of `start`. It closes over arrays that are
            not known here; where they are, see `indexing.vary_with`.
        start: What the loop begins with, one array or a tree of them; no number
            changes.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not (mesh.manual_axes or mesh.explicit_axes):
        return start
    return jax.tree.map(lambda x, y: x + jnp.zeros_like(y), start, step(start))
