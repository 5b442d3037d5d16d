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

from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import check_integers
from medjax.mri.cg import conjugate_gradient
from medjax.mri.normal import NormalEquations
from medjax.mri.problem import check_weight, pixelwise, reconstruction_problem
from medjax.mri.subspace import expand


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
            sum is not refused: it scales the images. A pixel that is not finite is so
            in every contrast, and no other is.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples gives 0.
        constraint: "complex" returns any images; "real" their real part; "phase" the
            real part of images times exp(-i `phase`). Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all contrasts or one for each; any finite number, or the pixel is NaN in the
            contrasts that it is for.

    Returns:
        Images in the unit of k-space and the dtype to which k-space and `sens` are
        promoted; complex, or real ones with the constraints "real" and "phase".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a phase
            without its constraint or the other way round.
    """
    return reconstruction_problem(
        "zero_filled", kspace, sens, mask, None, constraint, phase
    ).adjoint


def cg_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    *,
    damping: float | Float[Array, "*B"],
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
        damping: At least 0 and finite, without a unit, as A^H A is at most 1; a scalar
            or one for each slice. 1e-3 or so, more where there is more noise. 0 leaves
            it to `iterations` to stop before noise is amplified. An entry of an array
            that is negative or NaN makes its slice NaN.
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
    problem = reconstruction_problem(
        "cg_sense", kspace, sens, mask, None, constraint, phase
    )
    return _damped("cg_sense", problem, damping, iterations, tolerance, (-2, -1))


def subspace_sense(
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
    *,
    basis: Float[Array, "E K"],
    damping: float | Float[Array, "*B"],
    iterations: int,
    tolerance: float = 0.0,
    constraint: str = "complex",
    phase: Float[Array, "*B #E H W"] | None = None,
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
            sum is not refused: the problem is solved as it stands. A number that is not
            finite spoils its slice.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples is filled in from the
            others.
        basis: Orthonormal columns, as `exponential_basis` or `inversion_recovery_basis`
            makes them for the same contrasts; that they are is not checked.
        damping: At least 0 and without a unit, as A^H A is at most 1; a scalar or one
            for each slice. An entry of an array that is negative or NaN makes its slice
            NaN.
        iterations: The largest number of steps, at least 0; 0 returns 0. Static.
        tolerance: A slice stops where |gradient| is at most this share of the first,
            |basis^T A^H y|; at least 0, which stops at rounding error. Static.
        constraint: "complex" returns any a; "real" the real a that fit best;
            "phase" the real factor, signed, of a = r exp(i `phase`). Static.
        phase: In rad, needed by "phase" and refused with any other constraint: one for
            all contrasts or one for each. One for each takes as many transforms as
            without a subspace.

    Returns:
        Images in the unit of k-space and the dtype to which k-space and `sens` are
        promoted; complex, or real ones with the constraints "real" and "phase".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown constraint, a phase
            without its constraint or the other way round, options outside their range.

    Source: Tamir et al., T2 shuffling, MRM 77 (2017).
    """
    name = "subspace_sense"
    problem = reconstruction_problem(name, kspace, sens, mask, basis, constraint, phase)
    solution = _damped(name, problem, damping, iterations, tolerance, (-3, -2, -1))
    return expand(solution, basis)


def _damped(
    function: str,
    problem: NormalEquations,
    damping: float | Float[Array, "*B"],
    iterations: int,
    tolerance: float,
    axes: tuple[int, ...],
) -> Array:
    check_weight(function, "kspace", problem.adjoint, damping=damping)
    check_integers(function, iterations=(iterations, 0, None))
    weight = pixelwise(damping, problem.adjoint).astype(problem.adjoint.dtype)
    return conjugate_gradient(
        lambda x: problem.normal_fn(x) + weight * x,
        problem.adjoint,
        iterations=iterations,
        tolerance=tolerance,
        axes=axes,
    )[0]
