"""Derivatives of a fit, first and second, against differences and noise in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri import catalogue, signals
from medjax.mri.catalogue import signal_model
from medjax.mri.fit import FitStatus, fit_map

TE = np.array([0.012, 0.03, 0.05, 0.08, 0.12])
TI = np.array([0.05, 0.2, 0.5, 1.0, 3.0])
TRUTH = {"s0": 1.1, "t2": 0.06, "t1": 0.8, "efficiency": 0.93, "offset": 0.2}
MODELS = ["t2", "t2_offset", "t1_ir", "t1_ir3", "t1_sr", "t1_vfa"]


def case(name, *, kind="real", noise=0.01):
    """Model, times, a noisy curve [E] (as real numbers), weights [E], options."""
    model = signal_model(name, repetition_time=0.015 if name == "t1_vfa" else None)
    times = TE if name.startswith("t2") else TI
    times = np.deg2rad([2.0, 5.0, 9.0, 14.0, 20.0]) if name == "t1_vfa" else times
    params = {key: TRUTH[key] for key in model.parameters}
    curve = np.asarray(signals.signal(model, params, times))
    rng = np.random.default_rng(2)
    curve = curve + noise * np.abs(curve).max() * rng.standard_normal(len(times))
    if kind == "complex":
        noise = noise * np.abs(curve).max() * rng.standard_normal((2, len(times)))
        curve = np.stack([np.cos(0.7) * curve, np.sin(0.7) * curve]) + noise
    if kind == "magnitude":
        curve = np.abs(curve)
    return model, times, curve, rng.uniform(0.5, 2, len(times)), kind


def numbers(model, kind, curve, weights, times, noise="estimated"):
    """All results of one voxel, as one vector of real numbers."""
    images = jax.lax.complex(*curve) if kind == "complex" else curve
    found = fit_map(
        images,
        times,
        model=model,
        weights=weights,
        noise=noise,
        magnitude=kind == "magnitude",
    )
    results = [*found.params.values(), *found.sigma.values()]
    results += [found.residual, found.r_squared]
    parts = [part for x in results for part in (jnp.real(x), jnp.imag(x))]
    return jnp.stack(parts)


QUICK = [("t2", "real"), ("t1_ir3", "complex"), ("t1_ir", "magnitude")]
SLOW = [(name, "real") for name in MODELS if name != "t2"]
SLOW += [("t2", "complex"), ("t1_ir3", "magnitude")]


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


CASES = QUICK + [slow(*case) for case in SLOW]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_first_and_second_derivatives_equal_differences(name, kind):
    """By images, weights and times at once, along random ways."""
    model, times, curve, weights, kind = case(name, kind=kind)
    point = (jnp.asarray(curve), jnp.asarray(weights), jnp.asarray(times))
    rng = np.random.default_rng(5)
    way = tuple(rng.standard_normal(x.shape) * 0.3 * np.asarray(x) for x in point)
    function = functools.partial(numbers, model, kind)

    def along(step):
        return function(*(x + step * w for x, w in zip(point, way, strict=True)))

    def forward(step):
        return jax.jvp(along, (step,), (1.0,))[1]

    first, second = jax.jit(forward), jax.jit(lambda s: jax.jvp(forward, (s,), (1.0,)))
    value = jax.jit(along)
    slope, (_, bend) = first(0.0), second(0.0)
    step = 1e-4

    def difference(function):
        """Richardson's: the error is step^4, and the rounding of results / step."""
        near, far = (function(s * step) - function(-s * step) for s in (1, 2))
        return (8 * near - far) / (12 * step)

    np.testing.assert_allclose(slope, difference(value), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(bend, difference(first), rtol=1e-7, atol=1e-8)
    assert np.abs(np.asarray(bend)).max() > 0.01


@pytest.mark.parametrize("name", ["t2", slow("t1_ir3")])
def test_modes_agree(name):
    """Reverse over forward, forward over reverse and reverse twice; under vmap too."""
    model, times, curve, weights, _ = case(name)

    def fitted(y, w):
        found = fit_map(y, times, model=model, weights=w)
        return found.params[model.time_constant] + found.sigma["s0"]

    hessian = jax.jit(jax.jacfwd(jax.jacrev(fitted)))(curve, weights)
    for other in (jax.jacrev(jax.jacfwd(fitted)), jax.jacrev(jax.jacrev(fitted))):
        np.testing.assert_allclose(
            jax.jit(other)(curve, weights), hessian, rtol=1e-9, atol=1e-10
        )
    np.testing.assert_allclose(hessian, np.transpose(hessian), rtol=1e-8, atol=1e-10)
    many = jax.jit(jax.vmap(jax.hessian(fitted), in_axes=(1, None)))
    two = np.stack([curve, 2 * curve], axis=1)
    np.testing.assert_allclose(many(two, weights)[0], hessian, rtol=1e-9, atol=1e-10)


def test_second_order_bias_is_that_of_noise():
    """E[T2] - T2 = tr(H) sd^2 / 2: 200,000 noisy curves."""
    model, sd = catalogue.T2, 0.02
    clean = np.asarray(signals.signal(model, {"s0": 1.0, "t2": 0.08}, TE))

    def t2(y):
        return fit_map(y, TE, model=model).params["t2"]

    bias = 0.5 * sd**2 * np.trace(jax.jit(jax.hessian(t2))(clean))
    noise = np.random.default_rng(0).standard_normal((5, 100_000)) * sd
    found = np.concatenate([t2(clean[:, None] + s * noise) for s in (1, -1)])
    # The error of the mean of antithetic pairs, and the next order, sd^4.
    assert bias == pytest.approx(found.mean() - 0.08, rel=0.03)


def test_variance_propagated_through_weights_has_the_right_slope():
    """sum_e (dT2/dy_e)^2 / w_e by its weights: least at equal steps of information."""
    model, times, curve, weights, _ = case("t2")

    def variance(w):
        slope = jax.grad(
            lambda y: fit_map(y, times, model=model, weights=w).params["t2"]
        )(curve)
        return jnp.sum(slope**2 / w)

    slope = jax.jit(jax.grad(variance))(weights)
    value = jax.jit(variance)
    step = 1e-5
    steps = step * np.eye(5)
    differences = [
        (value(weights + s) - value(weights - s)) / (2 * step) for s in steps
    ]
    np.testing.assert_allclose(slope, differences, rtol=1e-6)


def test_at_a_bound_the_rate_has_no_derivative_and_the_amplitude_its_own():
    curve = np.exp(-TE / 0.3)

    def at(y):
        found = fit_map(y, TE, model=catalogue.T2, bounds=(0.05, 0.2))
        return jnp.stack([found.params["t2"], found.params["s0"]])

    decay = np.exp(-TE / 0.2)
    slope, bend = jax.jacrev(at)(curve), jax.jacfwd(jax.jacrev(at))(curve)
    np.testing.assert_allclose(slope[0], 0, atol=0)
    np.testing.assert_allclose(slope[1], decay / np.sum(decay**2), rtol=1e-12)
    np.testing.assert_allclose(bend, 0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["t2", slow("t2_offset"), slow("t1_ir3")])
def test_bad_voxels_have_finite_derivatives_and_spoil_no_other(name, dtype):
    """No signal, no decay, NaN, one sample, exact: derivatives of both orders."""
    model, times, curve, _, _ = case(name)
    rows = np.stack([curve] * 9, axis=1).astype(dtype)
    weights = np.ones_like(rows)
    rows[:, 1] = 0
    rows[:, 2] = 0.7
    rows[1, 3] = np.nan
    weights[1:, 4] = 0
    weights[2, 5] = -1
    weights[len(model.parameters) :, 6] = 0
    rows[:, 7] = [1, 0, 0, 0, 0]
    weights[0, 8], rows[0, 8] = 0, np.inf

    def total(y, w, t, only=None):
        found = fit_map(y, t, model=model, weights=w)
        good = found.status == FitStatus.CONVERGED
        kept = [*found.params.values(), *found.sigma.values(), found.residual]
        kept += [found.r_squared]
        return sum(jnp.sum(jnp.where(good, x, 0)) for x in kept)

    times = times.astype(dtype)
    program = jax.jit(jax.grad(total, (0, 1, 2)))
    found = program(rows, weights, times)
    assert all(np.all(np.isfinite(x)) for x in found)
    alone = program(rows[:, :1], weights[:, :1], times)
    # Rounding of a curvature's sums, as large in a small entry as in a large one.
    rtol = 1e-4 if dtype == np.float32 else 1e-9

    def assert_same(found, alone):
        for left, right in zip(found[:2], alone[:2], strict=True):
            atol = rtol * np.abs(right).max()
            np.testing.assert_allclose(left[:, 0], right[:, 0], rtol=rtol, atol=atol)

    assert_same(found, alone)

    def bend(y, w):
        way = (jnp.full_like(y, 0.1), jnp.full_like(w, 0.1), jnp.full_like(times, 0.01))
        gradient = jax.grad(total, (0, 1, 2))
        return jax.jvp(gradient, (y, w, jnp.asarray(times)), way)[1]

    bends = jax.jit(bend)
    found, alone = bends(rows, weights), bends(rows[:, :1], weights[:, :1])
    assert all(np.all(np.isfinite(x)) for x in found)
    assert_same(found, alone)
