"""The mean of magnitudes against float64 sums, and the bias that it takes away."""

from math import lgamma

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.catalogue import signal_model
from medjax.mri.fit import fit_map
from medjax.mri.magnitude import (
    _fit_magnitudes,
    expected_magnitude,
    fit_magnitudes,
)
from medjax.mri.samples import FitStatus

T2 = signal_model("t2")
TIMES = 0.015 * np.arange(1, 9)
COUNT = 4000  # voxels of a Monte Carlo run


def poisson_mean(size, coils):
    """E |m| for noise 1 as E of central chi's means, the degrees by Poisson's law."""
    j = np.arange(6000)
    x = size**2 / 2
    logs = np.array([lgamma(k + 1) for k in j])
    weights = np.exp(-x + j * np.log(x) - logs) if x else (j == 0).astype(float)
    means = [lgamma(coils + k + 0.5) - lgamma(coils + k) for k in j]
    return np.sqrt(2) * np.sum(weights * np.exp(means))


@pytest.mark.parametrize("coils", [1, 2, 3, 8, 64])
def test_the_mean_is_that_of_a_sum_over_poisson_s_law(coils):
    # around sqrt(2 C), where the series hands over to the recurrence
    edge = np.sqrt(2 * coils)
    sizes = [0, 0.01, 0.5, 1, 2, 3, edge - 0.01, edge + 0.01, 6, 12, 40, 80]
    expected = [2.5 * poisson_mean(size, coils) for size in sizes]
    found = expected_magnitude(
        2.5 * jnp.float32(jnp.array(sizes)), noise=jnp.float32(2.5), coils=coils
    )
    np.testing.assert_allclose(found, expected, rtol=2e-6)  # float32, some 20 steps


def test_the_mean_is_even_and_its_slopes_are_finite():
    sizes = jnp.array([-3.0, 0.0, 3.0], jnp.float32)
    for coils in (1, 2, 4):

        def mean(x, coils=coils):
            return expected_magnitude(x, noise=jnp.float32(1), coils=coils)

        left, middle, right = jax.vmap(jax.grad(mean))(sizes)
        assert middle == 0 and left == -right and right > 0
        step = 1e-3
        slope = (poisson_mean(3 + step, coils) - poisson_mean(3 - step, coils)) / 2e-3
        np.testing.assert_allclose(right, slope, rtol=1e-4)
        assert np.isfinite(jax.vmap(jax.grad(jax.grad(mean)))(sizes)).all()


def magnitudes(t2, snr, coils, seed=0):
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, 1 / snr, (2 * coils, len(TIMES), COUNT))
    parts[0] += np.exp(-TIMES / t2)[:, None]
    return np.float32(np.sqrt((parts**2).sum(0)))


@pytest.mark.parametrize(
    ("coils", "lowest", "before"), [(1, 5, 0.24), (8, 10, 0.70)], ids=["1", "8"]
)
def test_t2_of_magnitudes_is_not_biased(coils, lowest, before):
    """T2 40 and 80 ms; below the lowest SNR two echoes are above the floor."""
    fit = jax.jit(lambda x, s: fit_magnitudes(x, TIMES, model=T2, noise=s, coils=coils))
    for t2, snr in ((0.08, lowest), (0.04, 10), (0.08, 20)):
        images = magnitudes(t2, snr, coils)
        found = np.nanmedian(fit(images, np.float32(1 / snr)).params["t2"])
        # 4000 voxels: standard error of the median 0.8 % at the lowest SNR
        assert abs(found / t2 - 1) < 0.025, (t2, snr)
        if (t2, snr) == (0.08, lowest):
            plain = fit_map(images, TIMES, model=T2, magnitude=True).params["t2"]
            assert np.nanmedian(plain) / t2 - 1 > before


def test_clean_magnitudes_are_fitted_as_they_are():
    t2 = np.linspace(0.03, 0.2, 50, dtype=np.float32)
    images = 700 * np.exp(-TIMES[:, None] / t2).astype(np.float32)
    found = fit_magnitudes(images, TIMES, model=T2, noise=1e-3)
    np.testing.assert_allclose(found.params["t2"], t2, rtol=1e-5)
    assert (found.status == FitStatus.CONVERGED).all()
    assert float(found.residual.max()) < 1e-2


def test_voxels_keep_their_status_and_samples_of_no_weight_are_not_read():
    images = np.ones((8, 4), np.float32) * np.float32(np.exp(-TIMES / 0.08))[:, None]
    images[:, 1] = 0
    images[2, 2] = -1
    images[3, 3] = np.nan
    found = fit_magnitudes(images, TIMES, model=T2, noise=0.01)
    converged, nothing, wrong = (
        FitStatus.CONVERGED,
        FitStatus.NO_SIGNAL,
        FitStatus.INVALID,
    )
    assert found.status.tolist() == [converged, nothing, wrong, wrong]
    weights = np.isfinite(images) & (images >= 0)
    found = fit_magnitudes(
        images, TIMES, model=T2, noise=0.01, weights=weights.astype(np.float32)
    )
    assert found.status.tolist() == [converged, nothing, converged, converged]
    np.testing.assert_allclose(found.params["t2"][3], 0.08, rtol=5e-3)


def test_signs_after_an_inversion_are_found_above_the_floor():
    model = signal_model("t1_ir3")
    times = np.array([0.05, 0.2, 0.45, 0.8, 1.4, 2.2, 3.5, 5.0])
    rng = np.random.default_rng(1)
    parts = rng.normal(0, 0.1, (2, 8, 1500))
    parts[0] += (1 - 2 * np.exp(-times / 1.1))[:, None]
    images = np.float32(np.hypot(*parts))
    found = fit_magnitudes(images, times, model=model, noise=0.1)
    # standard error of the median 0.7 %
    assert abs(np.nanmedian(found.params["t1"]) / 1.1 - 1) < 0.02


def test_derivatives_are_finite_and_a_number_of_coils_is_checked():
    images = magnitudes(0.08, 20, 1)[:, :5]

    def total(x, s):
        return fit_magnitudes(x, TIMES, model=T2, noise=s).params["t2"].sum()

    by_image, by_noise = jax.grad(total, (0, 1))(images, jnp.float32(0.05))
    assert np.isfinite(by_image).all() and np.isfinite(by_noise)
    with pytest.raises(ValueError, match="coils: expected an integer from 1 to 64"):
        fit_magnitudes(images, TIMES, model=T2, noise=0.05, coils=0)


def test_noise_that_is_not_above_0_is_refused_or_not_fitted():
    images = np.exp(-TIMES / 0.08)[:, None].astype(np.float32)
    with pytest.raises(ValueError, match="fit_magnitudes: noise: expected .* above 0"):
        fit_magnitudes(images, TIMES, model=T2, noise=0.0)
    with pytest.raises(ValueError, match="expected_magnitude: noise: .* found -1.0"):
        expected_magnitude(jnp.ones(3), noise=-1.0)
    found = fit_magnitudes(images, TIMES, model=T2, noise=jnp.zeros(1))
    assert found.status.tolist() == [FitStatus.TOO_FEW]


def test_second_derivatives_are_right_where_there_is_no_signal():
    """E m is even in A: at 0 they are the limit of those beside it."""
    for coils in (1, 2):

        def mean(size, coils=coils):
            return expected_magnitude(size, noise=jnp.float32(1), coils=coils)

        bend = jax.grad(jax.grad(mean))
        np.testing.assert_allclose(bend(0.0), bend(1e-3), rtol=1e-4)


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 3)])
def test_weights_of_all_voxels_or_of_each(shape):
    images = magnitudes(0.08, 20, 1)[:, :3]
    options = {"model": T2, "noise": 0.05}
    given = fit_magnitudes(images, TIMES, weights=jnp.ones(shape), **options)
    plain = fit_magnitudes(images, TIMES, **options)
    np.testing.assert_allclose(given.params["t2"], plain.params["t2"], rtol=1e-6)


def test_another_call_is_no_other_compilation():
    images = magnitudes(0.08, 20, 1)[:, :3]
    fit_magnitudes(images, TIMES, model=T2, noise=0.05)
    programs = _fit_magnitudes._cache_size()
    fit_magnitudes(images + 1e-3, 1.1 * TIMES, model=T2, noise=0.04)
    assert _fit_magnitudes._cache_size() == programs


def test_derivatives_are_differences_of_fits():
    """By the magnitudes and the noise together, at an SNR of 5."""
    times = 0.02 * np.arange(1.0, 5)
    noise = np.random.default_rng(5).normal(0, 0.2, (3, 4))
    start = np.hypot(np.exp(-times / 0.06) + noise[0], noise[1])

    def along(step):
        images = jnp.array(start) + step * jnp.array(0.1 * noise[2])
        level = 0.2 * jnp.exp(step)
        return fit_magnitudes(images, times, model=T2, noise=level).params["t2"]

    # central differences of a step of 1e-5: their error is of the order 1e-9
    expected = (along(1e-5) - along(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(along)(0.0), expected, rtol=1e-6)


@pytest.mark.slow
def test_second_derivatives_are_differences_of_first_ones():
    """Through all six fits, five of them in a loop."""
    times = 0.02 * np.arange(1.0, 5)
    rng = np.random.default_rng(0)
    way, bend = jnp.array(0.1 * rng.normal(size=4)), jnp.array(rng.normal(size=4))
    start = jnp.array(np.exp(-times / 0.06) + rng.normal(0, 0.03, 4))

    def along(step):
        images = jnp.abs(start + step * way + step**2 * bend)
        return fit_magnitudes(images, times, model=T2, noise=0.08).params["t2"]

    slope = jax.jit(jax.grad(along))
    found = jax.jit(lambda s: jax.jvp(slope, (s,), (1.0,))[1])(0.0)
    near, far = (slope(s * 1e-4) - slope(-s * 1e-4) for s in (1, 2))
    np.testing.assert_allclose(found, (8 * near - far) / 12e-4, rtol=1e-7)


def test_voxels_without_a_fit_have_no_derivative():
    times = 0.02 * np.arange(1.0, 5)
    good = np.exp(-times / 0.06)
    # and one whose T2 is the bound
    images = np.stack([good, np.nan * good, 0 * good, -good, np.ones(4)], axis=1)

    def total(images):
        fit = fit_magnitudes(images, times, model=T2, noise=0.1)
        return jnp.nansum(fit.params["t2"])

    found = np.asarray(jax.grad(total)(jnp.array(images)))
    assert np.all(np.isfinite(found)) and np.all(found[:, 1:] == 0)
    assert np.all(found[:, 0] != 0)
