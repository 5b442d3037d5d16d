"""One program for all protocols of as many contrasts; slices with their own times."""

from pathlib import Path

import jax
import numpy as np
import pytest

from medjax.data.scans.formats import Scan, ScanSlice, open_scan
from medjax.mri.catalogue import signal_model
from medjax.recipes.qmri.compute import fit_kspace, fit_pictures, slab_inputs
from medjax.recipes.qmri.options import Predict
from medjax.recipes.qmri.plan import make_plan
from medjax.recipes.qmri.slabs import make_slab, prepare_slice
from medjax.recipes.sections import read_section
from medjax.systems.puq.network import Quantity
from tests.recipes.puq_smoke import sections, toy_slices

T2, BOUNDS = signal_model("t2"), (0.01, 2.0)
FIRST, SECOND = (0.0, 0.03, 0.06, 0.12), (0.01, 0.02, 0.05, 0.2)
KEY = jax.random.key(0)


def pictures(times, t2, *, slice_times=None):
    """Slices of constant T2, 5 x 4 pixels."""
    own = np.broadcast_to(times, (len(t2), 4)) if slice_times is None else slice_times

    def read(z):
        curve = np.exp(-np.asarray(own[z]) / t2[z]).astype(np.float32)
        return ScanSlice(images=np.tile(curve[:, None, None], (1, 5, 4)))

    size = (len(t2), (5, 4), (1.0, 1.0, 1.0), np.eye(4))
    scan = Scan(Path("a.nii"), "images", "t2", np.array(times), *size, read)
    return scan._replace(slice_times=slice_times)


def inputs_of(scan, indices, **more):
    slab = make_slab({z: scan.read(z) for z in indices}, len(indices))
    return slab_inputs(scan, slab, KEY, **more)


def compiled(function):
    return function._cache_size()


def test_other_times_of_images_are_no_other_program():
    options = {"model": T2, "bounds": BOUNDS, "magnitude": False}
    before = compiled(fit_pictures)
    for times in (FIRST, SECOND, FIRST[::-1]):
        scan = pictures(times, [0.05, 0.1])
        found = fit_pictures(inputs_of(scan, (0, 1)), **options).maps.params["t2"]
        expected = np.broadcast_to([[[0.05]], [[0.1]]], found.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert compiled(fit_pictures) - before == 1


@pytest.mark.parametrize("method", ["subspace", "CG-SENSE"])
def test_other_times_of_kspace_are_no_other_program(tmp_path, method):
    kspace, _, sens, _ = toy_slices(limit=1)
    chosen = sections(predict__method=method)
    options = read_section(Predict, "predict", chosen["predict"])
    before, found = compiled(fit_kspace), []
    for times in (FIRST, tuple(2 * t for t in FIRST)):
        path = tmp_path / "a.npz"
        np.savez(path, kspace=kspace, sens=sens, te=np.array(times))
        scan = open_scan(path)
        plan = make_plan(
            scan, Quantity(T2, times, BOUNDS), None, contrast="t2", options=options
        )
        slab = make_slab({0: prepare_slice(scan.read(0), positive=None)}, 1)
        inputs = slab_inputs(scan, slab, KEY, basis=plan.basis)
        found.append(np.asarray(plan.compute(inputs).maps.params["t2"]))
        assert (plan.basis is None) == (method == "CG-SENSE")
    assert compiled(fit_kspace) - before == 1
    inside = np.isfinite(found).all(0) & (found[0] > 0.02) & (found[1] < 0.9)
    ratio = (found[1] / found[0])[inside]  # the same samples, twice as late
    assert abs(np.median(ratio) - 2) < (0.2 if method == "subspace" else 1e-3)


def test_slices_have_their_own_times_and_transmit_field():
    own = np.array([FIRST, SECOND, np.multiply(FIRST, 1.5)])
    scan = pictures(FIRST, [0.05, 0.1, 0.2], slice_times=own)
    field = np.arange(60.0).reshape(3, 5, 4)
    inputs = inputs_of(scan, (2, 0), b1=field)
    np.testing.assert_allclose(inputs.times, own[[2, 0]].T, rtol=1e-6)
    np.testing.assert_array_equal(inputs.b1, field[[2, 0]])
    found = fit_pictures(inputs, model=T2, bounds=BOUNDS, magnitude=False)
    expected = np.broadcast_to([[[0.2]], [[0.05]]], found.maps.params["t2"].shape)
    np.testing.assert_allclose(found.maps.params["t2"], expected, rtol=1e-4)


def test_a_known_noise_is_that_of_all_slices_of_a_slab():
    """By slice as by slab: what samples below two noise levels are counted by."""
    options = {"model": T2, "bounds": BOUNDS, "magnitude": False}
    scan = pictures(FIRST, [0.05, 0.1, 0.3])
    both = fit_pictures(inputs_of(scan, (0, 1, 2), noise=0.2), **options)
    for z in range(3):
        alone = fit_pictures(inputs_of(scan, (z,), noise=0.2), **options)
        np.testing.assert_array_equal(alone.sums.faint[0], both.sums.faint[z])
    # exp(-t / T) < 0.4 at 60 and 120 ms of the first slice, at 120 of the second
    assert both.sums.faint.sum() == 3 * 20
