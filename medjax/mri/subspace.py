"""Temporal subspaces: every voxel's signal as a sum of a few curves."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import FLAGS, check_arrays, check_integers, check_static
from medjax.mri.promotion import promoted
from medjax.mri.sense import coilwise_normal


def exponential_basis(
    times: Float[np.ndarray, "E"], *, rank: int, low: float, high: float, atoms: int
) -> Float[np.ndarray, "E K"]:
    """Orthonormal basis of the decays exp(-t / T2), for T2 from `low` to `high`.

    Its K columns are the first left singular vectors of the matrix of `atoms` decays.
    NumPy on the host: no argument may be traced.

    Args:
        times: Echo times in seconds, finite and at least 0, in the order of the
            contrasts; at least one. Equal times are allowed.
        rank: How many curves K to keep, 1 to E. E loses nothing; columns beyond the
            number of different times are orthonormal, but else arbitrary.
        low: Shortest T2 in seconds, above 0; the atoms' T2 are spaced evenly in log T2.
        high: Longest T2 in seconds, finite and above `low`; T2 outside the range are
            represented less well, which nothing checks.
        atoms: How many decays to span, at least `rank`; some hundreds.

    Returns:
        [E, K] in float64, without a unit: orthonormal columns, the most important
        first, each with its largest entry positive.

    Raises:
        ValueError: times, a rank, a range or a number of atoms outside of these, or
            one that is traced.

    Source: Huang et al., REPCOM, MRM 67 (2012); Tamir et al., T2 shuffling, MRM 77
    (2017). Computed in float64 on the host.
    """
    t, relaxation = _grid("exponential_basis", times, rank, low, high, atoms)
    return _left_singular_vectors(np.exp(-t / relaxation), rank)


def inversion_recovery_basis(
    times: Float[np.ndarray, "E"],
    *,
    rank: int,
    low: float,
    high: float,
    atoms: int,
    efficiencies: tuple[float, ...] = (1.0,),
) -> Float[np.ndarray, "E K"]:
    """Orthonormal basis of signed recoveries 1 - (1 + f) exp(-TI / T1), for every f.

    Its K columns are the first left singular vectors of the matrix of all recoveries.
    NumPy on the host: no argument may be traced.

    Args:
        times: Inversion times in seconds, finite and at least 0, in the order of the
            contrasts; at least one. Equal times are allowed.
        rank: How many curves K to keep, 1 to E. E loses nothing; columns beyond the
            number of different times are orthonormal, but else arbitrary.
        low: Shortest T1 in seconds, above 0; the atoms' T1 are spaced evenly in log T1.
        high: Longest T1 in seconds, finite and above `low`.
        atoms: How many T1 to span for each f, at least `rank`; some hundreds.
        efficiencies: At least one f, finite and without a unit: 1 is a perfect
            inversion, 0 a saturation, between them an imperfect inversion. Several make
            the basis hold all of them.

    Returns:
        [E, K] in float64, without a unit: orthonormal columns, the most important
        first, each with its largest entry positive.

    Raises:
        ValueError: times, a rank, a range, a number of atoms or an efficiency outside
            of these, or one that is traced.
    """
    name = "inversion_recovery_basis"
    t, relaxation = _grid(name, times, rank, low, high, atoms)
    check_static(name, efficiencies=efficiencies)
    factors = _real_numbers(efficiencies)
    if factors.ndim != 1 or not factors.size or not np.all(np.isfinite(factors)):
        raise ValueError(
            f"{name}: efficiencies: expected at least one finite number; found "
            f"{efficiencies}"
        )
    decay = np.exp(-t / relaxation)
    curves = [1 - (1 + f) * decay for f in factors]
    return _left_singular_vectors(np.concatenate(curves, axis=1), rank)


def project(
    images: Inexact[Array, "*B E H W"], basis: Float[Array, "E K"]
) -> Inexact[Array, "*B K H W"]:
    """a_k = sum_e basis[e, k] x_e, the adjoint of `expand`.

    x = basis a if x lies in the subspace; otherwise basis a is the nearest that does.

    Args:
        images: Real or complex, in any unit, which the coefficients get. A pixel that
            is not finite in one contrast is so in all coefficients.
        basis: Real, with orthonormal columns, which is not checked: with others
            `project` and `expand` are adjoint, and no projection. It is a table, read
            in the precision of the images.

    Returns:
        Coefficients in the dtype of the images.

    Raises:
        ValueError: a basis of another number of contrasts, or of integers or complex
            numbers; images of integers.
    """
    check_arrays(
        "project",
        images=(images, "*B E H W", (float, complex)),
        basis=(basis, "E K", float),
    )
    basis = jnp.asarray(basis, images.dtype)
    return jnp.einsum("ek,...ehw->...khw", basis, images, precision="highest")


def expand(
    coefficients: Inexact[Array, "*B K H W"], basis: Float[Array, "E K"]
) -> Inexact[Array, "*B E H W"]:
    """x_e = sum_k basis[e, k] a_k: images of E contrasts from K coefficients.

    Args:
        coefficients: Real or complex, in the unit of the images. A pixel that is not
            finite in one is so in all contrasts.
        basis: Real, with orthonormal columns, which is not checked, read in the
            precision of the coefficients.

    Returns:
        Images in the dtype of the coefficients.

    Raises:
        ValueError: a basis of another number of columns, or of integers or complex
            numbers; coefficients of integers.
    """
    check_arrays(
        "expand",
        coefficients=(coefficients, "*B K H W", (float, complex)),
        basis=(basis, "E K", float),
    )
    basis = jnp.asarray(basis, coefficients.dtype)
    return jnp.einsum("ek,...khw->...ehw", basis, coefficients, precision="highest")


def subspace_kernel(
    mask: Bool[Array, "*B E #H #W"], basis: Float[Array, "E K"]
) -> Float[Array, "*B K K #H #W"]:
    """basis^T M basis at every point of centred k-space, for `subspace_normal`.

        kernel[j, k] = sum_e basis[e, j] mask[e] basis[e, k]

    Args:
        mask: bool or integers, not 0 where centred k-space is sampled; [.., E, 1, W]
            for whole columns, which keeps the kernel as small.
        basis: Real, with orthonormal columns, which is not checked.

    Returns:
        The kernel in the dtype of the basis; its eigenvalues lie between 0 (no contrast
        sampled) and 1 (all).

    Raises:
        ValueError: a basis of another number of contrasts, a mask of floats.
    """
    check_arrays(
        "subspace_kernel",
        mask=(mask, "*B E _ _", FLAGS),
        basis=(basis, "E K", float),
    )
    basis = jnp.asarray(basis)
    kept = jnp.asarray(mask).astype(bool).astype(basis.dtype)
    return jnp.einsum("ek,...ehw,ej->...kjhw", basis, kept, basis, precision="highest")


def subspace_normal(
    coefficients: Inexact[Array, "*B K H W"],
    sens: Complex[Array, "*B C H W"],
    kernel: Float[Array, "*B K K #H #W"],
) -> Complex[Array, "*B K H W"]:
    """project(sense_normal(expand(a))), with K C transforms instead of E C.

    The transform acts on space, the basis on contrast, so they commute, and sampling
    becomes a K x K matrix at every point of k-space (T2 shuffling, eq. 10). As in
    `sense_normal`, centring cancels, and so does the transform of an axis on which the
    mask is constant; coils come one at a time.

    Args:
        coefficients: Real or complex, in any unit, which the result keeps; one that is
            not finite spoils its whole slice.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object, where the result is 0. Another
            sum is not refused: it scales the result. A number that is not finite spoils
            what a coefficient of its place would, or less.
        kernel: The result of `subspace_kernel`, read in the precision of the others; a
            number that is not finite spoils its slice.

    Returns:
        Coefficients in the dtype to which they and `sens` are promoted, which is
        complex.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    check_arrays(
        "subspace_normal",
        coefficients=(coefficients, "*B K H W", (float, complex)),
        sens=(sens, "*B C H W", complex),
        kernel=(kernel, "*B K K #H #W", float),
    )
    coefficients, sens = promoted(coefficients, sens)
    axes = tuple(axis for axis in (-2, -1) if kernel.shape[axis] > 1)
    kernel = jnp.fft.ifftshift(kernel, axes).astype(sens.dtype)

    def sample(spectra: Complex[Array, "*B K H W"]) -> Complex[Array, "*B K H W"]:
        return jnp.sum(kernel * spectra[..., None, :, :, :], axis=-3)

    return coilwise_normal(coefficients, sens, axes, sample)


def _grid(
    function: str,
    times: Float[np.ndarray, "E"],
    rank: int,
    low: float,
    high: float,
    atoms: int,
) -> tuple[Float[np.ndarray, "E 1"], Float[np.ndarray, "atoms"]]:
    check_static(function, times=times, rank=rank, low=low, high=high, atoms=atoms)
    given, times = times, _real_numbers(times)
    if (
        times.ndim != 1
        or not times.size
        or not np.all(np.isfinite(times) & (times >= 0))
    ):
        raise ValueError(
            f"{function}: times: expected [E] finite numbers of at least 0 s; found "
            f"{given}"
        )
    check_integers(function, rank=(rank, 1, times.size), atoms=(atoms, rank, None))
    if not 0 < low < high < np.inf:
        raise ValueError(
            f"{function}: low, high: expected 0 < low < high, both finite, in s; found "
            f"{low} and {high}"
        )
    return times[:, None], np.geomspace(low, high, atoms)


def _real_numbers(values: object) -> Float[np.ndarray, "..."]:
    """NumPy's float64, or one NaN for what holds complex numbers, flags or text.

    Args:
        values: A number, a list of them or an array; none traced.
    """
    given = np.asarray(values)
    real = given.dtype.kind in "iuf" or not given.size
    return given.astype(np.float64) if real else np.full(1, np.nan)


def _left_singular_vectors(
    curves: Float[np.ndarray, "E atoms"], rank: int
) -> Float[np.ndarray, "E K"]:
    """The first `rank`; each with its largest entry positive, which SVD leaves open."""
    basis = np.linalg.svd(curves, full_matrices=False)[0][:, :rank]
    largest = np.argmax(np.abs(basis), axis=0)
    return basis * np.sign(basis[largest, np.arange(rank)])
