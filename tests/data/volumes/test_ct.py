"""The chest CT: windows, resampling, labels; the real scan where it can be had."""

import numpy as np
import pytest

from medjax.data.volumes.atlas import PLANES, piece_mask, slice_image
from medjax.data.volumes.ct import (
    ORGANS,
    body_mask,
    close_gaps,
    label_names,
    load_ct,
    resample_labels,
    resample_volume,
    select_organs,
    window_image,
)


def test_window():
    grey = window_image(np.array([-2048.0, -160, 42, 240, 3000]), level=40, width=400)
    assert grey.dtype == np.uint8 and grey.tolist() == [0, 0, 129, 255, 255]


def test_resampling_keeps_places_and_linear_ramps():
    x, y, z = np.indices((20, 24, 10), np.float32) + 0.5
    spacing, target = (0.5, 0.5, 2.0), 1.0
    volume = x * 0.5 + 2 * y * 0.5 + 3 * z * 2.0  # in mm
    made = resample_volume(volume, spacing, target)
    assert made.shape == (10, 12, 20)
    i, j, k = np.indices(made.shape) + 0.5
    inner = (slice(1, -1),) * 3
    assert np.allclose(made[inner], (i + 2 * j + 3 * k)[inner], atol=1e-4)


def test_labels_follow_the_volume():
    labels = np.zeros((20, 24, 10), np.uint8)
    labels[4:12, 6:20, 3:7] = 7
    made = resample_labels(labels, (0.5, 0.5, 2.0), 1.0)
    assert made.shape == (10, 12, 20) and set(np.unique(made)) == {0, 7}
    found = np.argwhere(made == 7)
    assert found.min(axis=0).tolist() == [2, 3, 6]
    assert found.max(axis=0).tolist() == [5, 9, 13]


def test_a_single_slice_is_repeated():
    volume = np.full((4, 4, 1), 5.0, np.float32)
    assert (resample_volume(volume, (1.0, 1.0, 3.0), 1.0) == 5).all()


def test_gaps_between_vertebrae_are_closed_and_others_kept():
    labels = np.zeros((6, 6, 30), np.uint8)
    labels[2:4, 2:4, 2:8], labels[2:4, 2:4, 12:20] = 3, 4
    labels[2, 2, 9] = 9  # another structure in the disc
    closed = close_gaps(labels, [3, 4], reach=3)
    assert (closed[3, 3, 2:20] > 0).all() and closed[2, 2, 9] == 9
    assert not closed[3, 3, 20:].any() and not closed[0].any()
    assert np.array_equal(close_gaps(labels, [8], reach=3), labels)


def test_body_is_the_largest_piece_with_its_holes():
    hounsfield = np.full((40, 40, 2), -1000.0)
    hounsfield[5:30, 5:30] = 40
    hounsfield[10:20, 10:20] = -900  # a lung
    hounsfield[34:38, 5:30, 0] = 100  # the table
    mask = body_mask(hounsfield)
    assert mask[15, 15].all() and mask[6, 6].all()
    assert not mask[35, 15].any() and not mask[32, 32].any()
    assert not body_mask(np.full((8, 8, 1), -1000.0)).any()


def test_label_names(tmp_path):
    table = tmp_path / "structures.csv"
    table.write_text("group,original_idx,structure,id\norgans,1,spleen,1\n,,liver,5\n")
    assert label_names(table) == {1: "spleen", 5: "liver"}


def test_the_real_scan():
    try:
        atlas = load_ct()
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")
    assert atlas.volume.shape == (288, 288, 266) and atlas.spacing == 1.25
    assert atlas.names == tuple(organ.name for organ in ORGANS)

    def middle(name, plane):
        rows = atlas.structure == atlas.names.index(name)
        rows &= atlas.plane[atlas.slice_of] == PLANES.index(plane)
        boxes = atlas.boxes[rows]
        return np.median((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0)

    # radiological view: the liver at the picture's left, the spleen at its right;
    # the spine at the back, below the heart in an axial picture
    assert middle("liver", "axial")[0] < middle("spleen", "axial")[0]
    assert middle("right lung", "coronal")[0] < middle("left lung", "coronal")[0]
    assert middle("heart", "axial")[1] < middle("spine", "axial")[1]
    assert middle("heart", "coronal")[1] < middle("left kidney", "coronal")[1]
    # black lungs, bright aorta
    for name, low, high in (("left lung", 0, 40), ("aorta", 200, 255)):
        rows = np.flatnonzero(atlas.structure == atlas.names.index(name))
        pair = int(rows[atlas.plane[atlas.slice_of[rows]] == 0][20])
        x1, y1, x2, y2 = atlas.boxes[pair].tolist()
        position = int(atlas.position[atlas.slice_of[pair]])
        grey = slice_image(atlas.volume, "axial", position)[y1:y2, x1:x2]
        assert low <= np.median(grey[piece_mask(atlas, pair)]) <= high, name


def test_select_organs():
    assert select_organs("all") == tuple(organ.name for organ in ORGANS)
    assert select_organs(("liver", "heart")) == ("liver", "heart")
    for wrong in ("organs", ("liver", "nose")):
        with pytest.raises(ValueError, match="expected 'all', or some of heart, aorta"):
            select_organs(wrong)
