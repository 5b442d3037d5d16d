"""Unrolled reconstruction: a denoiser and data consistency in turn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from medjax.checks import check_arrays, check_flags, check_integers
from medjax.mri.cg import conjugate_gradient
from medjax.mri.normal import carry_for, normal_equations
from medjax.mri.promotion import promoted
from medjax.mri.sense import check_operands
from medjax.mri.subspace import expand

CONSISTENCIES = ("hard", "cg")


def unrolled_reconstruction(
    denoise: Callable[[Any, Array], tuple[Array, Any]],
    weights: Any,
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"],
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

    With A x = M F S x of each contrast (sensitivities, centred orthonormal Fourier
    transform, sampling; see `sense_forward`), y the sampled k-space, N = A^H A and
    x_0 = A^H y, stage s is

        z = x + D_s(x)
        "hard":  x = sum_c S_c^* F^-1 [(1 - M) F S_c z + M y]  =  |S|^2 z - N z + A^H y
        "cg":    x = argmin |A x - y|^2 + damping_s |x - z|^2,
                 solved by conjugate gradients, (N + damping_s) x = A^H y + damping_s z

    Conjugate gradients start from z in each stage, take `iterations` steps over all
    contrasts of a slice together, and stop earlier at rounding error alone.

    "hard" is PUQ's form, where samples replace what the network says; "cg" is MoDL's
    (Aggarwal et al., IEEE TMI 2019), for noisy samples. With a `basis` the unknowns are
    the K images of a temporal subspace, x = basis a, and N becomes basis^T N basis: the
    network then sees K images instead of E. Data consistency never needs k-space
    again, only A^H y and N.

    Args:
        denoise: (weights of one stage, images) -> (D_s(images), anything). Images are
            complex [*B, E, H, W], or [*B, K, H, W] with a `basis`, D_s(images) of the
            same shape and dtype, others are refused; the second result is returned
            stacked over stages, such as running statistics.
        weights: A tree of arrays with a leading axis S, the number of stages; no stage,
            S = 0, returns the start. Stages that share weights are given the same S
            times over (`jnp.broadcast_to`), so that their gradients add.
        kspace: Its origin is at [H // 2, W // 2]; in the unit that `denoise` was
            trained for; not read where the mask is 0. A sample that is not finite
            spoils its own slice at most, if `denoise` keeps slices apart.
        sens: sum_c |S_c|^2 = 1, or 0 outside the head, where "hard" gives 0. That the
            sum is at most 1 is not checked.
        mask: bool or integers, not 0 where sampled, the same for every coil; [.., E, 1,
            W] for whole columns. A contrast without samples is what `denoise` makes of
            0.
        consistency: "hard" or "cg". Static.
        basis: Real, with orthonormal columns, which is not checked: the temporal
            subspace the images lie in. None = any images.
        damping: One number a stage, above 0 and without a unit, as N is at most 1; for
            "cg" and `start_iterations`, and read by nothing else. Its values are not
            checked: with 0 the equations may have no single solution, and a negative
            one gives images without a meaning.
        iterations: Conjugate-gradient steps of a stage of "cg", at least 1; "hard" does
            not read it. Static.
        start_iterations: At least 0. 0 starts the first stage from A^H y, as both
            papers do; more starts it, whatever the consistency, from what so many
            conjugate-gradient steps make of (N + damping_1) x = A^H y, begun at x = 0,
            with damping_1 of the first stage. Static.
        remat: Recompute a stage in the backward pass instead of keeping it: less
            memory, more time, the same numbers. Static.
        unroll: How many stages are compiled one after the other instead of in a loop,
            at least 1; from S on all are. XLA's CPU backend takes 20 times as long for
            a convolution's gradient in a loop. Static.

    Returns:
        The images of all E contrasts, with a `basis` too, in the unit of k-space and
        the dtype to which k-space and `sens` are promoted, in which everything else is
        read; and the second results of `denoise`.

    Raises:
        ValueError: an unknown consistency, "cg" without damping or iterations,
            `start_iterations` without damping or without a stage, a negative number of
            iterations of either kind, an `unroll` below 1, weights that do not have one
            leading axis S, shapes or dtypes that do not fit each other.
    """
    name = "unrolled_reconstruction"
    check_operands(
        name,
        sens,
        mask,
        kspace=(kspace, "*B E C H W", complex),
        basis=(basis, "E K", float),
        shared=False,
    )
    check_integers(
        name,
        iterations=(iterations, 0, None),
        start_iterations=(start_iterations, 0, None),
        unroll=(unroll, 1, None),
    )
    check_flags(name, remat=remat)
    if consistency not in CONSISTENCIES:
        raise ValueError(
            f"{name}: consistency: expected one of {', '.join(CONSISTENCIES)}; found "
            f"{consistency!r}"
        )
    if consistency == "cg" and not iterations:
        raise ValueError(f'{name}: iterations: expected at least 1 for "cg"; found 0')
    stages = _stages(name, weights, damping)
    needs_damping = consistency == "cg" or start_iterations
    if needs_damping and (damping is None or (start_iterations and not stages)):
        raise ValueError(
            f'{name}: damping: "cg" and start_iterations need damping, one number a '
            f"stage; found {damping} for {stages} stages"
        )
    kspace, sens = promoted(kspace, sens)
    energy = jnp.sum(sens * jnp.conj(sens), axis=-3)[..., None, :, :]
    normal, adjoint = normal_equations(kspace, sens, mask, basis)
    damping = None if damping is None else jnp.asarray(damping).astype(adjoint.dtype)

    def solve(rhs, start, strength, count):
        def damped(x):
            return normal(x) + strength * x

        return conjugate_gradient(damped, rhs, iterations=count, x0=start)[0]

    def stage(x, inputs):
        weights_s, strength = inputs
        residual, extra = denoise(weights_s, x)
        check_arrays(name, images=(x, "*N", None), denoise=(residual, "*N", x.dtype))
        z = x + residual
        if consistency == "hard":
            return energy * z - normal(z) + adjoint, extra
        return solve(adjoint + strength * z, z, strength, iterations), extra

    x = adjoint
    if start_iterations and damping is not None:
        x = solve(adjoint, jnp.zeros_like(adjoint), damping[0], start_iterations)
    if stages:
        first = jax.tree.map(lambda x: x[0], (weights, damping))
        x = carry_for(lambda x: stage(x, first)[0], x)
    body = jax.checkpoint(stage) if remat else stage
    x, extras = jax.lax.scan(body, x, (weights, damping), unroll=unroll)
    return (x if basis is None else expand(x, basis)), extras


def _stages(function: str, weights: Any, damping: Array | None) -> int:  # noqa: ANN401
    """S, which all leaves and the damping have to agree on."""
    check_arrays(function, damping=(damping, "S", float))
    leaves = jax.tree.leaves(weights)
    sizes = {np.shape(x)[:1] for x in leaves}
    if damping is not None:
        sizes.add(np.shape(damping))
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"{function}: weights, damping: expected arrays with one leading axis S, "
            f"the number of stages; found weights {[np.shape(x) for x in leaves]}, "
            f"damping {None if damping is None else np.shape(damping)}"
        )
    return sizes.pop()[0]
