"""Classical reconstructions: images of all contrasts from undersampled k-space.

Every function is pure, static in its options, and batched: leading dimensions of
k-space, sensitivities and mask are those of a batch, and sharding one of them needs no
communication. With A x = M F S x (`sense_forward`), each minimises

    |A x - y|^2 / 2 + penalty

over the images x its `constraint` admits:

=========  ============================================================
complex    any
real       real ones (a phase that was removed, or is part of `sens`)
phase      real ones times exp(i `phase`), a smooth phase that is known
=========  ============================================================

"real" and "phase" return the real factor, signed, which is what a fit needs; the images
of "phase" are it times exp(i phase). Penalties are in units of the images: scale
k-space so that images are about 1, or the weights with it. After the adjoint only the
normal operator A^H A is needed, never k-space again.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.mri.cg import conjugate_gradient
from medjax.mri.proximal import low_rank_prox, random_shift, wavelet_prox
from medjax.mri.proximal_gradient import fista
from medjax.mri.sense import sense_adjoint, sense_normal
from medjax.mri.subspace import expand, project, subspace_kernel, subspace_normal
from medjax.types import Key

CONSTRAINTS = ("complex", "real", "phase")


def zero_filled(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    *,
    constraint: str = "complex",
    phase: Float[Array, "*B #E H W"] | None = None,
) -> Inexact[Array, "*B E H W"]:
    """x = A^H y: what was not sampled is 0. No problem is solved."""
    return _problem(kspace, sens, mask, None, constraint, phase).adjoint


def cg_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    *,
    damping: float | Array,
    iterations: int,
    tolerance: float = 0.0,
    constraint: str = "complex",
    phase: Float[Array, "*B #E H W"] | None = None,
) -> Inexact[Array, "*B E H W"]:
    """argmin |A x - y|^2 / 2 + damping |x|^2 / 2, each contrast for itself.

    By conjugate gradients. Source: Pruessmann et al., MRM 46 (2001).
    """
    problem = _problem(kspace, sens, mask, None, constraint, phase)
    return _damped(problem, damping, iterations, tolerance, (-2, -1))


def subspace_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    *,
    basis: Float[Array, "E K"],
    damping: float | Array,
    iterations: int,
    tolerance: float = 0.0,
    constraint: str = "complex",
    phase: Float[Array, "*B 1 H W"] | None = None,
) -> Inexact[Array, "*B E H W"]:
    """x = basis a, a = argmin |A basis a - y|^2 / 2 + damping |a|^2 / 2.

    By conjugate gradients over all contrasts together. `basis` has orthonormal columns
    (`exponential_basis`).
    """
    problem = _problem(kspace, sens, mask, basis, constraint, phase)
    solution = _damped(problem, damping, iterations, tolerance, (-3, -2, -1))
    return expand(solution, basis)


def wavelet_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    key: Key,
    *,
    threshold: float | Array,
    iterations: int,
    basis: Float[Array, "E K"] | None = None,
    levels: int = 3,
    order: int = 4,
    constraint: str = "complex",
    phase: Float[Array, "*B #E H W"] | None = None,
) -> Inexact[Array, "*B E H W"]:
    """argmin |A x - y|^2 / 2 + threshold |D x|_1, D the details of db`order` wavelets.

    By FISTA, the wavelets' grid at random in every iteration, the same for the whole
    batch. With a `basis`, x = basis a and the penalty is that of a. The key is
    consumed. Source: Lustig et al., MRM 58 (2007).
    """

    def prox(x, key):
        shift = random_shift(key, 2**levels)
        return wavelet_prox(x, threshold, levels=levels, order=order, shift=shift)

    problem = _problem(kspace, sens, mask, basis, constraint, phase)
    solution = _regularised(problem, prox, key, iterations)
    return solution if basis is None else expand(solution, basis)


def low_rank_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    key: Key,
    *,
    threshold: float | Array,
    iterations: int,
    basis: Float[Array, "E K"] | None = None,
    block: int = 8,
    constraint: str = "complex",
    phase: Float[Array, "*B #E H W"] | None = None,
) -> Inexact[Array, "*B E H W"]:
    """argmin |A x - y|^2 / 2 + threshold sum_b |x_b|_*, b the blocks of block^2 pixels.

    |.|_* is the nuclear norm of a block's pixels x contrasts. By FISTA, the blocks'
    grid at random in every iteration, the same for the whole batch. With a `basis`, x =
    basis a and the penalty is that of a. The key is consumed.
    Source: Zhang, Pauly and Levesque, MRM 73 (2015).
    """

    def prox(x, key):
        return low_rank_prox(x, threshold, block=block, shift=random_shift(key, block))

    problem = _problem(kspace, sens, mask, basis, constraint, phase)
    solution = _regularised(problem, prox, key, iterations)
    return solution if basis is None else expand(solution, basis)


class _Problem(NamedTuple):
    normal_fn: Callable[[Array], Array]  # A^H A on what the constraint leaves free
    adjoint: Array  # A^H y


def _problem(
    kspace: Array,
    sens: Array,
    mask: Array,
    basis: Array | None,
    constraint: str,
    phase: Array | None,
) -> _Problem:
    _check(kspace, sens, mask, basis, constraint, phase)
    adjoint = sense_adjoint(kspace, sens, mask)
    if basis is None:

        def normal(x):
            return sense_normal(x, sens, mask)
    else:
        adjoint = project(adjoint, basis)
        kernel = subspace_kernel(mask, basis)

        def normal(x):
            return subspace_normal(x, sens, kernel)

    if constraint == "complex":
        return _Problem(normal, adjoint)
    if constraint == "real":
        return _Problem(lambda x: jnp.real(normal(x)), jnp.real(adjoint))
    turn = jnp.exp(jax.lax.complex(jnp.zeros_like(phase), phase)).astype(sens.dtype)
    back = jnp.conj(turn)
    return _Problem(
        lambda x: jnp.real(back * normal(turn * x.astype(turn.dtype))),
        jnp.real(back * adjoint),
    )


def _damped(
    problem: _Problem,
    damping: float | Array,
    iterations: int,
    tolerance: float,
    axes: tuple[int, ...],
) -> Array:
    damping = jnp.asarray(damping, problem.adjoint.dtype)
    return conjugate_gradient(
        lambda x: problem.normal_fn(x) + damping * x,
        problem.adjoint,
        iterations=iterations,
        tolerance=tolerance,
        axes=axes,
    )[0]


def _regularised(
    problem: _Problem, prox: Callable[[Array, Key], Array], key: Key, iterations: int
) -> Array:
    return fista(
        lambda x: problem.normal_fn(x) - problem.adjoint,
        prox,
        problem.adjoint,
        key,
        iterations=iterations,
    )


def _check(
    kspace: Array,
    sens: Array,
    mask: Array,
    basis: Array | None,
    constraint: str,
    phase: Array | None,
) -> None:
    if kspace.ndim < 4 or sens.shape != kspace.shape[:-4] + kspace.shape[-3:]:
        raise ValueError(
            "expected kspace [.., E, C, H, W] and sens [.., C, H, W] of the same "
            f"leading dimensions, found {kspace.shape} and {sens.shape}"
        )
    *batch, contrasts, _, rows, cols = kspace.shape
    full = (*batch, contrasts, rows, cols)
    fits = len(mask.shape) == len(full) and all(
        n == m or (axis >= len(full) - 2 and n == 1)
        for axis, (n, m) in enumerate(zip(mask.shape, full, strict=True))
    )
    if not fits:
        raise ValueError(
            f"expected a mask [.., E, H or 1, W or 1] for {full}, the same for every "
            f"coil, found {mask.shape}"
        )
    if basis is not None and (basis.ndim != 2 or basis.shape[0] != contrasts):
        raise ValueError(
            f"expected a basis [E, K] with E = {contrasts}, found {basis.shape}"
        )
    if constraint not in CONSTRAINTS:
        raise ValueError(
            f"constraint {constraint!r}: expected one of {', '.join(CONSTRAINTS)}"
        )
    if (phase is not None) != (constraint == "phase"):
        raise ValueError("a phase belongs to constraint='phase', and to no other")
    allowed = (1,) if basis is not None else (1, contrasts)
    if phase is not None and (
        phase.ndim != len(full)
        or phase.shape[-3] not in allowed
        or (*phase.shape[:-3], *phase.shape[-2:]) != (*batch, rows, cols)
    ):
        raise ValueError(
            f"expected a real phase {(*batch, '1', rows, cols)} common to all "
            f"contrasts, or without a basis one for each, found {phase.shape}"
        )
