"""Unrolled reconstruction: a denoiser and data consistency in turn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from medjax.checks import check_arrays
from medjax.mri.cg import conjugate_gradient
from medjax.mri.sense import sense_adjoint, sense_normal
from medjax.mri.subspace import expand, project, subspace_kernel, subspace_normal

CONSISTENCIES = ("hard", "cg")


def unrolled_reconstruction(
    denoise: Callable[[Any, Array], tuple[Array, Any]],
    weights: Any,
    kspace: Complex[Array, "*B E C H W"],
    mask: Bool[Array, "*B E H W"],
    sens: Complex[Array, "*B C H W"],
    *,
    consistency: str,
    basis: Float[Array, "E K"] | None = None,
    damping: Float[Array, "S"] | None = None,
    iterations: int = 0,
    start_iterations: int = 0,
    remat: bool = False,
    unroll: int = 1,
) -> tuple[Complex[Array, "*B E H W"], Any]:
    """Images of all contrasts, reconstructed together in S stages.

    With A x = M F S x of each contrast, N = A^H A and x_0 = A^H y, stage s is

        z = x + D_s(x)
        "hard":  x = sum_c S_c^* F^-1 [(1 - M) F S_c z + M y]  =  |S|^2 z - N z + A^H y
        "cg":    x = argmin |A x - y|^2 + damping_s |x - z|^2,
                 solved by conjugate gradients, (N + damping_s) x = A^H y + damping_s z

    "hard" is PUQ's form, where samples replace what the network says; "cg" is MoDL's
    (Aggarwal et al., IEEE TMI 2019), for noisy samples. With a `basis` the unknowns are
    the K images of a temporal subspace, x = basis a, and N becomes basis^T N basis: the
    network then sees K images instead of E. Data consistency never needs k-space
    again, only A^H y and N.

    Args:
        denoise: (weights of one stage, images) -> (D_s(images), anything). Images are
            complex [*B, E, H, W], or [*B, K, H, W] with a `basis`, D_s(images) of the
            same shape and dtype; the second result is returned stacked over stages,
            such as running statistics.
        weights: A tree of arrays with a leading axis S, the number of stages. Stages
            that share weights are given the same S times over (`jnp.broadcast_to`), so
            that their gradients add.
        kspace: Centred, in the unit that `denoise` was trained for; not read where the
            mask is 0. A sample that is not finite spoils its own slice at most, if
            `denoise` keeps slices apart.
        mask: 1 where sampled, the same for every coil, [*B, E, 1, W] for whole lines.
            A contrast without samples is what `denoise` makes of 0.
        sens: sum_c |S_c|^2 = 1, or 0 outside the head, where "hard" gives 0.
        consistency: "hard" or "cg".
        basis: Real, with orthonormal columns: the temporal subspace the images lie in.
            None = any images.
        damping: One number a stage, above 0 and without a unit, as N is at most 1; for
            "cg" and `start_iterations`, and read by nothing else.
        iterations: Conjugate-gradient steps of a stage of "cg", at least 1.
        start_iterations: Conjugate-gradient steps on N x = A^H y before the first
            stage, with the first stage's damping; 0 starts from A^H y, as both papers.
        remat: Recompute a stage in the backward pass instead of keeping it: less
            memory, more time, the same numbers.
        unroll: How many stages, 1 to S, are compiled one after the other instead of in
            a loop. XLA's CPU backend takes 20 times as long for a convolution's
            gradient in a loop.

    Returns:
        The images, in the unit of k-space, and the second results of `denoise`.

    Raises:
        ValueError: an unknown consistency, "cg" without damping or iterations, shapes
            or dtypes that do not fit each other.
    """
    check_arrays(
        "unrolled_reconstruction",
        kspace=(kspace, "*B E C H W", complex),
        mask=(mask, "*B E #H #W", (bool, int, float)),
        sens=(sens, "*B C H W", complex),
        basis=(basis, "E K", float),
        damping=(damping, "S", float),
    )
    if consistency not in CONSISTENCIES:
        raise ValueError(
            f"consistency {consistency!r}: expected one of {', '.join(CONSISTENCIES)}"
        )
    needs_damping = consistency == "cg" or start_iterations
    if needs_damping and (damping is None or (consistency == "cg" and not iterations)):
        raise ValueError('"cg" and start_iterations need damping, "cg" iterations')
    energy = jnp.sum(sens * jnp.conj(sens), axis=-3)[..., None, :, :]
    damping = None if damping is None else damping.astype(energy.dtype)

    adjoint = sense_adjoint(kspace, sens, mask)
    if basis is None:

        def normal(x):
            return sense_normal(x, sens, mask)
    else:
        adjoint = project(adjoint, basis)
        kernel = subspace_kernel(mask, basis)

        def normal(x):
            return subspace_normal(x, sens, kernel)

    def solve(rhs, start, strength, count):
        def damped(x):
            return normal(x) + strength * x

        return conjugate_gradient(damped, rhs, iterations=count, x0=start)[0]

    def stage(x, inputs):
        weights_s, strength = inputs
        residual, extra = denoise(weights_s, x)
        z = x + residual
        if consistency == "hard":
            return energy * z - normal(z) + adjoint, extra
        return solve(adjoint + strength * z, z, strength, iterations), extra

    x = adjoint
    if start_iterations and damping is not None:
        x = solve(adjoint, jnp.zeros_like(adjoint), damping[0], start_iterations)
    body = jax.checkpoint(stage) if remat else stage
    x, extras = jax.lax.scan(body, x, (weights, damping), unroll=unroll)
    return (x if basis is None else expand(x, basis)), extras
