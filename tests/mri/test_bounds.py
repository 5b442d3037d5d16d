"""The bound against formulas, the dense Fisher matrix, and what fits scatter by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri import catalogue, signals
from medjax.mri.bounds import cramer_rao_bound
from medjax.mri.fit import fit_map

TI = np.geomspace(0.05, 4.0, 8)
TE = np.linspace(0.015, 0.12, 8)
CASES = {
    "t2": (catalogue.T2, TE, {"s0": 1.3, "t2": 0.08}),
    "t2_offset": (catalogue.T2_OFFSET, TE, {"s0": 1.3, "t2": 0.03, "offset": 0.2}),
    "t1_ir3": (catalogue.T1_IR3, TI, {"s0": 0.8, "t1": 0.9, "efficiency": 0.95}),
    "t1_vfa": (
        catalogue.vfa_model(0.015),
        np.deg2rad([2.0, 5.0, 12.0, 20.0]),
        {"s0": 5.0, "t1": 1.1},
    ),
    "t1_vfa_tr": (
        catalogue.vfa_model((0.02, 0.01, 0.02, 0.04)),
        np.deg2rad([2.0, 5.0, 12.0, 20.0]),
        {"s0": 5.0, "t1": 1.1},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_dense_fisher_matrix(name):
    model, times, params = CASES[name]
    weights = np.random.default_rng(0).uniform(0.5, 3.0, len(times))
    found = cramer_rao_bound(
        times, model=model, params=params, noise_sd=0.02, weights=weights
    )

    def forward(x):
        return signals.signal(model, dict(zip(model.parameters, x, strict=True)), times)

    values = tuple(jnp.asarray(params[key]) for key in model.parameters)
    jac = np.stack(jax.jacobian(forward)(values), axis=1) / 0.02
    expected = np.sqrt(np.diag(np.linalg.inv(jac.T @ (weights[:, None] * jac))))
    for key, value in zip(model.parameters, expected, strict=True):
        np.testing.assert_allclose(found[key], value, rtol=1e-8)


@pytest.mark.parametrize("name", ["t2", "t1_ir3"])
def test_fits_scatter_by_the_bound(name):
    model, times, params = CASES[name]
    bound = cramer_rao_bound(times, model=model, params=params, noise_sd=0.004)
    clean = np.asarray(signals.signal(model, params, times))[:, None]
    rng = np.random.default_rng(0)
    images = clean + 0.004 * rng.standard_normal((len(times), 16384))
    found = fit_map(images.astype(np.float32), times, model=model)
    for key in model.parameters:
        sd = np.std(np.asarray(found.params[key], float))
        # 16,384 draws know an sd to 0.55 %; at SNR 200 the bound is reached.
        np.testing.assert_allclose(sd, bound[key], rtol=0.02)


def test_maps_of_parameters_and_noise():
    t2, sd = np.array([0.05, 0.1]), np.array([0.01, 0.03])
    params = {"s0": 1.0, "t2": t2}
    found = cramer_rao_bound(TE, model=catalogue.T2, params=params, noise_sd=sd)
    for i in range(2):
        one = {"s0": 1.0, "t2": t2[i]}
        alone = cramer_rao_bound(TE, model=catalogue.T2, params=one, noise_sd=sd[i])
        np.testing.assert_allclose(found["t2"][i], alone["t2"], rtol=1e-12)


def test_what_is_not_acquired_determines_nothing():
    weights = np.array([1.0] + [0.0] * 7)
    params = {"s0": 1.0, "t2": 0.08}
    found = cramer_rao_bound(
        TE, model=catalogue.T2, params=params, noise_sd=0.01, weights=weights
    )
    assert np.isinf(found["t2"]) and np.isinf(found["s0"])


def test_bad_arguments():
    params = {"s0": 1.0, "t2": 0.08}
    with pytest.raises(ValueError, match="divide by 1000"):
        cramer_rao_bound(TE * 1000, model=catalogue.T2, params=params, noise_sd=0.01)
    with pytest.raises(ValueError, match="parameters s0, t2"):
        cramer_rao_bound(TE, model=catalogue.T2, params={"s0": 1.0}, noise_sd=0.01)
    with pytest.raises(ValueError, match=r"weights: .* E = 8 .*\(3,\)"):
        cramer_rao_bound(
            TE, model=catalogue.T2, params=params, noise_sd=0.01, weights=np.ones(3)
        )
    with pytest.raises(ValueError, match=r"t2 \(2,\), .*noise_sd \(2, 1\)"):
        cramer_rao_bound(
            TE,
            model=catalogue.T2,
            params={"s0": 1.0, "t2": np.array([0.05, 0.08])},
            noise_sd=np.ones((2, 1)),
        )
