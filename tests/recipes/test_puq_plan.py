import numpy as np

from medjax.data.scans.formats import ScanSlice
from medjax.mri.sense import sense_adjoint
from medjax.recipes.puq_plan import make_slab, prepare_slice
from tests.data.qmri.toy_head import ACQUISITION
from tests.recipes.puq_smoke import toy_slices

TIMES = ACQUISITION.protocol.times


def slices(**options):
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
    (first, *_), _, _ = slices()
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
    found, _, _ = slices()
    slab = make_slab(found[:1], 4, 3)
    assert slab.kspace.shape[0] == 3 and slab.valid.tolist() == [True, False, False]
    assert slab.sample_id.tolist() == [4, 5, 6]
    np.testing.assert_array_equal(slab.kspace[2], found[0].kspace)
    pictures = [ScanSlice(images=np.ones((4, 6, 5), np.float32))] * 2
    slab = make_slab(pictures, 0, 2)
    assert slab.target.shape == (2, 4, 6, 5)


def test_masks_of_lines_and_points_share_a_slab():
    found, _, _ = slices()
    points = np.broadcast_to(found[1].mask, (4, 32, 32)).copy()
    mixed = [found[0], found[1]._replace(mask=points)]
    assert make_slab(mixed, 0, 2).mask.shape == (2, 4, 32, 32)
