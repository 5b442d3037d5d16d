import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medjax.data.volumes.frames import (
    Frame,
    centred_frame,
    frame_box,
    frame_image,
    mirror_boxes,
    moved_frame,
)


def picture(shape=(50, 60)):
    y, x = np.indices(shape)
    return (128 + 60 * np.sin(x / 6) + 60 * np.cos(y / 5)).astype(np.uint8)


def test_identity_and_whole_shifts_are_exact():
    image = picture()
    same = Frame(0.0, 0.0, 1.0, 50, 60)
    np.testing.assert_array_equal(frame_image(image, same), image)
    cut = Frame(7.0, 5.0, 1.0, 30, 20)
    np.testing.assert_array_equal(frame_image(image, cut), image[5:35, 7:27])


def test_outside_is_black():
    image = np.full((20, 20), 200, np.uint8)
    shown = frame_image(image, Frame(-10.0, 5.0, 1.0, 30, 40))
    assert (shown[:15, 10:30] == 200).all() and (shown[:, :10] == 0).all()
    assert (shown[15:] == 0).all()
    assert (frame_image(image, Frame(100.0, 100.0, 1.0, 8, 8)) == 0).all()


@given(x=st.floats(-0.1, 0.1), y=st.floats(-0.1, 0.1), scale=st.floats(0.8, 1.25))
@settings(max_examples=60, deadline=None)
def test_box_is_the_tight_box_of_the_warped_label(x, y, scale):
    """Against warping the whole label map pixel by pixel, centres to nearest."""
    label = np.zeros((60, 60), bool)
    label[25:38, 22:41] = True
    label[24, 30] = label[30, 41] = True  # spurs of one pixel
    frame = centred_frame((30, 30), field=64, size=(42, 42), shift=(x, y), scale=scale)
    warped = np.zeros((42, 42), bool)
    for i in range(42):
        for j in range(42):
            row = int(np.floor(frame.top + (i + 0.5) * frame.step))
            column = int(np.floor(frame.left + (j + 0.5) * frame.step))
            if 0 <= row < 60 and 0 <= column < 60:
                warped[i, j] = label[row, column]
    rows, columns = np.nonzero(warped)
    expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    box = (22, 24, 42, 38)
    assert frame_box(box, label[24:38, 22:42], frame) == expected


@given(x=st.floats(-0.12, 0.12), y=st.floats(-0.12, 0.12), scale=st.floats(0.8, 1.25))
@settings(max_examples=30, deadline=None)
def test_image_and_box_move_together(x, y, scale):
    """A bright block is found in the picture where the box says, to a pixel."""
    image = np.zeros((60, 60), np.uint8)
    image[20:40, 24:44] = 255
    frame = centred_frame((30, 30), field=64, size=(64, 64), shift=(x, y), scale=scale)
    box = frame_box((24, 20, 44, 40), np.ones((20, 20), bool), frame)
    rows, columns = np.nonzero(frame_image(image, frame) > 127)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.abs(np.subtract(box, seen)).max() <= 1


def test_centre_shift_and_scale():
    frame = centred_frame((30, 20), field=40, size=(80, 80))
    assert (frame.left, frame.top, frame.step) == (10, 0, 0.5)
    moved = centred_frame((30, 20), field=40, size=(80, 80), shift=(0.1, 0.0), scale=2)
    assert moved.step == 0.25
    assert np.isclose((30 - moved.left) / moved.step, 48)  # 8 pixels to the right


def test_box_that_is_cut_is_none():
    mask = np.ones((10, 10), bool)
    inside = Frame(0.0, 0.0, 1.0, 20, 20)
    assert frame_box((10, 10, 20, 20), mask, inside) == (10, 10, 20, 20)
    assert frame_box((11, 10, 21, 20), mask, inside) is None


def test_mirrored_boxes():
    boxes = np.array([[1.0, 2, 5, 9], [0, 0, 10, 1]])
    flipped = mirror_boxes(boxes, 10)
    np.testing.assert_array_equal(flipped, [[5, 2, 9, 9], [0, 0, 10, 1]])
    np.testing.assert_array_equal(mirror_boxes(flipped, 10), boxes)


def test_frames_need_no_float_luck():
    """Downsampling may skip a spur; the box then follows what is shown."""
    mask = np.ones((9, 9), bool)
    mask[:, 0] = False
    mask[0, 0] = True
    box = frame_box((0, 0, 9, 9), mask, Frame(0.0, 0.0, 3.0, 5, 5))
    assert box == pytest.approx((0, 0, 3, 3))


def test_a_moved_frame_stays_within_its_bounds():
    rng = np.random.default_rng(0)
    options = {"field": 40, "size": (80, 60), "rng": rng}
    moved = [
        moved_frame((30, 20), shift=0.1, scale=(0.8, 1.25), **options)
        for _ in range(200)
    ]
    steps = np.array([frame.step for frame in moved])
    middles = [[(30 - f.left) / f.step / 60, (20 - f.top) / f.step / 80] for f in moved]
    assert np.abs(np.array(middles) - 0.5).max() <= 0.1 + 1e-9
    assert steps.min() >= 40 / 60 / 1.25 and steps.max() <= 40 / 60 / 0.8
    assert np.ptp(np.log(steps)) > 0.4  # of 0.446


def test_a_size_that_is_kept_takes_no_draw():
    used, free = np.random.default_rng(0), np.random.default_rng(0)
    options = {"field": 40, "size": (80, 80), "shift": 0.1, "scale": None}
    assert moved_frame((30, 20), **options, rng=used).step == 0.5
    free.uniform(size=2)
    assert used.random() == free.random()
