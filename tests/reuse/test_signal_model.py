"""A signal model of one's own, beside SciPy: the diffusion coefficient from b-values.

S(b) = s0 exp(-b D) is linear in s0 and has one rate, D in mm^2/s. The parameter with
the unit "s" is 1/R: here 1/D in s/mm^2, the b-value at which a third is left.
"""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from medjax.mri import (
    FitStatus,
    SignalModel,
    cramer_rao_bound,
    fit_magnitudes,
    fit_map,
    signal,
)

pytestmark = pytest.mark.usefixtures("double_jax")

B_VALUES = np.array([0.0, 100.0, 300.0, 500.0, 800.0, 1000.0])  # s/mm^2
RNG = np.random.default_rng(2)
S0 = RNG.uniform(500, 1500, 12)
ADC = RNG.uniform(0.4e-3, 2.5e-3, 12)  # mm^2/s


def decay(rate, b):
    return (jnp.exp(-b * rate),)


def amplitude_and_inverse(amplitudes, rate):
    return amplitudes[0], 1 / rate


def amplitude_and_rate(s0, inverse_adc):
    return (s0,), 1 / inverse_adc


def diffusion():
    return SignalModel(
        name="diffusion",
        parameters=("s0", "inverse_adc"),
        units=("image", "s"),
        basis=decay,
        to_parameters=amplitude_and_inverse,
        from_parameters=amplitude_and_rate,
        bounds=(100.0, 50_000.0),  # 1/D: D from 0.02e-3 to 10e-3
        longest=20_000.0,  # b-values above it are in another unit
    )


def test_a_fit_of_it_is_that_of_scipy():
    clean = S0 * np.exp(-B_VALUES[:, None] * ADC)
    images = clean + RNG.normal(0, 5, clean.shape)
    fit = fit_map(images, B_VALUES, model=diffusion())
    assert np.all(fit.status == FitStatus.CONVERGED)
    for voxel in range(len(S0)):
        (s0, adc), covariance = optimize.curve_fit(
            lambda b, s0, adc: s0 * np.exp(-b * adc),
            B_VALUES,
            images[:, voxel],
            p0=(S0[voxel], ADC[voxel]),
            xtol=1e-14,
            ftol=1e-14,
        )
        sigma = np.sqrt(np.diag(covariance))
        found = 1 / fit.params["inverse_adc"][voxel]
        np.testing.assert_allclose(fit.params["s0"][voxel], s0, rtol=1e-6)
        np.testing.assert_allclose(found, adc, rtol=1e-6)
        np.testing.assert_allclose(fit.sigma["s0"][voxel], sigma[0], rtol=1e-4)
        # |d(1/x)| = dx / x^2
        np.testing.assert_allclose(
            fit.sigma["inverse_adc"][voxel] * found**2, sigma[1], rtol=1e-4
        )


def test_its_signal_and_bound_are_those_of_the_formula():
    parameters = {"s0": 900.0, "inverse_adc": 1 / 0.8e-3}
    curve = signal(diffusion(), parameters, B_VALUES)
    bound = cramer_rao_bound(
        B_VALUES, model=diffusion(), params=parameters, noise_sd=5.0
    )
    np.testing.assert_allclose(curve, 900 * np.exp(-B_VALUES * 0.8e-3), rtol=1e-12)
    decayed = np.exp(-B_VALUES * 0.8e-3)
    jacobian = np.stack([decayed, 900 * decayed * B_VALUES * 0.8e-3**2], axis=1)
    expected = 5 * np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    np.testing.assert_allclose(bound["s0"], expected[0], rtol=1e-8)
    np.testing.assert_allclose(bound["inverse_adc"], expected[1], rtol=1e-8)


def test_two_of_them_are_one_to_jit_and_pickle():
    assert diffusion() == diffusion()
    assert hash(diffusion()) == hash(diffusion())
    assert pickle.loads(pickle.dumps(diffusion())) == diffusion()
    traces = []

    @functools.partial(jax.jit, static_argnames="model")
    def fit(images, model):
        traces.append(model)
        return fit_map(images, B_VALUES, model=model).params["s0"]

    for _ in range(2):
        fit(np.ones((6, 2)), model=diffusion())
    assert len(traces) == 1


def test_b_values_in_another_unit_are_refused():
    with pytest.raises(ValueError, match="diffusion"):
        fit_map(np.ones((6, 2)), B_VALUES * 1000, model=diffusion())


def test_a_model_without_a_unit_for_its_rate_is_refused_by_name():
    lost = diffusion()._replace(units=("image", "1"))
    with pytest.raises(ValueError, match='model diffusion: units: expected .*"s"'):
        fit_map(np.ones((6, 2)), B_VALUES, model=lost)


def swapped(amplitudes, rate):
    return 1 / rate, amplitudes[0]


def unswapped(t1, s0):
    return (s0,), 1 / t1


def doubled(amplitudes, rate):
    return 2 * amplitudes[0], 1 / rate


def falling(rate, time):
    return (jnp.exp(-time * rate),)


def in_numpy(rate, time):
    return (np.exp(-time * rate),)


def with_power(rate, time, power):
    return (jnp.exp(-((time * rate) ** power)),)


GOOD = SignalModel(
    name="mine",
    parameters=("s0", "t2"),
    units=("image", "s"),
    basis=falling,
    bounds=(1e-3, 10.0),
    longest=5.0,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": ("t2", "s0"), "units": ("s", "image")}, "units: expected"),
        (
            {"to_parameters": swapped, "from_parameters": unswapped},
            "to_parameters: expected 1 / rate .* in the place of 't2'",
        ),
        ({"to_parameters": doubled}, "from_parameters: expected the inverse"),
        ({"basis": in_numpy}, "basis: expected .* made of jax.numpy"),
        ({"basis": with_power}, "basis: expected .* constants as the model has, 0"),
    ],
)
def test_models_that_would_give_other_numbers_are_refused(changes, message):
    times = np.linspace(0.01, 0.1, 4).astype(np.float32)
    images = np.exp(-times / 0.05)[:, None].astype(np.float32)
    model = GOOD._replace(**changes)
    with pytest.raises(ValueError, match=f"^fit_map: model mine: {message}"):
        fit_map(images, times, model=model)
    values = dict(zip(model.parameters, (1.0, 0.05), strict=True))
    with pytest.raises(ValueError, match=f"^signal: model mine: {message}"):
        signal(model, values, times)
    found = fit_map(images, times, model=GOOD)
    np.testing.assert_allclose(found.params["t2"], 0.05, rtol=1e-4)


def two_times(amplitudes, rate):
    return amplitudes[0], 2 / rate, 1 / rate


def test_of_two_times_the_first_is_the_time_constant():
    model = GOOD._replace(
        parameters=("s0", "twice", "t2"),
        units=("image", "s", "s"),
        basis=lambda rate, time: (jnp.exp(-time * rate), jnp.ones_like(rate * time)),
        to_parameters=two_times,
        from_parameters=lambda s0, twice, t2: ((s0, s0), 1 / t2),
    )
    message = "place of 'twice', the first whose unit is 's': put the time constant "
    with pytest.raises(ValueError, match=message):
        signal(model, {"s0": 1.0, "twice": 0.1, "t2": 0.05}, [0.01, 0.02, 0.03])


def test_the_time_of_a_sample_of_weight_0_is_not_read():
    """The slope of (t R)^0.8 is infinite at a time of 0, which 0 would not silence."""
    model = GOOD._replace(basis=with_power, constants=(0.8,))
    times = np.array([0.0, 0.02, 0.04, 0.08, 0.12])
    images = np.exp(-((times / 0.06) ** 0.8)) * [1, 1.02, 0.98, 1.02, 0.98]
    weights = np.array([0.0, 1, 2, 1, 1])
    assert fit_map(images, times, model=model).status == FitStatus.UNDETERMINED

    def fitted(y, t, w):
        return fit_map(y, t, model=model, weights=w).params["t2"]

    def bound(y, t, w):
        del y
        truth = {"s0": 1.1, "t2": 0.06}
        found = cramer_rao_bound(t, model=model, params=truth, noise_sd=0.1, weights=w)
        return found["t2"]

    for function in (fitted, bound):
        program = jax.jit(jax.value_and_grad(function, (0, 1, 2)))
        value, slopes = program(images, times, weights)
        fewer = program(images[1:], times[1:], weights[1:])
        np.testing.assert_allclose(value, fewer[0], rtol=1e-12)
        for found, other in zip(slopes, fewer[1], strict=True):
            np.testing.assert_allclose(found[1:], other, rtol=1e-9, atol=1e-12)
        assert all(np.isfinite(slope).all() and slope[0] == 0 for slope in slopes[1:])
    each = np.stack([weights, np.ones(5)], axis=1)
    both = fit_map(np.stack([images] * 2, axis=1), times, model=model, weights=each)
    assert both.status.tolist() == [FitStatus.CONVERGED, FitStatus.UNDETERMINED]
    alone = fit_magnitudes(images[1:], times[1:], model=model, noise=0.01)
    found = fit_magnitudes(
        images, times, model=model, noise=0.01, weights=np.sign(weights)
    )
    np.testing.assert_allclose(found.params["t2"], alone.params["t2"], rtol=1e-12)


def test_a_model_is_checked_where_transfers_are_barred():
    times = jnp.linspace(0.01, 0.1, 4, dtype=jnp.float32)
    images = jnp.exp(-times / 0.05)[:, None]
    model = GOOD._replace(name="another")  # not compiled before
    with jax.transfer_guard("disallow"):
        found = jax.jit(functools.partial(fit_map, model=model))(images, times)
    np.testing.assert_allclose(found.params["t2"], 0.05, rtol=1e-4)
