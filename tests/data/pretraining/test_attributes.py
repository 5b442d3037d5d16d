"""What the reasoning tells is measured from the picture and the box."""

import numpy as np
import pytest

from medjax.data.pretraining.attributes import all_reasons, measured_reason

WHERE = {"plane": "axial", "modality": "CT"}


def test_place_size_and_tone_are_told():
    image = np.zeros((90, 90), np.uint8)
    image[60:90, 0:30] = 255
    image[0:8, 82:90] = 120
    told = measured_reason(image, (0, 60, 30, 90), "liver", **WHERE)
    assert told == "axial CT; liver: lower left, large, bright"
    told = measured_reason(image, (82, 0, 90, 8), "aorta", **WHERE)
    assert told == "axial CT; aorta: upper right, small, grey"
    told = measured_reason(image, (40, 40, 52, 52), "x", **WHERE)
    assert told == "axial CT; x: central middle, medium, dark"


def test_a_box_outside_is_refused():
    with pytest.raises(ValueError, match="aorta: expected a box with pixels"):
        measured_reason(np.zeros((9, 9), np.uint8), (9, 0, 12, 4), "aorta", **WHERE)


def test_every_reason_is_listed():
    rng = np.random.default_rng(0)
    known = set(all_reasons(("a", "b"), planes=("axial", "sagittal"), modality="CT"))
    assert len(known) == 2 * 2 * 81
    for _ in range(300):
        x, y = rng.integers(0, 40, 2)
        w, h = rng.integers(1, 10, 2)
        image = np.full((50, 50), rng.integers(256), np.uint8)
        told = measured_reason(image, (x, y, x + w, y + h), "b", **WHERE)
        assert told in known
