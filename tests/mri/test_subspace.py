"""Subspaces: what they span, and the normal operator against the long way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.sense import sense_normal
from medjax.mri.subspace import (
    expand,
    exponential_basis,
    inversion_recovery_basis,
    project,
    subspace_kernel,
    subspace_normal,
)

ECHOES = np.array([0, 25, 35, 45, 65, 85, 105, 125]) * 1e-3
INVERSIONS = np.geomspace(0.05, 4, 8)
DECAYS = {"low": 0.03, "high": 2.5, "atoms": 400}
RECOVERIES = {"low": 0.1, "high": 5.0, "atoms": 400}


@pytest.mark.parametrize(
    ("basis_fn", "times", "options", "curve"),
    [
        (exponential_basis, ECHOES, DECAYS, lambda t, q: np.exp(-t / q)),
        (
            inversion_recovery_basis,
            INVERSIONS,
            RECOVERIES,
            lambda t, q: 1 - 2 * np.exp(-t / q),
        ),
    ],
    ids=["decay", "recovery"],
)
def test_basis_is_orthonormal_and_spans_every_curve_best(
    basis_fn, times, options, curve
):
    bases = [basis_fn(times, rank=k, **options) for k in (1, 2, 3, 4)]
    grid = np.geomspace(options["low"], options["high"], options["atoms"])
    curves = curve(times[:, None], grid)
    singular = np.linalg.svd(curves, compute_uv=False)
    for basis in bases:
        rank = basis.shape[1]
        np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-13)
        missed = curves - basis @ (basis.T @ curves)
        # Eckart and Young: no basis of this rank leaves less.
        np.testing.assert_allclose(
            np.sum(missed**2), np.sum(singular[rank:] ** 2), rtol=1e-9
        )
        np.testing.assert_array_equal(basis[:, :1], bases[0])  # nested, signs fixed
        assert np.all(np.max(basis, axis=0) >= -np.min(basis, axis=0))
    between = curve(times, 0.777)  # s, none of the atoms
    missed = between - bases[3] @ (bases[3].T @ between)
    assert np.linalg.norm(missed) < 0.05 * np.linalg.norm(between)


def test_recoveries_may_be_imperfect():
    options = {"rank": 4, "low": 0.3, "high": 3.0, "atoms": 100}
    poor = 1 - 1.7 * np.exp(-INVERSIONS / 0.8)

    def missed(basis):
        return np.linalg.norm(poor - basis @ (basis.T @ poor))

    perfect = inversion_recovery_basis(INVERSIONS, **options)
    both = inversion_recovery_basis(INVERSIONS, **options, efficiencies=(1.0, 0.6))
    assert missed(both) < 0.5 * missed(perfect)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 9}, "rank: expected an integer from 1 to 8, found 9"),
        ({"rank": 0}, "rank: .* found 0"),
        ({"low": 0.0}, "low, high: .* found 0.0 and"),
        ({"high": 0.01}, "0 < low < high"),
        ({"high": np.inf}, "both finite"),
        ({"atoms": 2}, "atoms: .* at least 3, found 2"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        exponential_basis(ECHOES, **({"rank": 3} | DECAYS | change))


@pytest.mark.parametrize(
    "times",
    [
        -ECHOES,
        ECHOES[None],
        ECHOES * np.nan,
        ECHOES[:0],
        ECHOES * 1j,
        ECHOES > 0,
        ECHOES.astype(str),
    ],
)
def test_bad_times(times):
    with pytest.raises(
        ValueError, match=r"times: expected \[E\] finite numbers of at least 0 s"
    ):
        exponential_basis(times, rank=3, **DECAYS)


@pytest.mark.parametrize("lines", [(1, 10), (6, 1), (6, 10), (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_normal_operator_is_that_of_the_acquisition(lines, dtype):
    rng = np.random.default_rng(0)
    basis = exponential_basis(ECHOES, rank=3, **DECAYS)

    def draw(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(
            dtype
        )

    sens, mask = draw(2, 4, 6, 10), rng.random((2, 8, *lines)) < 0.4
    a, b = draw(2, 3, 6, 10), draw(2, 3, 6, 10)

    @jax.jit
    def both(a):
        kernel = subspace_kernel(mask, basis)
        short = subspace_normal(a, sens, kernel)
        return short, project(sense_normal(expand(a, basis), sens, mask), basis)

    short, long = both(a)
    assert short.dtype == long.dtype == dtype
    tolerance = 100 * np.finfo(dtype).eps * np.abs(long).max()
    np.testing.assert_allclose(short, long, atol=tolerance)
    # Hermitian, and positive.
    np.testing.assert_allclose(np.vdot(b, short), np.vdot(both(b)[0], a), rtol=1e-4)
    assert np.vdot(a, short).real > 0


def test_project_is_the_adjoint_and_the_left_inverse_of_expand():
    rng = np.random.default_rng(0)
    basis = exponential_basis(ECHOES, rank=3, **DECAYS)
    x, a = rng.standard_normal((2, 8, 4, 5)), rng.standard_normal((2, 3, 4, 5))
    np.testing.assert_allclose(project(expand(a, basis), basis), a, atol=1e-13)
    np.testing.assert_allclose(
        np.vdot(expand(a, basis), x), np.vdot(a, project(x, basis)), rtol=1e-12
    )
    low = expand(jnp.asarray(a, jnp.float32), basis)
    assert low.dtype == np.float32


@pytest.mark.parametrize("efficiencies", [(), (np.nan,), (1j,), "1"])
def test_efficiencies_that_make_no_curve(efficiencies):
    with pytest.raises(ValueError, match="efficiencies: expected at least one finite"):
        inversion_recovery_basis(
            INVERSIONS, rank=2, **RECOVERIES, efficiencies=efficiencies
        )


def test_a_basis_of_other_contrasts_is_refused():
    basis = exponential_basis(ECHOES, rank=3, **DECAYS)
    with pytest.raises(ValueError, match="project: basis: .*E = 1 from images"):
        project(jnp.ones((2, 1, 4, 5)), basis)  # would be broadcast over contrasts
    with pytest.raises(ValueError, match="expand: basis: .*K = 1 from coefficients"):
        expand(jnp.ones((2, 1, 4, 5)), basis)
    with pytest.raises(ValueError, match="subspace_kernel: basis: .*E = 1 from mask"):
        subspace_kernel(jnp.ones((1, 1, 5), bool), basis)
    with pytest.raises(ValueError, match="subspace_normal: kernel: .*K = 2 from coef"):
        subspace_normal(
            jnp.ones((2, 4, 5)),
            jnp.ones((4, 4, 5), complex),
            subspace_kernel(jnp.ones((8, 1, 5), bool), basis),
        )
