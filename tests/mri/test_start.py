"""Grid, log-linear line and Newton steps, one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri import catalogue, signals
from medjax.mri.start import log_linear_rate, refine_rate, search_rate
from medjax.mri.varpro import Weighted

TIMES = np.array([0.01, 0.03, 0.06, 0.1, 0.15])
BOUNDS = (jnp.log(1 / 10.0), jnp.log(1 / 0.001))


def weighted(images, roots):
    return Weighted([list(jnp.asarray(roots * images))], list(roots), list(TIMES))


def data(voxels=40, noise=0.02):
    rng = np.random.default_rng(0)
    t2 = rng.uniform(0.02, 0.3, voxels)
    images = np.asarray(signals.signal_t2(1.0, t2, TIMES))
    images = images + noise * rng.standard_normal(images.shape)
    return t2, images, rng.uniform(0.5, 1.5, images.shape)


def dense_minimum(images, roots):
    """Best log R of 200,000, by NumPy."""
    grid = np.linspace(*map(float, BOUNDS), 200_000)
    basis = np.exp(-TIMES[:, None] * np.exp(grid))
    best = []
    for y, root in zip(images.T, roots.T, strict=True):
        phi = root[:, None] * basis
        best.append(grid[np.argmax((phi.T @ (root * y)) ** 2 / np.sum(phi**2, axis=0))])
    return np.array(best)


@pytest.fixture(scope="module")
def searched():
    _, images, roots = data()
    find = jax.jit(lambda d: search_rate(catalogue.T2, d, BOUNDS, points=24))
    return images, roots, find(weighted(images, roots))


def test_grid_and_parabola_come_close(searched):
    images, roots, start = searched
    error = np.abs(np.asarray(start) - dense_minimum(images, roots))
    assert error.max() < 0.1  # a quarter of the spacing


def test_newton_ends_at_the_minimum(searched):
    images, roots, start = searched
    refine = jax.jit(
        lambda u, d: refine_rate(
            catalogue.T2, d, u, BOUNDS, radius=jnp.asarray(0.6), iterations=4
        )
    )
    found = refine(start, weighted(images, roots))
    # The dense grid's spacing is 5e-5.
    np.testing.assert_allclose(found, dense_minimum(images, roots), atol=3e-5)


def test_newton_stays_within_its_radius(searched):
    images, roots, start = searched
    far = start + 2.0
    found = refine_rate(
        catalogue.T2,
        weighted(images, roots),
        far,
        BOUNDS,
        radius=jnp.asarray(0.5),
        iterations=3,
    )
    assert np.all(np.abs(found - far) <= 0.5)


def test_line_equals_polyfit():
    _, images, roots = data(noise=0.001)
    found = jax.jit(log_linear_rate)(weighted(images, roots), BOUNDS)
    for i in range(images.shape[1]):
        y = images[:, i]
        slope = np.polyfit(TIMES, np.log(np.abs(y)), 1, w=roots[:, i] * np.abs(y))[0]
        expected = np.clip(-slope, *np.exp(BOUNDS))
        np.testing.assert_allclose(np.exp(found[i]), expected, rtol=1e-9)


def test_line_that_does_not_fall_starts_at_the_bound():
    images = np.stack([np.linspace(0.1, 1, 5), np.full(5, 0.3)], axis=1)
    found = log_linear_rate(weighted(images, np.ones_like(images)), BOUNDS)
    np.testing.assert_allclose(found, BOUNDS[0], rtol=1e-12)
