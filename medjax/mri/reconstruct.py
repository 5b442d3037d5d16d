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

from medjax.checks import check_arrays
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
    """x = A^H y: what was not sampled is 0. No problem is solved.

    Args:
        kspace: Centred, in any unit, which the images get; read where the mask is 1.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are 0.
        mask: 1 where sampled, the same for every coil, [.., E, 1, W] for whole columns;
            a contrast without samples gives 0.
        constraint: "complex", "real" or "phase", which return complex images, their
            real part, or the real part along `phase`.
        phase: In rad, for "phase" alone: one for all contrasts or one for each.

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint.
    """
    return _problem("zero_filled", kspace, sens, mask, None, constraint, phase).adjoint


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

    By conjugate gradients from 0.

    Args:
        kspace: Centred, in any unit, which the images get; read where the mask is 1. A
            number that is not finite spoils its own contrast and slice only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are 0.
        mask: 1 where sampled, the same for every coil, [.., E, 1, W] for whole columns;
            a contrast without samples gives 0.
        damping: At least 0 and without a unit, as A^H A is at most 1: 1e-3 or so, more
            where there is more noise. 0 leaves it to `iterations` to stop before noise
            is amplified. A scalar.
        iterations: The largest number of steps, a Python int; 0 returns 0.
        tolerance: A contrast stops where |gradient| is below this share of |A^H y|; 0
            stops at rounding error.
        constraint: "complex", "real" or "phase": what images may be, see the module.
        phase: In rad, for "phase" alone: one for all contrasts or one for each.

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint.

    Source: Pruessmann et al., MRM 46 (2001).
    """
    problem = _problem("cg_sense", kspace, sens, mask, None, constraint, phase)
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

    By conjugate gradients from 0, over all contrasts together.

    Args:
        kspace: Centred, in any unit, which the images get; read where the mask is 1. A
            number that is not finite spoils its own slice only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are 0.
        mask: 1 where sampled, the same for every coil, [.., E, 1, W] for whole columns;
            a contrast without samples is filled in from the others.
        basis: Orthonormal columns, as `exponential_basis` or `inversion_recovery_basis`
            makes them for the same contrasts; that they are is not checked.
        damping: At least 0 and without a unit, as A^H A is at most 1. A scalar.
        iterations: The largest number of steps, a Python int; 0 returns 0.
        tolerance: A slice stops where |gradient| is below this share of the first; 0
            stops at rounding error.
        constraint: "complex", "real" or "phase": what coefficients may be, see the
            module.
        phase: In rad, for "phase" alone, one for all contrasts.

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint.
    """
    problem = _problem("subspace_sense", kspace, sens, mask, basis, constraint, phase)
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

    By FISTA from A^H y, the wavelets' grid at random in every iteration, the same for
    the whole batch.

    Args:
        kspace: Centred, scaled so that images are about 1 (or `threshold` with it);
            read where the mask is 1. A number that is not finite spoils its own
            contrast and slice only, with a `basis` its slice.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object.
        mask: 1 where sampled, the same for every coil, [.., E, 1, W] for whole columns.
        key: Draws the grids; do not use it again.
        threshold: A scalar of at least 0 in the unit of the images: details below it
            count as noise. 0 is least squares without a penalty.
        iterations: How many, a Python int; there is no other stop, and 0 returns the
            zero-filled images.
        basis: Orthonormal columns of a temporal subspace: then x = basis a, and the
            penalty is that of a. None = every contrast for itself.
        levels: How often the wavelets split the image, at least 0 (no penalty).
        order: Vanishing moments of the wavelets; 1 is Haar, 4 the usual db4.
        constraint: "complex", "real" or "phase": what x or a may be, see the module.
        phase: In rad, for "phase" alone: one for all contrasts or, without a `basis`,
            one for each.

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a negative
            number of levels.

    Source: Lustig et al., MRM 58 (2007).
    """

    def prox(x, key):
        shift = random_shift(key, 2**levels)
        return wavelet_prox(x, threshold, levels=levels, order=order, shift=shift)

    problem = _problem("wavelet_sense", kspace, sens, mask, basis, constraint, phase)
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

    |.|_* is the nuclear norm of a block's pixels x contrasts. By FISTA from A^H y, the
    blocks' grid at random in every iteration, the same for the whole batch.

    Args:
        kspace: Centred, scaled so that images are about 1 (or `threshold` with it);
            read where the mask is 1. A number that is not finite spoils its own slice
            only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object.
        mask: 1 where sampled, the same for every coil, [.., E, 1, W] for whole columns.
        key: Draws the grids; do not use it again.
        threshold: A scalar of at least 0 in the unit of the images: singular values of
            a block below it count as noise, see `low_rank_prox`. 0 has no penalty.
        iterations: How many, a Python int; there is no other stop, and 0 returns the
            zero-filled images.
        basis: Orthonormal columns of a temporal subspace: then x = basis a, and the
            penalty is that of a. None = the contrasts themselves.
        block: Side of the blocks in pixels, at least 1.
        constraint: "complex", "real" or "phase": what x or a may be, see the module.
        phase: In rad, for "phase" alone: one for all contrasts or, without a `basis`,
            one for each.

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint.

    Source: Zhang, Pauly and Levesque, MRM 73 (2015).
    """

    def prox(x, key):
        return low_rank_prox(x, threshold, block=block, shift=random_shift(key, block))

    problem = _problem("low_rank_sense", kspace, sens, mask, basis, constraint, phase)
    solution = _regularised(problem, prox, key, iterations)
    return solution if basis is None else expand(solution, basis)


class _Problem(NamedTuple):
    normal_fn: Callable[[Array], Array]  # A^H A on what the constraint leaves free
    adjoint: Array  # A^H y


def _problem(
    function: str,
    kspace: Array,
    sens: Array,
    mask: Array,
    basis: Array | None,
    constraint: str,
    phase: Array | None,
) -> _Problem:
    check_arrays(
        function,
        kspace=(kspace, "*B E C H W", complex),
        sens=(sens, "*B C H W", complex),
        mask=(mask, "*B E #H #W", (bool, int, float)),
        basis=(basis, "E K", float),
        phase=(phase, "*B #E H W" if basis is None else "*B 1 H W", float),
    )
    if constraint not in CONSTRAINTS:
        raise ValueError(
            f"constraint {constraint!r}: expected one of {', '.join(CONSTRAINTS)}"
        )
    if (phase is not None) != (constraint == "phase"):
        raise ValueError("a phase belongs to constraint='phase', and to no other")
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
