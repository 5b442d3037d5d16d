"""Slices made ready and fitted in slabs, each under its own index."""

from pathlib import Path

import jax
import numpy as np
import pytest

from medjax.data.scans.formats import Scan, ScanSlice
from medjax.mri.catalogue import signal_model
from medjax.mri.fit import FitResult, FitStatus, fit_map
from medjax.mri.sense import sense_adjoint, sense_forward
from medjax.recipes.qmri.evidence import Fitted, empty_maps, empty_slice
from medjax.recipes.qmri.slabs import (
    fitted_slices,
    image_unit,
    make_slab,
    prepare_slice,
)
from tests.recipes.puq_smoke import toy_slices
from tests.recipes.qmri.phase_phantoms import (
    INSIDE,
    coils,
    echoes,
    measure,
    object_phase,
    recoveries,
)

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


def test_a_slice_that_lacks_lines_is_named_where_none_may():
    kspace, sens = measure(echoes()[0])[0], coils().astype(np.complex64)

    def read(index):
        mask = np.ones((len(kspace), 1, kspace.shape[-1]), bool)
        mask[..., 1] = index != 3
        return ScanSlice(kspace=kspace * mask[:, None], mask=mask, sens=sens)

    found = scan([1] * 5)._replace(kind="kspace", shape=kspace.shape[-2:], read=read)
    fits = fitted_slices(found, none_fitted, signal_model("t2"), None, 5, whole=True)
    with pytest.raises(ValueError, match=r"a.h5, slice 3: 2 % of k-space is not"):
        list(fits)


def none_fitted(batch):
    raise AssertionError(f"{batch.sample_id} were fitted")


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
        maps = FitResult(each, each, image, image, np.zeros(image.shape, np.int8))
        sums = empty_slice(model, SHAPE, 3).sums
        sums = jax.tree.map(lambda x: np.broadcast_to(x, (slab, *x.shape)), sums)
        none = np.zeros(slab, np.int32)
        return Fitted(maps, image > 0, sums, none, none, np.zeros((slab, 3, 2)))

    found = list(fitted_slices(scan(levels), compute, model, None, slab))
    assert seen == [2, 3, 5, 7]  # and no slab is computed that is empty
    for index, (one, level) in enumerate(zip(found, levels, strict=True)):
        maps = one.maps
        assert (maps.status == (0 if level else FitStatus.NO_SIGNAL)).all()
        expected = level + index if level else np.nan
        np.testing.assert_array_equal(maps.params["t2"], np.full(SHAPE, expected))


def measured_slices(**options):
    kspace, target, sens, roi = toy_slices(**options)
    mask = (kspace != 0).any(axis=(2, 3))[:, :, None]
    return (
        [
            ScanSlice(kspace=k, mask=m, sens=s)
            for k, m, s in zip(kspace, mask, sens, strict=True)
        ],
        target,
        roi,
    )


def test_noise_is_whitened_and_the_maps_stay_normalised():
    (first, *_), _, _ = measured_slices()
    rng = np.random.default_rng(0)
    mix = np.array([[1, 0.5, 0], [0, 1, 0.3j], [0, 0, 2]])
    white = rng.normal(size=(3, 4000)) + 1j * rng.normal(size=(3, 4000))
    found = prepare_slice(
        first._replace(noise=(mix @ white).astype(np.complex64)), positive=0
    )
    power = (np.abs(found.sens) ** 2).sum(axis=0)
    np.testing.assert_allclose(power, 1, atol=1e-4)
    # whitening must not change what the images look like, but by a smooth scale
    image, plain = (
        np.abs(np.asarray(sense_adjoint(x.kspace, x.sens))[0]) for x in (found, first)
    )
    scale = image[plain > 0.3] / plain[plain > 0.3]
    assert scale.std() / scale.mean() < 0.4


def test_estimated_coils_make_real_positive_first_contrasts():
    kspace, target, _, roi = toy_slices(phase=0.7, limit=1)
    full = ScanSlice(kspace=kspace[0], mask=(kspace[0] != 0).any((1, 2))[:, None])
    found = prepare_slice(full, positive=0)
    assert np.isfinite(found.sens).all()
    image = np.asarray(sense_adjoint(found.kspace, found.sens))[0]
    bright = roi[0] & (np.abs(target[0, 0]) > 0.3)
    assert (image.real[bright] > 0).mean() > 0.98


def test_slabs_have_one_size():
    found, _, _ = measured_slices()
    slab = make_slab({4: found[1], 6: found[0]}, 3)
    assert slab.kspace.shape[0] == 3 and slab.valid.tolist() == [True, True, False]
    assert slab.sample_id.tolist() == [4, 6, 6]
    np.testing.assert_array_equal(slab.kspace[2], found[0].kspace)
    pictures = [ScanSlice(images=np.ones((4, 6, 5), np.float32))] * 2
    slab = make_slab(dict(enumerate(pictures)), 2)
    assert slab.target.shape == (2, 4, 6, 5)


def test_masks_of_lines_and_points_share_a_slab():
    found, _, _ = measured_slices()
    points = np.broadcast_to(found[1].mask, (4, 32, 32)).copy()
    mixed = [found[0], found[1]._replace(mask=points)]
    assert make_slab(dict(enumerate(mixed)), 2).mask.shape == (2, 4, 32, 32)


def test_whitened_images_have_a_known_unit():
    """Of given coils, the unit that whitening took away, pixel by pixel."""
    (first, *_), target, roi = measured_slices(limit=1)
    rng = np.random.default_rng(0)
    mix = 7 * np.array([[1, 0.5, 0], [0, 1, 0.3j], [0, 0, 2]])
    white = rng.normal(size=(3, 4000)) + 1j * rng.normal(size=(3, 4000))
    full = np.asarray(
        sense_forward(target[0].astype(np.complex64), first.sens), np.complex64
    )
    noisy = ScanSlice(
        kspace=full,
        mask=np.ones((4, 1, 32), bool),
        sens=first.sens,
        noise=(mix @ white).astype(np.complex64),
    )
    found = prepare_slice(noisy, positive=None)
    image = np.asarray(sense_adjoint(found.kspace, found.sens)).real
    inside = roi[0] & (target[0] > 0.05).all(0)
    image = (image_unit(noisy, found) * image)[:, inside]
    np.testing.assert_allclose(image, target[0][:, inside], rtol=1e-3)
    assert image_unit(first, found) == 1


@pytest.mark.parametrize("noise", [np.zeros((3, 99)), np.ones((3, 99))])
def test_noise_of_a_singular_covariance_is_refused(noise):
    (first, *_), _, _ = measured_slices(limit=1)
    with pytest.raises(ValueError, match="noise: the coils' covariance is singular"):
        prepare_slice(first._replace(noise=noise.astype(np.complex64)), positive=None)


def test_a_thin_centre_leaves_given_sensitivities_alone():
    (first, *_), _, _ = measured_slices(limit=1)
    for columns in (slice(14, 18), slice(16, 17)):
        mask = np.array(first.mask)
        mask[..., 10:22], mask[..., columns] = False, True
        thin = first._replace(kspace=first.kspace * mask[:, None], mask=mask)
        found = prepare_slice(thin, positive=None)
        np.testing.assert_array_equal(found.sens, first.sens)
    mask[..., 16] = False
    found = prepare_slice(first._replace(mask=mask), positive=None)
    np.testing.assert_array_equal(found.sens, first.sens)
    with pytest.raises(ValueError, match="centre is 0 x 0.*Give them in the file"):
        prepare_slice(first._replace(mask=mask, sens=None), positive=None)


@pytest.mark.parametrize("scale", [1e-12, 1e15])
def test_estimated_sensitivities_do_not_depend_on_the_unit(scale):
    (first, *_), _, _ = measured_slices(limit=1)
    first = first._replace(sens=None)
    found, scaled = (
        prepare_slice(first._replace(kspace=first.kspace * np.complex64(c)), positive=0)
        for c in (1, scale)
    )
    np.testing.assert_allclose(scaled.sens, found.sens, atol=1e-4)


@pytest.mark.parametrize("snr", [60, 20, 10, 5])
@pytest.mark.parametrize("contrast", ["t2", "t1"])
def test_estimated_coils_are_as_good_as_true_ones_in_noise(contrast, snr):
    """Below SNR 40 patches of noise were kept, and half of the signal was lost."""
    images, _ = echoes() if contrast == "t2" else recoveries(efficiency=0.9)
    kspace = measure(images, snr=snr, centre=24)[0]
    mask = np.ones((8, 1, kspace.shape[-1]), bool)
    measured = ScanSlice(kspace=kspace, mask=mask)
    positive = 0 if contrast == "t2" else None
    found = prepare_slice(measured, positive=positive)
    true = (coils() * np.exp(1j * object_phase())).astype(np.complex64)
    wrong = []
    for sens in (true, np.asarray(found.sens)):
        combined = np.asarray(sense_adjoint(kspace, sens, mask))
        left = np.abs(combined.real) - np.abs(images)
        wrong.append(np.sqrt(np.mean(left[:, INSIDE] ** 2)))
    assert wrong[0] == pytest.approx(1 / snr, rel=0.15)
    assert wrong[1] < 1.1 * wrong[0]
