import numpy as np
import pytest
from scipy import ndimage

from medjax.data.qmri.brains import build_template, slice_height
from medjax.data.qmri.relaxation import TISSUES
from medjax.data.qmri.rendering import pixel_axes, render_slice, sample_maps
from medjax.data.qmri.subjects import draw_subject
from tests.data.qmri.toy_head import FIELD, TEMPLATE


def subject(number=0, lesion_share=1.0):
    return draw_subject(
        TEMPLATE, seed=1, number=number, lesion_share=lesion_share, time_spread=0.0
    )


def render(number=0, *, size=64, field=FIELD, z=4.0, lesion_share=1.0):
    one = subject(number, lesion_share)
    return render_slice(TEMPLATE, one, z, size=size, field=field)


def part(brain, name):
    return brain.mixture.fractions[TISSUES.index(name)]


def test_same_subject_same_bytes():
    first, second, other = render(), render(), render(1)
    for a, b in zip(first.mixture, second.mixture, strict=True):
        np.testing.assert_array_equal(a, b)
    difference = np.abs(first.mixture.fractions - other.mixture.fractions)
    assert difference.sum(axis=0)[first.roi].mean() > 0.1


def test_fractions_are_fractions():
    for number in range(3):
        for index in range(0, len(TEMPLATE.slices), 5):
            brain = render(number, z=slice_height(TEMPLATE, index))
            fractions = brain.mixture.fractions
            assert fractions.dtype == np.float32
            assert fractions.min() >= 0
            assert fractions.sum(axis=0).max() <= 1 + 1e-6  # rounding of float32
            np.testing.assert_array_equal(brain.roi, fractions.sum(axis=0) > 0.5)
            assert 0.2 < brain.roi.mean() < 0.5


def test_borders_are_partial_volumes():
    """Sharp tissue, and at its borders pixels of two tissues, not one or the other."""
    white = part(render(size=64), "wm")
    assert ((white > 0.95) | (white < 0.05)).mean() > 0.8
    mixed = (white > 0.2) & (white < 0.8)
    assert 0.02 < mixed.mean() < 0.2


@pytest.mark.parametrize("size", [32, 64])
def test_coarse_pixels_are_means_of_fine_ones(size):
    fine = render(size=192).mixture.fractions
    rate = 192 // size
    pooled = fine.reshape(len(TISSUES), size, rate, size, rate).mean(axis=(2, 4))
    coarse = render(size=size).mixture.fractions
    # Both average the same field; only the points within a pixel differ.
    assert np.abs(pooled - coarse).max() < 0.12
    assert np.abs(pooled - coarse).mean() < 0.004


def test_neighbouring_slices_fit_together():
    near, far = (
        np.abs(part(render(z=4.0), "wm") - part(render(z=z), "wm")).mean()
        for z in (4.5, 12.0)
    )
    assert near < 0.3 * far


def test_lesions_replace_white_matter_only():
    found = 0
    for number in range(8):
        ill, well = render(number), render(number, lesion_share=0.0)
        for name in ("gm", "csf"):
            np.testing.assert_array_equal(part(ill, name), part(well, name))
        lesion, white = part(ill, "lesion"), part(well, "wm")
        assert (lesion <= white + 1e-6).all()
        np.testing.assert_allclose(part(ill, "wm") + lesion, white, atol=1e-6)
        np.testing.assert_array_equal(ill.lesion, lesion > 0.5)
        assert not well.lesion.any() and not part(well, "lesion").any()
        found += int(ill.lesion.sum())
    assert found > 5


def test_a_lesion_has_its_size():
    """One ball of 6 mm at the middle of a slab of white matter."""
    brain = np.zeros((120, 140, 80), bool)
    brain[5:115, 5:135, 5:75] = True
    white = brain * np.uint8(255)
    slab = build_template(0 * white, white, brain, voxel=1.0, slices=np.arange(30, 50))
    still = subject(0, 0.0)._replace(
        matrix=np.eye(3),
        shift=np.zeros(3),
        lesions=np.zeros((1, 3)),
        shapes=np.eye(3)[None] / 6.0,
    )
    brain_slice = render_slice(slab, still, 0.0, size=200, field=200.0)
    area = brain_slice.mixture.fractions[TISSUES.index("lesion")].sum()
    # The warp moves the slice off the middle and stretches it, by some percent.
    assert 0.7 < area / (np.pi * 36) < 1.25


def test_view_is_radiological():
    """Fluid at the right front shows at the upper left."""
    brain = np.zeros((140, 160, 60), bool)
    brain[10:130, 10:150, 5:55] = True
    white = brain * np.uint8(255)
    white[95:125, 110:145] = 0  # larger x is right, larger y is front
    marked = build_template(
        0 * white, white, brain, voxel=1.0, slices=np.arange(20, 40)
    )
    fluid = render_slice(marked, subject(0, 0.0), 0.0, size=48, field=FIELD)
    rows, columns = np.nonzero(part(fluid, "csf")[5:-5, 5:-5] > 0.9)
    assert np.median(rows) + 5 < 20 and np.median(columns) + 5 < 20


def test_pixel_axes_are_centred():
    y, x = pixel_axes(4, 200.0)
    np.testing.assert_array_equal(y, [75.0, 25.0, -25.0, -75.0])
    np.testing.assert_array_equal(x, y)


def test_sampling_equals_scipy():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 256, (7, 8, 9, 4)).astype(np.uint8)
    points = rng.uniform(0, 1, (3, 50)) * (np.array([6, 7, 8])[:, None] - 1e-3)
    found = sample_maps(maps, points)
    for m in range(4):
        expected = ndimage.map_coordinates(
            maps[..., m].astype(np.float64), points, order=1
        )
        np.testing.assert_allclose(found[:, m], expected, rtol=1e-10)


def test_relaxation_changes_smoothly():
    brain = render(size=96)
    for times, mean in ((brain.mixture.t1, subject().t1), (brain.mixture.t2, None)):
        logs = np.log(times)
        assert 0.01 < logs.std() / 1 and np.abs(np.diff(logs, axis=1)).max() < 0.02
        if mean is not None:
            ratio = times.mean(axis=(1, 2)) / mean
            assert (np.abs(ratio - 1) < 0.05).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 8}, "size=8"),
        ({"field": 0.2}, "field=0.2"),
        ({"z": 150.0}, "no brain 150.0 mm"),
    ],
)
def test_refuses_what_shows_no_brain(change, message):
    with pytest.raises(ValueError, match=message):
        render(**change)
