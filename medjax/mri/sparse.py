"""Sparse reconstructions: wavelets, and the low rank of blocks, by FISTA.

The problem, its constraints and its units are those of `reconstruct`.
"""

from collections.abc import Callable

from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import check_flags, check_integers
from medjax.mri.normal import NormalEquations
from medjax.mri.problem import (
    check_weight,
    largest_eigenvalue,
    pixelwise,
    reconstruction_problem,
    scaled_basis,
)
from medjax.mri.proximal import low_rank_prox, random_shift, wavelet_prox
from medjax.mri.proximal_gradient import fista
from medjax.mri.subspace import expand
from medjax.types import Key


def wavelet_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    key: Key,
    *,
    threshold: float | Float[Array, "*B"],
    iterations: int,
    basis: Float[Array, "E K"] | None = None,
    scales: Float[Array, "K"] | None = None,
    levels: int = 3,
    order: int = 4,
    joint: bool = False,
    constraint: str = "complex",
    phase: Float[Array, "*B #E H W"] | None = None,
) -> Inexact[Array, "*B E H W"]:
    """argmin |A x - y|^2 / 2 + threshold |D x|_1, D the details of db`order` wavelets.

    y is the sampled k-space and A = M F S (`sense_forward`): sensitivities, the centred
    orthonormal Fourier transform, sampling.

    With `joint` |D x|_1 is the sum of the lengths sqrt(sum_e |d_e|^2) over contrasts or
    coefficients: all details of a place are kept, or none.

    By `fista` from A^H y, or basis^T A^H y of the coefficients, with a step of 1 / L, L
    the largest sum_c |S_c|^2 of the slice times the largest eigenvalue of the basis: 1
    where both are normalised, and no maps make the iteration diverge. Every
    iteration thresholds on another grid of the wavelets, moved by 0 to 2^levels - 1
    rows and columns at random, the same for the whole batch.

    Args:
        kspace: Its origin is at [H // 2, W // 2]; read where the mask is not 0.
            `threshold` is relative to it: scale k-space so that images are about 1, or
            the threshold as the images. A number that is not finite spoils its own
            contrast and slice only, with a `basis` its slice.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object. Another sum is not refused:
            the problem is solved as it stands, in more steps where the sum varies. A
            number that is not finite spoils its slice.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples gives 0 without a `basis`,
            with one it is filled in from the others.
        key: One key, typed or of `jax.random.PRNGKey`: iteration k = 0, 1, .. draws its
            grid from fold_in(key, k). Do not use it again.
        threshold: At least 0 in the unit of the images, a scalar or one for each slice:
            details below it count as noise. 0 is least squares without a penalty. An
            entry of an array that is negative or NaN makes its slice NaN.
        iterations: How many, at least 0; there is no other stop, and 0 returns the
            start: the zero-filled images, with a `basis` projected on it. Static.
        basis: Orthonormal columns of a temporal subspace, which is not checked: then x
            = basis a, and the penalty is that of a. None = every contrast for itself.
        scales: A number above 0 for each column of the basis, without a unit: then x =
            basis diag(scales) a, a smaller scale making the details of its coefficient
            dearer. None = 1 each. Values of an array of JAX are not checked.
        levels: How often the wavelets split the image, at least 0 (no penalty). H and W
            of any size: see `wavelet_prox` for those that 2^levels does not divide.
            Static.
        order: Vanishing moments of the wavelets, 1 to 38; 1 is Haar, 4 the usual db4.
            Static.
        joint: Whether contrasts, or coefficients, share their edges. Static.
        constraint: "complex" returns any images; "real" the real images that fit best;
            "phase" the real factor, signed, of images r exp(i `phase`); with a `basis`
            it holds for the coefficients a. Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all contrasts or one for each. One for each takes as many transforms with a
            `basis` as without.

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
    check_flags(name, joint=joint)

    def prox(x, threshold, key):
        shift = random_shift(key, 2**levels)
        threshold = threshold if joint else threshold[..., None]
        options = {"levels": levels, "order": order, "joint": joint}
        return wavelet_prox(x, threshold, shift=shift, **options)

    basis = scaled_basis(name, basis, scales)
    problem = reconstruction_problem(name, kspace, sens, mask, basis, constraint, phase)
    largest = largest_eigenvalue(sens, basis, problem.adjoint)
    solution = _regularised(name, problem, prox, key, threshold, largest, iterations)
    return solution if basis is None else expand(solution, basis)


def low_rank_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    key: Key,
    *,
    threshold: float | Float[Array, "*B"],
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

    By `fista` from A^H y, or basis^T A^H y of the coefficients, with a step of 1 / L, L
    the largest sum_c |S_c|^2 of the slice times the largest eigenvalue of the basis: 1
    where both are normalised, and no maps make the iteration diverge. Every
    iteration cuts other blocks, moved by 0 to `block` - 1 rows and columns at random,
    the same for the whole batch.

    Args:
        kspace: Its origin is at [H // 2, W // 2]; read where the mask is not 0.
            `threshold` is relative to it: scale k-space so that images are about 1, or
            the threshold as the images. A number that is not finite spoils its own
            slice only.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object. Another sum is not refused:
            the problem is solved as it stands, in more steps where the sum varies. A
            number that is not finite spoils its slice.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples gives 0 without a `basis`,
            with one it is filled in from the others.
        key: One key, typed or of `jax.random.PRNGKey`: iteration k = 0, 1, .. draws its
            grid from fold_in(key, k). Do not use it again.
        threshold: At least 0 in the unit of the images, a scalar or one for each slice:
            singular values of a block below it count as noise, see `low_rank_prox`. 0
            is least squares without a penalty. An entry of an array that is negative or
            NaN makes its slice NaN.
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
            all contrasts or one for each. One for each takes as many transforms with a
            `basis` as without.

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

    def prox(x, threshold, key):
        return low_rank_prox(x, threshold, block=block, shift=random_shift(key, block))

    problem = reconstruction_problem(name, kspace, sens, mask, basis, constraint, phase)
    largest = largest_eigenvalue(sens, basis, problem.adjoint)
    solution = _regularised(name, problem, prox, key, threshold, largest, iterations)
    return solution if basis is None else expand(solution, basis)


def _regularised(
    function: str,
    problem: NormalEquations,
    prox: Callable[[Array, Float[Array, "*B"], Key], Array],
    key: Key,
    threshold: float | Array,
    largest: Float[Array, "*B 1 1 1"],
    iterations: int,
) -> Array:
    """`fista` with a step of 1 / largest; `prox` takes images, threshold and key."""
    check_weight(function, "kspace", problem.adjoint, threshold=threshold)
    check_integers(function, iterations=(iterations, 0, None))
    threshold = (pixelwise(threshold, problem.adjoint) / largest)[..., 0, 0, 0]

    def gradient(x):
        return (problem.normal_fn(x) - problem.adjoint) / largest.astype(x.dtype)

    return fista(
        gradient,
        lambda x, key: prox(x, threshold, key),
        problem.adjoint,
        key,
        iterations=iterations,
    )
