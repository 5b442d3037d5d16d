"""Variable projection against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri import catalogue
from medjax.mri.newton import newton_move
from medjax.mri.varpro import (
    Weighted,
    back_substitute,
    explained,
    orthogonalise,
    parameters_and_errors,
    solve,
)

TIMES = np.array([0.02, 0.05, 0.1, 0.3, 0.9])


def samples(channels, seed=0):
    rng = np.random.default_rng(seed)
    ys = rng.standard_normal((channels, 5))
    roots = rng.uniform(0.5, 2.0, 5)
    data = Weighted(
        [list(map(jnp.asarray, roots * y)) for y in ys],
        list(map(jnp.asarray, roots)),
        list(map(jnp.asarray, TIMES)),
    )
    return ys, roots, data


def design(model, u, roots):
    """[E, K] weighted basis, in NumPy."""
    columns = [model.basis(np.exp(u), t, *model.constants) for t in TIMES]
    return roots[:, None] * np.array(columns, float)


def profile(model, u, ys, roots):
    a = design(model, u, roots)
    return sum(np.linalg.lstsq(a, roots * y)[1].sum() for y in ys)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["t2", "t2_offset", "t1_ir", "t1_ir3"])
def test_profile_equals_lstsq(name, channels):
    model = catalogue.signal_model(name)
    ys, roots, data = samples(channels)
    for u in (0.1, 1.5, 3.0):
        u = jnp.asarray(u)
        found = solve(model, u, data)
        a = design(model, u, roots)
        for c, y in enumerate(ys):
            best = np.linalg.lstsq(a, roots * y)[0]
            np.testing.assert_allclose(found.amplitudes[c], best, rtol=1e-10)
            left = roots * y - a @ best
            np.testing.assert_allclose(found.residuals[c], left, atol=1e-12)
        energy = sum(np.sum((roots * y) ** 2) for y in ys)
        part = float(explained(model, u, data))
        np.testing.assert_allclose(energy - part, profile(model, u, ys, roots))

        h = 1e-4
        up, middle, down = (
            profile(model, float(u) + s, ys, roots) / 2 for s in (h, 0, -h)
        )
        slope, bend = (up - down) / (2 * h), (up - 2 * middle + down) / h**2
        move = float(newton_move(model, u, data))
        if bend > 0:
            # Second differences: error h^2 and 1e-16 / h^2, both 1e-8.
            np.testing.assert_allclose(move, -slope / bend, rtol=1e-5)
        else:
            assert move * slope < 0 and abs(move) > 1e6


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["t2", "t2_offset", "t1_ir3"])
def test_errors_equal_the_dense_covariance(name, channels):
    model = catalogue.signal_model(name)
    _, roots, data = samples(channels, seed=1)
    u = jnp.asarray(1.2)
    solution = solve(model, u, data)
    values, errors = parameters_and_errors(model, u, solution)
    k = len(model.parameters) - 1

    def forward(x):  # all amplitudes, log R -> samples of all channels
        basis = jnp.stack(
            [jnp.stack(model.basis(jnp.exp(x[-1]), t, *model.constants)) for t in TIMES]
        )
        return jnp.concatenate(
            [roots * (basis @ x[c * k : (c + 1) * k]) for c in range(channels)]
        )

    def parameters(x):
        parts = [x[c * k : (c + 1) * k] for c in range(channels)]
        amplitudes = parts[0] if channels == 1 else jax.lax.complex(*parts)
        found = model.to_parameters(tuple(amplitudes), jnp.exp(x[-1]))
        return jnp.stack([jnp.abs(v) if jnp.iscomplexobj(v) else v for v in found])

    x = jnp.asarray([*np.ravel(solution.amplitudes), u])
    jac = np.asarray(jax.jacobian(forward)(x))
    change = np.asarray(jax.jacobian(parameters)(x))
    covariance = change @ np.linalg.inv(jac.T @ jac) @ change.T
    np.testing.assert_allclose(errors, np.sqrt(np.diag(covariance)), rtol=1e-9)
    moduli = [jnp.abs(v) if jnp.iscomplexobj(v) else v for v in values]
    np.testing.assert_allclose(moduli, parameters(x), rtol=1e-12)


def test_columns_are_orthogonal_and_parallel_ones_take_no_part():
    rng = np.random.default_rng(0)
    columns = [list(map(jnp.asarray, rng.standard_normal(5))) for _ in range(3)]
    found = orthogonalise(columns)
    q = np.array(found.columns)
    np.testing.assert_allclose(
        q @ q.T, np.diag(1 / np.array(found.inverse)), atol=1e-14
    )
    r = np.eye(3)
    for (j, k), value in found.upper.items():
        r[j, k] = value
    np.testing.assert_allclose(r.T @ q, np.array(columns), atol=1e-14)
    x = back_substitute(found, list(map(jnp.asarray, (1.0, 2.0, 3.0))))
    np.testing.assert_allclose(r @ np.array(x), (1, 2, 3), rtol=1e-13)
    parallel = orthogonalise([columns[0], [3 * c for c in columns[0]]])
    assert parallel.inverse[0] > 0 and parallel.inverse[1] == 0
    empty = orthogonalise([[jnp.zeros(())] * 5])
    assert empty.inverse[0] == 0
