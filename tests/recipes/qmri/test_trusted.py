"""What is said against a voxel, and lines that are held out as lines."""

import jax.numpy as jnp
import numpy as np

from medjax.mri.fit import FitResult, FitStatus
from medjax.mri.posterior import PosteriorFit
from medjax.recipes.qmri.trusted import (
    REASONS,
    Distrust,
    distrust,
    empty_trusted,
    line_mask,
    with_posterior,
)

BOUNDS = (0.01, 2.0)


def case(**changes):
    """One sound voxel of 80 ms, and as many others as a change has."""
    size = max((len(x) for x in changes.values()), default=1)
    voxels = {"median": 0.08, "low": 0.07, "high": 0.09, "residual": 0.1, "u": 0.1}
    voxels = {k: jnp.full((size,), x, jnp.float32) for k, x in voxels.items()}
    voxels |= {k: jnp.asarray(x, jnp.float32) for k, x in changes.items()}
    value, low, high, residual, u = voxels.values()
    status = jnp.zeros((size,), jnp.int8)
    maps = FitResult({"t2": value}, {"t2": u}, residual, value, status)
    ends = jnp.stack([low, high])
    fit = PosteriorFit(value, value, value, ends, value, jnp.zeros((size,), jnp.int32))
    return maps, fit, jnp.ones((size,), bool), u


def test_each_reason_is_named_and_the_first_one_counts():
    maps, fit, bright, u = case(
        median=[0.08, 0.08, np.nan, 0.022, 1.5, 0.08, 0.08],
        low=[0.07, 0.07, np.nan, 0.02, 1.0, 0.03, 0.07],
        high=[0.09, 0.09, np.nan, 0.024, 2.0, 0.13, 0.09],
        residual=[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.31],
    )
    bright = bright.at[1].set(False)
    found = distrust(maps, fit, bright, u, bounds=BOUNDS)
    expected = [0, 1, 2, 3, 3, 4, 5]
    assert found.tolist() == expected and found.dtype == jnp.uint8
    assert set(expected) == {int(code) for code in Distrust} == set(REASONS)


def test_the_map_is_the_median_and_a_voxel_without_one_has_failed():
    maps, fit, _, _ = case(median=[0.08, np.nan])
    status = jnp.array([0, int(FitStatus.INVALID)], jnp.int32)
    found = with_posterior(maps, fit._replace(status=status), "t2")
    np.testing.assert_array_equal(found.params["t2"], fit.median)
    assert found.status.tolist() == [0, int(FitStatus.INVALID)]
    assert found.status.dtype == maps.status.dtype


def test_whole_columns_are_lines_and_points_stay_points():
    rng = np.random.default_rng(0)
    columns = rng.random((2, 3, 1, 8)) < 0.5
    full = np.broadcast_to(columns, (2, 3, 6, 8))
    np.testing.assert_array_equal(line_mask(full), columns)
    np.testing.assert_array_equal(line_mask(columns), columns)
    points = rng.random((3, 6, 8)) < 0.5
    assert line_mask(points) is points


def test_a_slice_without_signal_has_nothing_to_trust():
    found = empty_trusted((4, 5), 8)
    assert np.isnan(found.low).all() and found.low.shape == (4, 5)
    assert (found.distrust == Distrust.NO_SIGNAL).all()
    assert found.replicas.shape == (8, 4, 5)
    assert empty_trusted((4, 5), 0).replicas is None
