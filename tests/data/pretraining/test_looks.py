"""Turned boxes against turned masks; greys and windows within their bounds."""

import numpy as np
import pytest

from medjax.data.pretraining.looks import (
    Changes,
    changed_greys,
    random_window,
    turned_box,
    turned_image,
)
from medjax.data.volumes.frames import Frame

STILL = Changes(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)
CHANGED = STILL._replace(invert=1.0, gamma=0.4, contrast=0.4, noise=10.0)


@pytest.mark.parametrize("degrees", [-15.0, 0.0, 7.5, 90.0])
@pytest.mark.parametrize("step", [0.8, 1.0, 1.7])
def test_a_turned_box_holds_the_turned_mask(degrees, step):
    mask = np.zeros((30, 40), bool)
    mask[4:20, 3:30] = np.random.default_rng(0).random((16, 27)) < 0.7
    image = np.zeros((120, 130), np.uint8)
    image[40:70, 50:90][mask] = 255
    centre = (66.0, 61.0)
    frame = Frame(left=5.0, top=3.0, step=step, height=150, width=150)
    box = turned_box((50, 40), mask, centre, degrees, frame)
    rows, columns = np.nonzero(turned_image(image, centre, degrees) > 100)
    low = np.array([columns.min() - 5.0, rows.min() - 3.0]) / step
    high = np.array([columns.max() + 1 - 5.0, rows.max() + 1 - 3.0]) / step
    assert np.abs(np.subtract(box, (*low, *high))).max() <= 1.0 / step + 0.5


def test_a_box_that_leaves_the_frame_is_none():
    mask = np.ones((4, 4), bool)
    frame = Frame(left=0.0, top=0.0, step=1.0, height=20, width=20)
    assert turned_box((3, 3), mask, (5.0, 5.0), 0.0, frame) == (3, 3, 7, 7)
    assert turned_box((18, 3), mask, (5.0, 5.0), 0.0, frame) is None
    assert turned_box((0, 0), mask, (5.0, 5.0), 45.0, frame) is None
    wide = frame._replace(step=100.0)
    assert turned_box((0, 0), mask, (5.0, 5.0), 0.0, wide) is None  # no pixel of it


def test_greys_change_as_they_are_told():
    image = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    same = changed_greys(image, STILL, np.random.default_rng(0), invertible=True)
    np.testing.assert_array_equal(same, image)
    order = [
        changed_greys(image, CHANGED, np.random.default_rng(3), invertible=flag)
        for flag in (False, True)
    ]
    rises = [np.corrcoef(image.ravel(), x.ravel())[0, 1] for x in order]
    assert rises[0] > 0.9 and rises[1] < -0.9


def test_windows_keep_the_lowest_level():
    values = np.linspace(-1500, 1500, 50).reshape(5, 10)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        grey = random_window(values, rng, lowest_level=-300.0)
        half = values.ravel()[np.argmin(np.abs(grey.ravel() - 127.5))]
        assert -120 <= half <= 560
    with pytest.raises(ValueError, match="lowest_level=0"):
        random_window(values, np.random.default_rng(0), lowest_level=0.0)
