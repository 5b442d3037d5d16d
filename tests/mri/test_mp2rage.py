"""MP2RAGE against a pulse-by-pulse simulation in float64, and back to T1."""

import jax
import numpy as np
import pytest

from medjax.mri.mp2rage import Mp2rage, mp2rage_signals, mp2rage_t1, mp2rage_uniform

SEVEN = Mp2rage((0.8, 2.7), (np.deg2rad(7), np.deg2rad(5)), 6.0, 0.0067, (80, 80), 0.96)
THREE = Mp2rage((0.7, 2.5), (np.deg2rad(4), np.deg2rad(5)), 5.0, 0.007, (56, 96), 1.0)
T1 = np.array([0.5, 0.85, 1.35, 2.0, 3.0])


def pulse_by_pulse(t1, protocol):
    """Both signals after 40 inversions."""
    mz, signals = 1.0, []
    before, after = protocol.excitations
    angles, pulse = protocol.flip_angles, protocol.excitation

    def relax(m, time):
        return 1 + (m - 1) * np.exp(-time / t1)

    for _ in range(40):
        mz, clock, signals = -protocol.efficiency * mz, 0.0, []
        for time, angle in zip(protocol.inversion_times, angles, strict=True):
            begin = time - before * pulse
            mz, clock = relax(mz, begin - clock), begin
            for n in range(before + after):
                if n == before:
                    signals.append(mz * np.sin(angle))
                    assert abs(clock - time) < 1e-9
                mz, clock = relax(mz * np.cos(angle), pulse), clock + pulse
        mz = relax(mz, protocol.repetition - clock)
    return signals


@pytest.mark.parametrize("protocol", [SEVEN, THREE])
def test_signals_and_t1_of_a_simulation(protocol):
    expected = np.array([pulse_by_pulse(t1, protocol) for t1 in T1]).T
    found = mp2rage_signals(T1, protocol=protocol)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    phase = np.exp(1j * np.linspace(0, 3, 5)) * [1, 20, 3, 0.5, 7]  # of coils and M0
    uniform = mp2rage_uniform(*(expected * phase))
    first, second = expected
    np.testing.assert_allclose(
        uniform, first * second / (first**2 + second**2), rtol=1e-12
    )
    assert np.all(np.diff(uniform) < 0)
    t1 = mp2rage_t1(uniform, protocol=protocol)
    np.testing.assert_allclose(t1, T1, rtol=1e-10)
    narrow = mp2rage_t1(np.asarray(uniform, np.float32), protocol=protocol)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, T1, rtol=2e-4)


def test_what_no_t1_has_is_nan():
    stored = np.array([0.51, -0.51, 2000.0, np.nan])
    assert np.isnan(mp2rage_t1(stored, protocol=SEVEN)).all()
    nothing = mp2rage_uniform(np.zeros(2), np.array([0.0, 1.0]))
    np.testing.assert_array_equal(nothing, [np.nan, 0.0])


def test_images_of_two_precisions_meet_in_the_wider_one():
    half = np.array([0.0, 0.5, 0.25], np.float16)
    single = np.array([1e-10, 1e-9, 0.25], np.float32)
    found = mp2rage_uniform(half, single)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.0, 2e-9, 0.5], rtol=1e-5)  # float32
    mixed = mp2rage_uniform(half, single.astype(np.complex64))
    np.testing.assert_allclose(mixed, found, rtol=1e-5)


def test_derivative_by_s_is_that_of_the_inverse_curve():
    def uniform(t1):
        return mp2rage_uniform(*mp2rage_signals(t1, protocol=SEVEN))

    slope = jax.grad(uniform)(1.3)
    back = jax.grad(lambda s: mp2rage_t1(s, protocol=SEVEN))(uniform(1.3))
    np.testing.assert_allclose(slope * back, 1, rtol=1e-8)
    curved = jax.grad(jax.grad(lambda s: mp2rage_t1(s, protocol=SEVEN)))(uniform(1.3))
    bend = jax.grad(jax.grad(uniform))(1.3)
    np.testing.assert_allclose(curved, -bend / slope**3, rtol=1e-7)
    step = 1e-5
    difference = (uniform(1.3 + step) - uniform(1.3 - step)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inversion_times": (0.4, 2.7)}, "s are left before the first train"),
        ({"inversion_times": (0.8, 1.5)}, "s are left between the trains"),
        ({"repetition": 3.0}, "s are left after the second train"),
        ({"flip_angles": (7.0, 5.0)}, "flip_angles .*radians"),
        ({"efficiency": 1.2}, "efficiency 1.2"),
        ({"excitations": (80.0, 80)}, "excitations .*whole"),
    ],
)
def test_protocols_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=f"mp2rage: .*{message}"):
        mp2rage_signals(1.0, protocol=SEVEN._replace(**change))


def test_bounds_and_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="bounds: expected 0 < low < high"):
        mp2rage_t1(np.zeros(2), protocol=SEVEN, bounds=(2.0, 1.0))
    with pytest.raises(ValueError, match="mp2rage_t1: uniform"):
        mp2rage_t1(np.array([100, 2000]), protocol=SEVEN)
