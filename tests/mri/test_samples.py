"""What a fit makes of its samples before it looks for a rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri import catalogue
from medjax.mri.samples import FitStatus, prepare_samples

TIMES = jnp.array([0.01, 0.03, 0.1])
LIMITS = (jnp.asarray(-2.0), jnp.asarray(7.0))
prepare = jax.jit(prepare_samples, static_argnames=("model", "magnitude"))


def run(images, weights=None, magnitude=False):
    weights = None if weights is None else jnp.asarray(weights)
    images = jnp.asarray(images)
    options = {"model": catalogue.T2, "magnitude": magnitude}
    return prepare(images, TIMES, weights, LIMITS, **options)


def test_samples_and_weights_are_scaled_to_one():
    images = np.array([[4.0, -2e-9], [2.0, 1e-9], [1.0, 0.0]])
    weights = np.array([9.0, 36.0, 0.0])
    found = run(images, weights)
    np.testing.assert_allclose(found.scale, [4.0, 2e-9])
    np.testing.assert_allclose(found.root_scale, 6.0)
    np.testing.assert_allclose(found.data.roots, [0.5, 1.0, 0.0])
    expected = np.array([[0.5, -0.5], [0.5, 0.5], [0, 0]])
    np.testing.assert_allclose(found.data.channels[0], expected)
    np.testing.assert_array_equal(found.count, 2)
    np.testing.assert_array_equal(found.freedom, 0)
    np.testing.assert_array_equal(found.status, 0)


def test_complex_samples_count_twice():
    images = np.array([[3 + 4j], [1 - 2j], [0.5j]])
    found = run(images)
    np.testing.assert_allclose(found.scale, 4.0)  # the largest part
    np.testing.assert_allclose(found.data.channels[1][1], [-0.5])
    np.testing.assert_array_equal(found.freedom, 6 - 3)


@pytest.mark.parametrize(
    ("voxel", "weight", "status"),
    [
        ((1.0, np.nan, 1.0), (1, 1, 1), FitStatus.INVALID),
        ((1.0, np.nan, 1.0), (1, 0, 1), 0),
        ((1.0, 2.0, 1.0), (1, np.inf, 1), FitStatus.INVALID),
        ((1.0, 2.0, 1.0), (1, -1, 1), FitStatus.INVALID),
        ((0.0, 0.0, 0.0), (1, 1, 1), FitStatus.NO_SIGNAL),
        ((0.0, 0.0, 5.0), (1, 1, 0), FitStatus.NO_SIGNAL),
        ((1.0, 2.0, 1.0), (1, 0, 0), FitStatus.TOO_FEW),
        ((1.0, 2.0, -1.0), (1, 1, 1), 0),
    ],
)
def test_status_of_a_voxel(voxel, weight, status):
    images = np.array([voxel, (3.0, 2.0, 1.0)]).T
    weights = np.array([weight, (1, 1, 1)], float).T
    found = run(images, weights)
    assert [int(s) for s in found.status] == [status, 0]
    numbers = jax.tree.leaves((found.data, found.scale, found.root_scale))
    assert all(np.all(np.isfinite(x)) for x in numbers)


def test_magnitudes_are_not_negative():
    images = np.array([[1.0, 1.0], [2.0, 2.0], [1.0, -1.0]])
    found = run(images, magnitude=True)
    assert [int(s) for s in found.status] == [0, FitStatus.INVALID]
