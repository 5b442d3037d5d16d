"""Shares of slices and their grades; the ventricles of the template."""

import numpy as np
import pytest

from medjax.data.volumes.anatomy import Structure
from medjax.data.volumes.atlas import PLANES
from medjax.data.volumes.shares import (
    find_ventricles,
    grade_values,
    label_mask,
    load_ventricle_shares,
    measure_slices,
)


def test_shares_against_a_loop():
    rng = np.random.default_rng(0)
    measured, whole = (
        rng.random((2, 5, 6, 7)) < np.array([0.4, 0.7])[:, None, None, None]
    )
    whole[:, :, 0] = False
    whole[0, 0, 1] = True
    shares = measure_slices(measured, whole, least=0.2)
    expected = []
    for p, axis in enumerate((2, 1, 0)):
        areas = [np.take(whole, i, axis).sum() for i in range(whole.shape[axis])]
        for i, area in enumerate(areas):
            if area >= max(0.2 * max(areas), 1):
                part = (np.take(measured, i, axis) & np.take(whole, i, axis)).sum()
                expected.append((p, i, part / area))
    assert np.allclose(np.stack(shares, axis=-1), expected)
    assert not ((shares.plane == 0) & (shares.position == 0)).any()
    assert shares.plane.dtype == shares.position.dtype == np.int32


def test_grades_share_the_training_part_equally():
    values = np.random.default_rng(1).random(1000)
    train = np.arange(1000) < 500
    grades, cuts = grade_values(values, train, grades=5, zero=None)
    assert np.bincount(grades[train]).tolist() == [100] * 5 and len(cuts) == 4
    assert (np.diff(grades[np.argsort(values)]) >= 0).all()
    # the test part has no say
    other, same = grade_values(np.where(train, values, 9), train, grades=5, zero=None)
    assert np.array_equal(cuts, same) and (other[~train] == 4).all()


def test_grade_zero_is_for_what_is_not_there():
    values = np.concatenate([np.zeros(300), np.linspace(0.1, 1, 400)])
    grades, _ = grade_values(values, np.ones(700, bool), grades=5, zero=0.0)
    assert np.bincount(grades).tolist() == [300, 100, 100, 100, 100]


def test_grades_that_cannot_be_told_apart():
    with pytest.raises(ValueError, match="5 grades of 10 training values"):
        grade_values(np.ones(10), np.ones(10, bool), grades=5, zero=None)


def test_ventricles_are_the_largest_deep_space():
    inside = np.zeros((40, 40, 40), bool)
    inside[2:38, 2:38, 2:38] = True
    tissue = np.where(inside, 1.0, 0.0)
    tissue[17:23, 17:23, 14:26] = 0  # the ventricle
    tissue[28:31, 17:20, 17:20] = 0  # smaller
    tissue[2:12, 10:30, 10:30] = 0  # larger, but at the surface
    found = find_ventricles(tissue, inside, depth=5)
    assert found[20, 20, 20] and not found[29, 18, 18] and not found[5, 20, 20]
    assert 0.5 * 6 * 6 * 12 < found.sum() <= 6 * 6 * 12
    with pytest.raises(ValueError, match="no fluid space lies 5 voxels inside"):
        find_ventricles(np.ones_like(tissue), inside, depth=5)


def test_label_mask():
    names = {1: "a", 2: "b", 5: "c"}
    labels = np.array([0, 1, 2, 5], np.uint8)
    structures = (Structure("x", ("a",)), Structure("y", ("c",)))
    assert label_mask(labels, names, structures).tolist() == [False, True, False, True]


def test_the_real_ventricles():
    try:
        shares = load_ventricle_shares()
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")
    axial = shares.plane == PLANES.index("axial")
    seen = shares.position[axial & (shares.share > 0)]
    # lateral ventricles lie between 0 and 30 mm above the commissures (z = 72 is 0)
    assert 66 <= seen.min() and seen.max() <= 104 and len(seen) > 25
    assert 0.005 < shares.share.max() < 0.06
