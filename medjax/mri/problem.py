"""The problem every classical reconstruction solves: checked, with its constraint."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.checks import NUMBERS, check_arrays, check_ranges
from medjax.mri.normal import NormalEquations, normal_equations
from medjax.mri.sense import check_operands
from medjax.mri.subspace import expand, project

CONSTRAINTS = ("complex", "real", "phase")
_NORMALISED = 0.01  # from 1: what `check_acquisition` takes for normalised maps


def reconstruction_problem(
    function: str,
    kspace: Array,
    sens: Array,
    mask: Array,
    basis: Array | None,
    constraint: str,
    phase: Array | None,
) -> NormalEquations:
    """The normal equations on what the constraint leaves free.

    With a basis and one phase a contrast, x_e = exp(i phase_e) sum_k basis[e, k] a_k:
    basis and sampling no longer commute, and the normal operator goes through all E
    contrasts in place of the K coefficients.

    Args:
        function: The public function's name, with which a message begins.
        kspace: [*B, E, C, H, W], complex.
        sens: [*B, C, H, W], complex.
        mask: [*B, E, #H, #W] of flags.
        basis: [E, K], real, of any columns, or None for the images themselves.
        constraint: One of `CONSTRAINTS`.
        phase: [*B, #E, H, W] in rad with "phase", None with the others.

    Raises:
        ValueError: naming function and argument.
    """
    check_operands(
        function,
        sens,
        mask,
        kspace=(kspace, "*B E C H W", complex),
        basis=(basis, "E K", float),
        phase=(phase, "*B #E H W", float),
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
    each = basis is not None and phase is not None and phase.shape[-3] > 1
    normal, adjoint = normal_equations(kspace, sens, mask, None if each else basis)
    if phase is None:
        if constraint == "complex":
            return NormalEquations(normal, adjoint)
        return NormalEquations(lambda x: jnp.real(normal(x)), jnp.real(adjoint))
    phase = jnp.asarray(phase, jnp.real(adjoint).dtype)
    turn = jnp.exp(jax.lax.complex(jnp.zeros_like(phase), phase))
    back = jnp.conj(turn)

    def real_normal(x: Array) -> Array:
        return jnp.real(back * normal(turn * x.astype(turn.dtype)))

    real_adjoint = jnp.real(back * adjoint)
    if not each:
        return NormalEquations(real_normal, real_adjoint)
    return NormalEquations(
        lambda a: project(real_normal(expand(a, basis)), basis),
        project(real_adjoint, basis),
    )


def largest_eigenvalue(
    sens: Array, basis: Array | None, adjoint: Array
) -> Float[Array, "*B 1 1 1"]:
    """L >= |A^H A|: 1 / L is a step with which a proximal gradient cannot diverge.

        L = max_r sum_c |S_c(r)|^2 * max_j sum_k |basis^T basis|[j, k]

    The second factor is 1 of orthonormal columns (Gershgorin's circles), the largest
    squared scale of scaled ones. A bound in closed form, so no iteration finds it: F is
    orthonormal, and leaving samples out makes no eigenvalue larger. It is 1, exactly,
    where it is within 0.01 of 1 or the slice is dark; a step of 1 is then safe, as the
    accelerated iteration is stable up to 4/3.

    Args:
        sens: [*B, C, H, W], of any sum.
        basis: [E, K] of any columns, or None.
        adjoint: A^H y, for the precision of the result.
    """
    power = jnp.sum(jnp.real(sens) ** 2 + jnp.imag(sens) ** 2, axis=-3, keepdims=True)
    bound = jnp.max(power, axis=(-2, -1), keepdims=True, initial=0)
    if basis is not None:
        basis = jnp.asarray(basis)
        gram = jnp.einsum("ej,ek->jk", basis, basis, precision="highest")
        largest = jnp.max(jnp.sum(jnp.abs(gram), axis=1), initial=0)
        bound = bound * largest.astype(bound.dtype)
    usual = (jnp.abs(bound - 1) <= _NORMALISED) | (bound == 0)
    bound = jax.lax.stop_gradient(jnp.where(usual, 1, bound))
    return bound.astype(jnp.real(adjoint).dtype)


def scaled_basis(
    function: str, basis: Array | None, scales: Array | None
) -> Array | None:
    """basis diag(scales): of its coefficients all are penalised alike.

    Args:
        function: The public function's name, with which a message begins.
        basis: [E, K], real, or None.
        scales: [K], real, each above 0 and finite where that is known, or None = 1.

    Raises:
        ValueError: scales without a basis, of another number, or not above 0.
    """
    if scales is None:
        return basis
    if basis is None:
        raise ValueError(
            f"{function}: scales: expected with a basis, whose columns they scale; "
            "found without: give a basis, or scale k-space"
        )
    check_arrays(function, basis=(basis, "E K", float), scales=(scales, "K", NUMBERS))
    if not isinstance(scales, jax.Array):
        for scale in np.asarray(scales).tolist():
            if not 0 < scale < math.inf:
                raise ValueError(
                    f"{function}: scales: expected finite numbers above 0; found "
                    f"{scale}: leave a column out of the basis to do without it"
                )
    basis = jnp.asarray(basis)
    return basis * jnp.asarray(scales).astype(basis.dtype)[None]


def check_weight(
    function: str, source: str, images: Array, **weights: float | Array
) -> None:
    """Of a penalty: a real number of at least 0, for all or one for each of a batch.

    Args:
        function: The public function's name, with which a message begins.
        source: The argument that set the batch.
        images: [*B, E, H, W], real or complex.
        weights: By the name of the argument: numbers of NumPy and of Python are
            checked, of an array of JAX the shape alone: see `pixelwise`.

    Raises:
        ValueError: naming function and argument.
    """
    for name, value in weights.items():
        arrays = {source: (images, "*B E H W", (float, complex))}
        arrays[name] = (value, "*B" if np.ndim(value) else "", NUMBERS)
        check_arrays(function, **arrays)
        if isinstance(value, np.ndarray):
            value = float(value.min(initial=math.inf))  # NaN where one is
        check_ranges(function, **{name: (value, 0, math.inf)})


def pixelwise(weight: float | Array, images: Array) -> Float[Array, "*B 1 1 1"]:
    """A weight for all or for each of a batch, as it multiplies images [*B, E, H, W].

    In their precision; NaN where it is negative, so that an array that is not known
    when the program is traced gives no result rather than a wrong one.

    Args:
        weight: A scalar, or [*B].
        images: Real or complex.
    """
    weight = jnp.asarray(weight).astype(jnp.real(images).dtype)
    weight = jnp.where(weight >= 0, weight, jnp.nan)
    lead = weight.shape or (1,) * (images.ndim - 3)
    return weight.reshape(*lead, 1, 1, 1)
