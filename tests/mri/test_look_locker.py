"""T1 of several readouts after one inversion, against Bloch simulations in float64."""

import numpy as np
import pytest

from medjax.mri import cramer_rao_bound
from medjax.mri.catalogue import signal_model
from medjax.mri.fit import FitStatus, fit_map
from medjax.mri.signals import signal
from tests.oracles.readouts import look_locker, molli

MODEL = signal_model("t1_look_locker")
T1 = np.array([0.3, 1.0, 2.0])


def spoiled(degrees, repetition, first, efficiency=1.0):
    """24 of the readouts within 5 s, [E] and [E, 3]."""
    count = int(5 / repetition)
    kept = np.unique(np.linspace(0, count - 1, 24).astype(int))
    options = {"angle": np.deg2rad(degrees), "repetition": repetition, "first": first}
    options |= {"count": count, "efficiency": efficiency}
    runs = [look_locker(t1, **options) for t1 in T1]
    return runs[0][0][kept], np.stack([s[kept] for _, s in runs], axis=1)


def test_the_curve_equals_its_formula():
    t = np.array([0.0, 0.3, 2.0])[:, None]
    s0, t1star = np.array([2.0, 1.0, 3.0]), np.array([0.25, 0.7, 1.1])
    params = {"s0": s0, "t1star": t1star, "t1": T1}
    found = signal(MODEL, params, t[:, 0])
    a, decay = s0 * t1star / T1, np.exp(-t / t1star)
    np.testing.assert_allclose(found, a - (a + s0) * decay, rtol=1e-13, atol=1e-15)


# what the correction leaves: degrees, spacing and first readout in s, error
@pytest.mark.parametrize(
    ("degrees", "spacing", "first", "error"),
    [
        (5, 0.005, 0.005, 0.0019),
        (8, 0.005, 0.005, 0.0049),
        (15, 0.1, 0.1, 0.018),
        (8, 0.1, 0.02, -0.0027),
        (5, 0.005, 0.02, 0.0132),
    ],
)
def test_corrected_t1_of_spoiled_readouts(degrees, spacing, first, error):
    times, images = spoiled(degrees, spacing, first)
    found = fit_map(images, times, model=MODEL)
    np.testing.assert_allclose(found.params["t1"] / T1 - 1, error, atol=1e-3)
    rate = 1 / T1 - np.log(np.cos(np.deg2rad(degrees))) / spacing
    np.testing.assert_allclose(found.params["t1star"], 1 / rate, rtol=1e-6)
    assert np.all(found.r_squared > 1 - 1e-9)  # which says nothing of the correction
    lost = fit_map(np.abs(images), times, model=MODEL, magnitude=True)
    for name in MODEL.parameters:
        np.testing.assert_allclose(lost.params[name], found.params[name], rtol=1e-6)


def test_an_imperfect_inversion_shortens_the_corrected_t1():
    times, images = spoiled(5, 0.005, 0.005, efficiency=0.95)
    found = fit_map(images, times, model=MODEL)
    np.testing.assert_allclose(found.params["t1"], 0.9 * T1, rtol=2.5e-3)


@pytest.mark.parametrize(
    ("t1", "t2", "error"), [(1.0, 0.045, -0.078), (1.0, 0.25, -0.007)]
)
def test_molli_in_magnitudes(t1, t2, error):
    """T1* alone is a quarter short at T2 = 45 ms."""
    options = {"angle": np.deg2rad(35), "repetition": 0.0028, "echoes": 60, "beat": 1.0}
    times, images = molli(t1, t2, **options)
    assert images[0] < 0 < images[-1]
    found = fit_map(np.abs(images), times, model=MODEL, magnitude=True)
    np.testing.assert_allclose(found.params["t1"] / t1 - 1, error, atol=2e-3)
    assert t2 > 0.1 or found.params["t1star"] < 0.77 * t1


def test_sigma_of_the_corrected_t1_is_what_fits_scatter_by():
    times = np.array([0.1, 0.18, 1.1, 1.18, 2.1, 2.18, 3.1, 4.1])
    params = {"s0": 1.2, "t1star": 0.8, "t1": 1.05}
    bound = cramer_rao_bound(times, model=MODEL, params=params, noise_sd=0.004)
    clean = np.asarray(signal(MODEL, params, times))[:, None]
    rng = np.random.default_rng(0)
    noisy = clean + 0.004 * rng.standard_normal((8, 8192))
    found = fit_map(noisy.astype(np.float32), times, model=MODEL)
    assert np.all(found.status == FitStatus.CONVERGED)
    for name in MODEL.parameters:
        # 8192 draws know an sd to 0.8 %
        sd = np.std(np.asarray(found.params[name], float))
        np.testing.assert_allclose(sd, bound[name], rtol=0.03)
        estimated = np.sqrt(np.mean(np.square(found.sigma[name], dtype=float)))
        np.testing.assert_allclose(estimated, sd, rtol=0.03)
