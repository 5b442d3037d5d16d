"""Bright voxels, and what a fit leaves of each contrast, against NumPy."""

import jax
import numpy as np
import pytest

from medjax.mri.catalogue import signal_model
from medjax.mri.fit import fit_map
from medjax.mri.residuals import bright_voxels, even_odd_misfit, residual_by_contrast
from medjax.mri.samples import FitStatus
from tests.oracles.spin_echoes import echoes

T2 = signal_model("t2")
TIMES = 0.015 * np.arange(1, 9)
SIDE = 32
ROWS, COLUMNS = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
DISC = np.hypot(ROWS, COLUMNS) < 0.8


def slices(snr, *, gain=1.0, magnitude=False, seed=0):
    """Two slices [E, 2, H, W] of a disc, the first echo times `gain`."""
    rng = np.random.default_rng(seed)
    clean = DISC * np.exp(-TIMES[:, None, None] / np.where(ROWS > 0, 0.06, 0.1))
    clean[0] *= gain
    parts = rng.normal(0, 1 / snr, (2, len(TIMES), 2, SIDE, SIDE))
    parts[0] += clean[:, None]
    return np.float32(np.hypot(*parts) if magnitude else parts[0])


@jax.jit
def judge(images):
    fit = fit_map(images, TIMES, model=T2)
    bright = bright_voxels(images, fit)
    return fit, bright, residual_by_contrast(images, TIMES, fit, T2, bright)


def test_sums_are_those_of_numpy():
    images = slices(20)
    fit, bright, sums = jax.device_get(judge(images))
    curves = fit.params["s0"] * np.exp(-TIMES[:, None, None, None] / fit.params["t2"])
    for z in range(2):
        kept = np.asarray(bright[z] & (fit.status[z] <= FitStatus.AT_BOUND))
        left = (images - curves)[:, z][:, kept]
        assert sums.count[z] == kept.sum()
        np.testing.assert_allclose(sums.residual[z], left.sum(1), atol=1e-3)
        np.testing.assert_allclose(sums.square[z], (left**2).sum(1), rtol=1e-4)
        size = np.abs(curves[:, z][:, kept])
        np.testing.assert_allclose(sums.signal[z], size.sum(1), rtol=1e-5)
        level = np.asarray(fit.residual[z])[kept] * np.sqrt(8 / 6)
        assert abs(sums.faint[z] - (size < 2 * level).sum(1)).max() <= 1


def shares(sums):
    """(mean residual as a share of the mean signal, in standard errors)."""
    count = float(sums.count.sum())
    mean = np.asarray(sums.residual).sum(0) / count
    spread = np.sqrt(np.asarray(sums.square).sum(0) / count - mean**2)
    share = np.abs(mean) / (np.asarray(sums.signal).sum(0).mean() / count)
    return share.max(), (np.abs(mean) / spread).max() * np.sqrt(count)


def test_a_right_model_leaves_noise_and_a_wrong_one_a_mean():
    for snr in (10, 60):
        share, errors = shares(judge(slices(snr))[2])
        assert share < 0.02 and errors < 5
    share, errors = shares(judge(slices(60, gain=0.85))[2])  # a first echo too low
    assert share > 0.05 and errors > 50


def test_what_is_bright_is_the_object_also_in_noise():
    for snr, magnitude in ((1e6, False), (60, True), (20, True), (10, True)):
        bright = np.asarray(judge(slices(snr, magnitude=magnitude))[1])
        assert bright[:, DISC].mean() > 0.99
        assert bright[:, ~DISC].mean() < 0.2  # 3 noise levels in one of 8 contrasts


def test_voxels_without_signal_are_not_bright_and_those_without_a_number_are():
    images = slices(1e6)
    images[3, 0, 16, 16] = np.nan
    images[:, 1] = 0
    fit, bright, sums = jax.device_get(judge(images))
    assert bright[0, 16, 16] and fit.status[0, 16, 16] == FitStatus.INVALID
    assert sums.count[0] == bright[0].sum() - 1
    assert not bright[1].any() and sums.count[1] == 0
    assert np.isfinite(sums.residual).all()


def test_alternation_of_a_train_that_a_decay_is_fitted_to():
    """Stimulated echoes at 150 degrees by their size; at 180 noise within its error."""
    rng, times = np.random.default_rng(1), 0.01 * np.arange(1, 9)
    curve = [echoes(0.08, np.deg2rad(angle), 0.01, 8) for angle in (150, 180)]
    clean = np.moveaxis(np.array(curve), 0, 1)[..., None, None]
    images = np.float32(clean + 0.03 * rng.normal(size=(8, 2, SIDE, SIDE)))
    fit = fit_map(images, times, model=T2)
    bright = np.ones((2, SIDE, SIDE), bool)
    sums = residual_by_contrast(images, times, fit, T2, bright)
    share, error = np.asarray(even_odd_misfit(sums))
    assert abs(share[0] + 0.028) < 0.003 and share[0] < -10 * error[0]
    assert abs(share[1]) < 4 * error[1] and (error < 2e-3).all()


def test_what_does_not_belong_together_is_refused_by_name():
    images = slices(20)
    fit, bright, sums = judge(images)
    with pytest.raises(ValueError, match="signal of fit and times: .* E = 8 from imag"):
        residual_by_contrast(images, TIMES[:7], fit, T2, bright)
    with pytest.raises(ValueError, match=r"bright_voxels: fit\.status: .* found"):
        bright_voxels(images[:, :1], fit)
    with pytest.raises(ValueError, match="bright_voxels: floor: expected"):
        bright_voxels(images, fit, floor=np.zeros(2))
    with pytest.raises(ValueError, match=r"even_odd_misfit: sums\.residual: .* E = 8"):
        even_odd_misfit(sums._replace(residual=sums.residual[..., :1]))
