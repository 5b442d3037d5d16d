"""Slices fitted in slabs: each under its own index, empty ones without being fitted."""

from pathlib import Path

import jax
import numpy as np
import pytest

from medjax.data.scans.formats import Scan, ScanSlice
from medjax.mri.fit import FitResult, FitStatus, fit_map
from medjax.mri.signals import signal_model
from medjax.recipes.qmri.slabs import empty_maps, fitted_slices

SHAPE = (4, 5)


def scan(levels):
    """Images whose value is their slice's level."""

    def read(index):
        return ScanSlice(images=np.full((3, *SHAPE), levels[index], np.float32))

    times = np.array([0.01, 0.03, 0.1])
    size = (len(levels), SHAPE, (1, 1, 1), np.eye(4))
    return Scan(Path("a.h5"), "images", "t2", times, *size, read)


@pytest.mark.parametrize("name", ["t2", "t2_offset", "t1_ir", "t1_ir3"])
def test_empty_maps_are_those_of_a_fit_to_zeros(name):
    model = signal_model(name)
    times = np.array([0.01, 0.1, 0.5, 1.0, 3.0])
    fitted = fit_map(np.zeros((5, *SHAPE), np.float32), times, model=model)
    found = empty_maps(model, SHAPE)
    assert jax.tree.structure(found) == jax.tree.structure(fitted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(fitted), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("slab", [1, 2, 3, 8])
def test_slices_keep_their_places_and_draws(slab):
    model = signal_model("t2")
    levels = [0, 0, 3, 4, 0, 6, 0, 8]
    seen = []

    def compute(batch):
        assert batch.target.shape[0] == slab
        seen.extend(batch.sample_id[batch.valid].tolist())
        image = batch.target[:, 0]
        each = {"s0": image, "t2": image + batch.sample_id[:, None, None]}
        return FitResult(each, each, image, image, np.zeros(image.shape, np.int8))

    found = list(fitted_slices(scan(levels), compute, model, None, slab))
    assert seen == [2, 3, 5, 7]  # and no slab is computed that is empty
    for index, (maps, level) in enumerate(zip(found, levels, strict=True)):
        assert (maps.status == (0 if level else FitStatus.NO_SIGNAL)).all()
        expected = level + index if level else np.nan
        np.testing.assert_array_equal(maps.params["t2"], np.full(SHAPE, expected))
