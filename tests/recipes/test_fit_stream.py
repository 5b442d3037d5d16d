"""Slabs in blocks equal the fit at once; one compilation whatever their sizes."""

import jax
import numpy as np
import pytest

from medjax.mri import fit, signal
from medjax.mri.fit import fit_map
from medjax.recipes.fit_stream import fit_slabs

TIMES = np.array([0.02, 0.05, 0.1])


def volume():
    rng = np.random.default_rng(0)
    slabs = []
    for shape in ((3, 5), (7, 9), (4,)):
        t2 = rng.uniform(0.03, 0.2, shape)
        clean = np.asarray(signal.signal_t2(1.0, t2, TIMES))
        slabs.append(clean + 0.01 * rng.standard_normal(clean.shape))
    return slabs, [rng.uniform(0.5, 2.0, y.shape) for y in slabs]


@pytest.mark.parametrize("kind", ["none", "contrast", "voxel"])
def test_equals_the_fit_of_each_slab(kind):
    slabs, each = volume()
    given = {"none": None, "contrast": np.array([1.0, 2.0, 0.5]), "voxel": each}[kind]
    before = fit._fit._cache_size()
    found = fit_slabs(iter(slabs), TIMES, model=signal.T2, weights=given, block=16)
    results = list(found)
    assert fit._fit._cache_size() == before + 1
    for i, (slab, result) in enumerate(zip(slabs, results, strict=True)):
        weights = given[i] if kind == "voxel" else given
        expected = fit_map(slab, TIMES, model=signal.T2, weights=weights)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9), result, expected
        )
        assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(result))


def test_slabs_are_read_when_they_are_asked_for():
    slabs, _ = volume()
    read = []

    def reading():
        for i, slab in enumerate(slabs):
            read.append(i)
            yield slab

    results = fit_slabs(reading(), TIMES, model=signal.T2, block=16)
    next(results)
    assert read == [0]
    next(results)
    assert read == [0, 1]


def test_weights_of_other_slabs_are_refused():
    slabs, each = volume()
    with pytest.raises(ValueError, match="shorter"):
        list(fit_slabs(slabs, TIMES, model=signal.T2, weights=each[:2], block=16))
