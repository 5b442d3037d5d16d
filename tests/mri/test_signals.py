"""Signal models: NumPy formulas, limits, derivatives by the rate, units refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri import catalogue, signals
from medjax.mri.catalogue import MODELS, signal_model
from medjax.mri.fit import fit_map
from medjax.mri.signals import (
    signal_saturation_recovery,
    signal_t1_ir,
    signal_t2,
    signal_vfa,
)
from medjax.mri.times import check_times

TIMES = np.array([0.0, 0.05, 0.4, 2.0])
S0, T = np.array([1.2, 0.7, 3.0]), np.array([0.08, 0.9, 1.7])


def loops(formula, *values):
    """[E, N] by plain loops."""
    return np.array(
        [[formula(t, *v) for v in zip(*values, strict=True)] for t in TIMES]
    )


def test_signals_equal_their_formulas():
    extra = np.array([0.1, 0.9, 0.5])
    pairs = [
        (signal_t2(S0, T, TIMES), loops(lambda t, s, T: s * np.exp(-t / T), S0, T)),
        (
            signal_t2(S0, T, TIMES, offset=extra),
            loops(lambda t, s, T, o: s * np.exp(-t / T) + o, S0, T, extra),
        ),
        (
            signal_t1_ir(S0, T, TIMES),
            loops(lambda t, s, T: s * (1 - 2 * np.exp(-t / T)), S0, T),
        ),
        (
            signal_t1_ir(S0, T, TIMES, efficiency=extra),
            loops(lambda t, s, T, f: s * (1 - 2 * f * np.exp(-t / T)), S0, T, extra),
        ),
        (
            signal_saturation_recovery(S0, T, TIMES),
            loops(lambda t, s, T: s * (1 - np.exp(-t / T)), S0, T),
        ),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_vfa_equals_ernst_and_peaks_at_his_angle():
    repetition, t1 = 0.015, 0.9
    angles = np.linspace(0.001, 1.0, 5000)
    found = np.asarray(signal_vfa(1.0, t1, angles, repetition_time=repetition))
    decay = np.exp(-repetition / t1)
    expected = np.sin(angles) * (1 - decay) / (1 - np.cos(angles) * decay)
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    assert angles[np.argmax(found)] == pytest.approx(np.arccos(decay), abs=3e-4)


def ernst(angle, repetition, t1):
    decay = math.exp(-repetition / t1)
    return math.sin(angle) * (1 - decay) / (1 - math.cos(angle) * decay)


ANGLES, REPETITIONS = np.deg2rad([4.0, 20.0, 20.0]), [0.025, 0.011, 0.05]


def test_vfa_with_a_repetition_time_for_each_angle():
    pairs = list(zip(ANGLES, REPETITIONS, strict=True))
    expected = [
        [s * ernst(a, r, t) for s, t in zip(S0, T, strict=True)] for a, r in pairs
    ]
    found = signal_vfa(S0, T, ANGLES, repetition_time=REPETITIONS)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    same = signal_vfa(S0, T, ANGLES, repetition_time=[0.02] * 3)
    one = signal_vfa(S0, T, ANGLES, repetition_time=0.02)
    np.testing.assert_allclose(same, one, rtol=1e-15)


def test_fits_of_angles_with_repetition_times_of_their_own():
    """As one repetition time T1 would be wrong by more than a third."""
    t1 = np.array([0.7, 1.0, 2.5])
    images = np.array(
        [
            [500 * ernst(a, r, t) for t in t1]
            for a, r in zip(ANGLES, REPETITIONS, strict=True)
        ]
    )
    model = catalogue.vfa_model(REPETITIONS)
    assert hash(model) == hash(catalogue.vfa_model(tuple(REPETITIONS)))
    found = fit_map(images, ANGLES, model=model)
    np.testing.assert_allclose(found.params["t1"], t1, rtol=1e-9)
    np.testing.assert_allclose(found.params["s0"], 500, rtol=1e-9)
    # The two images of one angle are told apart by their repetition times.
    for kept, skip in (([0, 1], (2,)), ([1, 2], (0,))):
        fewer = fit_map(images, ANGLES, model=model, skip=skip)
        alone = fit_map(
            images[kept],
            ANGLES[kept],
            model=catalogue.vfa_model([REPETITIONS[e] for e in kept]),
        )
        np.testing.assert_allclose(fewer.params["t1"], t1, rtol=1e-8)
        np.testing.assert_array_equal(fewer.params["t1"], alone.params["t1"])
    wrong = fit_map(images[:2], ANGLES[:2], model=catalogue.vfa_model(REPETITIONS[0]))
    assert np.all(wrong.params["t1"] > 1.3 * t1)


def test_repetition_times_of_another_number_are_refused():
    model = catalogue.vfa_model(REPETITIONS)
    images = np.ones((2, 4))
    with pytest.raises(ValueError, match="fit_map: .*each of 2 contrasts; found 3"):
        fit_map(images, ANGLES[:2], model=model)
    with pytest.raises(ValueError, match="signal_vfa: .*each of 2 contrasts; found 3"):
        signal_vfa(1.0, 1.0, ANGLES[:2], repetition_time=REPETITIONS)
    for wrong in ([], [0.02, 20.0], [0.02, 0.0]):
        with pytest.raises(ValueError, match="one for all flip angles or one for each"):
            catalogue.vfa_model(wrong)


@pytest.mark.parametrize("time", ["1", 1j, True, ["1", "2"], [0.01, None]])
def test_repetition_times_that_are_no_numbers_are_refused(time):
    with pytest.raises(ValueError, match="expected 0 to 10 seconds"):
        signal_model("t1_vfa", repetition_time=time)


def test_derivatives_with_repetition_times_of_their_own():
    model, t1 = catalogue.vfa_model(REPETITIONS), 1.1
    curve = [ernst(a, r, t1) for a, r in zip(ANGLES, REPETITIONS, strict=True)]
    noisy = np.array(curve) * [1.01, 0.99, 1.005]

    @jax.jit
    def fitted(images, angles):
        return fit_map(images, angles, model=model).params["t1"]

    slopes = jax.grad(fitted, argnums=(0, 1))(noisy, ANGLES)
    for argument, slope in enumerate(slopes):
        for e in range(3):
            ends = []
            for step in (-1e-5, 1e-5):
                given = [noisy.copy(), ANGLES.copy()]
                given[argument][e] *= 1 + step
                ends.append(float(fitted(*given)))
            size = (noisy, ANGLES)[argument][e]
            change = (ends[1] - ends[0]) / (2e-5 * size)
            # differences of 1e-5 of themselves: truncation 1e-10, rounding 1e-9
            np.testing.assert_allclose(slope[e], change, rtol=1e-6)


def test_vfa_in_float32_does_not_cancel():
    """1 - E is 0.0008 here: by subtraction it would keep four digits."""
    angles = np.deg2rad([1.0, 4.0, 12.0])
    options = {"repetition_time": 0.003}
    wide = signal_vfa(1.0, np.array([4.0]), angles, **options)
    narrow = signal_vfa(1.0, np.array([4.0], np.float32), angles, **options)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, wide, rtol=5e-7)


def test_limits():
    np.testing.assert_allclose(signal_t2(2.0, 0.1, [0.0, 50.0]), [2, 0], atol=1e-12)
    np.testing.assert_allclose(signal_t1_ir(2.0, 0.5, [0.0, 50.0]), [-2, 2], atol=1e-12)
    null = signal_t1_ir(2.0, 0.5, [0.5 * np.log(2)])
    np.testing.assert_allclose(null, 0, atol=1e-15)
    saturated = signal_saturation_recovery(2.0, 0.5, [0.0, 50.0])
    np.testing.assert_allclose(saturated, [0, 2], atol=1e-12)


ELEMENTWISE = [name for name, model in MODELS.items() if model.train is None]


@pytest.mark.parametrize("name", [*ELEMENTWISE, "t1_vfa"])
def test_parameters_and_amplitudes_are_inverse(name):
    model = signal_model(name, repetition_time=0.01 if name == "t1_vfa" else None)
    values = [jnp.asarray(x) for x in (S0, T, np.array([0.3, 0.8, 0.95]))]
    values = tuple(values[: len(model.parameters)])
    amplitudes, rate = model.from_parameters(*values)
    back = model.to_parameters(amplitudes, rate)
    for x, y in zip(back, values, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13)
    assert len(model.units) == len(model.parameters)
    assert model.time_constant == model.parameters[1]
    assert hash(model) == hash(model._replace())


def test_voxels_may_have_times_of_their_own():
    """Flip angles times a B1 map."""
    b1 = np.array([0.8, 1.0, 1.1])
    angles = np.deg2rad([3.0, 15.0])
    found = signal_vfa(S0, T, angles[:, None] * b1, repetition_time=0.02)
    for i in range(3):
        one = signal_vfa(S0[i], T[i], angles * b1[i], repetition_time=0.02)
        np.testing.assert_allclose(found[:, i], one, rtol=1e-13)


def test_dtype_follows_the_parameters():
    t2 = jnp.asarray(T, jnp.float32)
    s0 = jnp.asarray(S0, jnp.complex64) * 1j
    assert signal_t2(jnp.asarray(S0, jnp.float32), t2, TIMES).dtype == jnp.float32
    found = signal_t2(s0, t2, TIMES)
    assert found.dtype == jnp.complex64
    np.testing.assert_allclose(found.imag, signal_t2(S0, T, TIMES), rtol=1e-6)
    inverted = signal_t1_ir(s0, t2, TIMES, efficiency=jnp.ones_like(t2))
    np.testing.assert_allclose(inverted.imag, signal_t1_ir(S0, T, TIMES), atol=1e-6)


def test_gradient_is_finite_at_the_ends():
    for times in ([0.0, 1e-4], [30.0, 60.0]):
        slope = jax.jacobian(lambda t1, times=times: signal_t1_ir(1.0, t1, times))(0.5)
        assert np.all(np.isfinite(slope))


@pytest.mark.parametrize(
    ("times", "name", "message"),
    [
        ([15.0, 30.0, 45.0], "t2", "found 45, which looks like milliseconds"),
        ([1.2, 3.4, 5.6], "t2star", "at most 1 for t2star.*divide by 1000"),
        ([50.0, 400.0, 3000.0], "t1_ir", "divide by 1000"),
        ([2.0, 5.0, 15.0], "t1_vfa", "flip angles.*looks like degrees"),
        ([0.01], "t2", "2 parameters.*2|found 1"),
        ([0.01, 0.01, 0.02], "t2_offset", "3 parameters.*found 2"),
        ([-0.01, 0.02], "t2", "none negative"),
        ([0.01, np.nan], "t2", "finite seconds"),
        (0.01, "t2", "found a scalar"),
    ],
)
def test_times_are_refused(times, name, message):
    model = signal_model(name, repetition_time=0.01 if name == "t1_vfa" else None)
    with pytest.raises(ValueError, match=message):
        check_times(times, model=model)


def test_times_that_are_right_pass():
    check_times([0.0, 0.025, 0.125], model=catalogue.T2, count=3)
    check_times(np.ones((2, 4)) * [[0.1], [2.0]], model=catalogue.T1_IR, count=2)
    jax.jit(lambda t: check_times(t, model=catalogue.T2, count=2))(jnp.ones(2))
    with pytest.raises(ValueError, match="expected 4, one a contrast; found 3"):
        check_times([0.0, 0.025, 0.125], model=catalogue.T2, count=4)


def test_models_by_name():
    assert signal_model("t1_ir") is catalogue.T1_IR
    vfa = signal_model("t1_vfa", repetition_time=0.01)
    assert vfa == catalogue.vfa_model(0.01)  # equal models share a compilation
    with pytest.raises(ValueError, match="model 't3'.*t2_offset.*t1_vfa"):
        signal_model("t3")
    with pytest.raises(ValueError, match="t1_vfa needs repetition_time"):
        signal_model("t1_vfa")
    with pytest.raises(ValueError, match="t2 has no repetition_time"):
        signal_model("t2", repetition_time=0.01)
    with pytest.raises(ValueError, match="divide milliseconds"):
        signal_model("t1_vfa", repetition_time=15.0)
    with pytest.raises(ValueError, match="t2 has the parameters s0, t2; found s0, t1"):
        signals.signal(catalogue.T2, {"s0": 1.0, "t1": 1.0}, TIMES)


def test_a_number_without_a_use_is_refused_beside_one_that_has_one():
    with pytest.raises(ValueError, match="t2_epg has no repetition_time"):
        signal_model("t2_epg", t1=1.0, repetition_time=3.0)
    with pytest.raises(ValueError, match="'foo': expected one of"):
        signal_model("foo", t1=1.0)
