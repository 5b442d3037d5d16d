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
normal operator A^H A is needed, never k-space again. Results have the dtype to which
k-space and `sens` are promoted (or real ones of that precision), in which everything
else is read. Axes of length 0 give empty images, no coils images of 0.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import NUMBERS, check_arrays, check_integers, check_ranges
from medjax.mri.cg import conjugate_gradient
from medjax.mri.normal import NormalEquations, normal_equations
from medjax.mri.proximal import low_rank_prox, random_shift, wavelet_prox
from medjax.mri.proximal_gradient import fista
from medjax.mri.sense import check_operands
from medjax.mri.subspace import expand
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
    """x = A^H y = sum_c conj(S_c) F^-1(M y_c): what was not sampled is 0.

    No problem is solved. F is the centred orthonormal Fourier transform, M the mask.

    Args:
        kspace: In any unit, which the images get, its origin at [H // 2, W // 2]; read
            where the mask is not 0. A number that is not finite spoils its own contrast
            and slice only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are 0. Another
            sum is not refused: it scales the images.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples gives 0.
        constraint: "complex" returns any images; "real" their real part; "phase" the
            real part of images times exp(-i `phase`). Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all contrasts or one for each.

    Returns:
        Images in the unit of k-space and the dtype to which k-space and `sens` are
        promoted; complex, or real ones with the constraints "real" and "phase".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a phase
            without its constraint or the other way round.
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

    By conjugate gradients from 0. y is the sampled k-space and A = M F S
    (`sense_forward`): sensitivities, the centred orthonormal Fourier transform,
    sampling.

    Args:
        kspace: In any unit, which the images get, its origin at [H // 2, W // 2]; read
            where the mask is not 0. A number that is not finite spoils its own contrast
            and slice only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are 0. Another
            sum is not refused: the problem is solved as it stands. A number that is not
            finite spoils every contrast of its slice.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples gives 0.
        damping: A finite real scalar of at least 0, without a unit: A^H A is at most 1.
            1e-3 or so, more where there is more noise. 0 leaves it to `iterations` to
            stop before noise is amplified. The value of an array is not checked.
        iterations: The largest number of steps, at least 0; 0 returns 0. Static.
        tolerance: A contrast stops where |gradient| is at most this share of |A^H y|;
            at least 0, which stops at rounding error. Static.
        constraint: "complex" returns any images; "real" the real images that fit best;
            "phase" the real factor, signed, of images r exp(i `phase`). Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all contrasts or one for each, each finite, or it spoils those it is for.

    Returns:
        Images in the unit of k-space and the dtype to which k-space and `sens` are
        promoted; complex, or real ones with the constraints "real" and "phase".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a phase
            without its constraint or the other way round, options outside their range.

    Source: Pruessmann et al., MRM 46 (2001).
    """
    problem = _problem("cg_sense", kspace, sens, mask, None, constraint, phase)
    return _damped("cg_sense", problem, damping, iterations, tolerance, (-2, -1))


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

    By conjugate gradients from 0, over all contrasts together. y is the sampled k-space
    and A = M F S (`sense_forward`): sensitivities, the centred orthonormal Fourier
    transform, sampling.

    Args:
        kspace: In any unit, which the images get, its origin at [H // 2, W // 2]; read
            where the mask is not 0. A number that is not finite spoils its own slice
            only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where images are 0. Another
            sum is not refused: the problem is solved as it stands.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples is filled in from the
            others.
        basis: Orthonormal columns, as `exponential_basis` or `inversion_recovery_basis`
            makes them for the same contrasts; that they are is not checked.
        damping: A real scalar of at least 0 and without a unit, as A^H A is at most 1.
            The value of an array is not checked.
        iterations: The largest number of steps, at least 0; 0 returns 0. Static.
        tolerance: A slice stops where |gradient| is at most this share of the first,
            |basis^T A^H y|; at least 0, which stops at rounding error. Static.
        constraint: "complex" returns any a; "real" the real a that fit best;
            "phase" the real factor, signed, of a = r exp(i `phase`). Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all coefficients.

    Returns:
        Images in the unit of k-space and the dtype to which k-space and `sens` are
        promoted; complex, or real ones with the constraints "real" and "phase".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a phase
            without its constraint or the other way round, options outside their range.

    Source: Tamir et al., T2 shuffling, MRM 77 (2017).
    """
    name = "subspace_sense"
    problem = _problem(name, kspace, sens, mask, basis, constraint, phase)
    solution = _damped(name, problem, damping, iterations, tolerance, (-3, -2, -1))
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

    y is the sampled k-space and A = M F S (`sense_forward`): sensitivities, the centred
    orthonormal Fourier transform, sampling.

    By `fista` with a step of 1 from A^H y, or basis^T A^H y of the coefficients. Every
    iteration thresholds on another grid of the wavelets, moved by 0 to 2^levels - 1
    rows and columns at random, the same for the whole batch.

    Args:
        kspace: Its origin is at [H // 2, W // 2]; read where the mask is not 0.
            `threshold` is relative to it: scale k-space so that images are about 1, or
            the threshold as the images. A number that is not finite spoils its own
            contrast and slice only, with a `basis` its slice.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object. A sum above 1 is not refused,
            and the iteration may then diverge.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples gives 0 without a `basis`,
            with one it is filled in from the others.
        key: One key, typed or of `jax.random.PRNGKey`: iteration k = 0, 1, .. draws its
            grid from fold_in(key, k). Do not use it again.
        threshold: A real scalar of at least 0 in the unit of the images: details below
            it count as noise. 0 is least squares without a penalty.
        iterations: How many, at least 0; there is no other stop, and 0 returns the
            start: the zero-filled images, with a `basis` projected on it. Static.
        basis: Orthonormal columns of a temporal subspace, which is not checked: then x
            = basis a, and the penalty is that of a. None = every contrast for itself.
        levels: How often the wavelets split the image, at least 0 (no penalty). H and W
            of any size: see `wavelet_prox` for those that 2^levels does not divide.
            Static.
        order: Vanishing moments of the wavelets, 1 to 38; 1 is Haar, 4 the usual db4.
            Static.
        constraint: "complex" returns any images; "real" the real images that fit best;
            "phase" the real factor, signed, of images r exp(i `phase`); with a `basis`
            it holds for the coefficients a. Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all contrasts or, without a `basis`, one for each.

    Returns:
        Images in the unit of k-space and the dtype to which k-space and `sens` are
        promoted; complex, or real ones with the constraints "real" and "phase".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a phase
            without its constraint or the other way round, options outside their range.

    Source: Lustig et al., MRM 58 (2007).
    """
    name = "wavelet_sense"
    check_integers(name, levels=(levels, 0, None))

    def prox(x, key):
        shift = random_shift(key, 2**levels)
        return wavelet_prox(x, threshold, levels=levels, order=order, shift=shift)

    problem = _problem(name, kspace, sens, mask, basis, constraint, phase)
    solution = _regularised(name, problem, prox, key, threshold, iterations)
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

    |.|_* is the nuclear norm of a block's pixels x contrasts. y is the sampled
    k-space and A = M F S (`sense_forward`): sensitivities, the centred orthonormal
    Fourier transform, sampling.

    By `fista` with a step of 1 from A^H y, or basis^T A^H y of the coefficients. Every
    iteration cuts other blocks, moved by 0 to `block` - 1 rows and columns at random,
    the same for the whole batch.

    Args:
        kspace: Its origin is at [H // 2, W // 2]; read where the mask is not 0.
            `threshold` is relative to it: scale k-space so that images are about 1, or
            the threshold as the images. A number that is not finite spoils its own
            slice only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object. A sum above 1 is not refused,
            and the iteration may then diverge.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples gives 0 without a `basis`,
            with one it is filled in from the others.
        key: One key, typed or of `jax.random.PRNGKey`: iteration k = 0, 1, .. draws its
            grid from fold_in(key, k). Do not use it again.
        threshold: A real scalar of at least 0 in the unit of the images: singular
            values of a block below it count as noise, see `low_rank_prox`. 0 is least
            squares without a penalty.
        iterations: How many, at least 0; there is no other stop, and 0 returns the
            start: the zero-filled images, with a `basis` projected on it. Static.
        basis: Orthonormal columns of a temporal subspace, which is not checked: then x
            = basis a, and the penalty is that of a. None = the contrasts themselves.
        block: Side of the blocks in pixels, at least 1. Where H or W is no multiple of
            it, blocks are cut at the edge; from max(H, W) on the image is one. Static.
        constraint: "complex" returns any images; "real" the real images that fit best;
            "phase" the real factor, signed, of images r exp(i `phase`); with a `basis`
            it holds for the coefficients a. Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all contrasts or, without a `basis`, one for each.

    Returns:
        Images in the unit of k-space and the dtype to which k-space and `sens` are
        promoted; complex, or real ones with the constraints "real" and "phase".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a phase
            without its constraint or the other way round, options outside their range.

    Source: Zhang, Pauly and Levesque, MRM 73 (2015).
    """
    name = "low_rank_sense"
    check_integers(name, block=(block, 1, None))

    def prox(x, key):
        return low_rank_prox(x, threshold, block=block, shift=random_shift(key, block))

    problem = _problem(name, kspace, sens, mask, basis, constraint, phase)
    solution = _regularised(name, problem, prox, key, threshold, iterations)
    return solution if basis is None else expand(solution, basis)


def _problem(
    function: str,
    kspace: Array,
    sens: Array,
    mask: Array,
    basis: Array | None,
    constraint: str,
    phase: Array | None,
) -> NormalEquations:
    """The normal equations on what the constraint leaves free."""
    check_operands(
        function,
        sens,
        mask,
        kspace=(kspace, "*B E C H W", complex),
        basis=(basis, "E K", float),
        phase=(phase, "*B #E H W" if basis is None else "*B 1 H W", float),
        shared=False,
    )
    if constraint not in CONSTRAINTS:
        raise ValueError(
            f"{function}: constraint: expected one of {', '.join(CONSTRAINTS)}; found "
            f"{constraint!r}"
        )
    if (phase is not None) != (constraint == "phase"):
        raise ValueError(
            f"{function}: phase: expected with constraint='phase', and with no other; "
            f"found {'none' if phase is None else 'one'} with {constraint!r}"
        )
    normal, adjoint = normal_equations(kspace, sens, mask, basis)
    if phase is None:
        if constraint == "complex":
            return NormalEquations(normal, adjoint)
        return NormalEquations(lambda x: jnp.real(normal(x)), jnp.real(adjoint))
    phase = jnp.asarray(phase, jnp.real(adjoint).dtype)
    turn = jnp.exp(jax.lax.complex(jnp.zeros_like(phase), phase))
    back = jnp.conj(turn)
    return NormalEquations(
        lambda x: jnp.real(back * normal(turn * x.astype(turn.dtype))),
        jnp.real(back * adjoint),
    )


def _damped(
    function: str,
    problem: NormalEquations,
    damping: float | Array,
    iterations: int,
    tolerance: float,
    axes: tuple[int, ...],
) -> Array:
    _check_weight(function, damping=damping)
    check_integers(function, iterations=(iterations, 0, None))
    weight = jnp.asarray(damping).astype(problem.adjoint.dtype)
    return conjugate_gradient(
        lambda x: problem.normal_fn(x) + weight * x,
        problem.adjoint,
        iterations=iterations,
        tolerance=tolerance,
        axes=axes,
    )[0]


def _regularised(
    function: str,
    problem: NormalEquations,
    prox: Callable[[Array, Key], Array],
    key: Key,
    threshold: float | Array,
    iterations: int,
) -> Array:
    _check_weight(function, threshold=threshold)
    check_integers(function, iterations=(iterations, 0, None))
    return fista(
        lambda x: problem.normal_fn(x) - problem.adjoint,
        prox,
        problem.adjoint,
        key,
        iterations=iterations,
    )


def _check_weight(function: str, **weights: float | Array) -> None:
    """Of a penalty: one real number, the same for all, of at least 0 if it is plain."""
    for name, value in weights.items():
        check_arrays(function, **{name: (value, "", NUMBERS)})
        check_ranges(function, **{name: (value, 0, math.inf)})
