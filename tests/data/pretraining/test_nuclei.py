"""Crops of nuclei: inside their strip, each name its box, nothing ambiguous."""

import numpy as np
import pytest

from medjax.data.pretraining.looks import Changes
from medjax.data.pretraining.nuclei import NAMES, nuclei_views, read_field
from tests.data.toy_atlas import LOOK

CHANGES = Changes(0.0, (0.9, 1.1), 0.0, 0.0, 0.0, 0.0, 0.0)


def make_field():
    """Squares 4 to 12 pixels wide on a grid of 16, greys by their number."""
    labels = np.zeros((160, 400), np.int32)
    image = np.zeros(labels.shape, np.uint8)
    rng, n = np.random.default_rng(0), 0
    for top in range(2, 150, 16):
        for left in range(2, 390, 16):
            n += 1
            side = int(rng.integers(4, 13))
            here = np.s_[top : top + side, left : left + side]
            labels[here], image[here] = n, 40 + int(rng.integers(200))
    labels[0, 0] = n + 1  # at the edge: cut off
    return read_field(image, labels), image


FIELD, IMAGE = make_field()


def make_views(changes=CHANGES, side=56.0):
    return nuclei_views(FIELD, LOOK, changes, side=side, count=40)


def all_views(views):
    return [views.view(n, np.random.default_rng(n)) for n in range(views.count)]


def test_a_nucleus_at_the_edge_is_left_out():
    assert len(FIELD.boxes) == 250
    assert FIELD.boxes.min() >= 2


def test_names_are_what_they_say():
    for view in all_views(make_views()):
        grey = view.images[0][..., 0]
        boxes = dict(zip(view.names, view.boxes, strict=True))
        assert set(boxes) <= set(NAMES) and boxes
        area = {name: np.prod(b[2:] - b[:2]) for name, b in boxes.items()}
        if {"largest whole nucleus", "smallest whole nucleus"} <= set(area):
            assert area["largest whole nucleus"] > area["smallest whole nucleus"]
        for name, box in boxes.items():
            x1, y1, x2, y2 = box.astype(int)
            assert grey[y1:y2, x1:x2].mean() > 0.7 * grey[y1:y2, x1:x2].max() > 0
            others = [b for b in boxes.values() if not np.array_equal(b, box)]
            if name == "leftmost whole nucleus":
                assert all(x1 <= other[0] for other in others)
            if name == "lowest whole nucleus":
                assert all(y2 >= other[3] for other in others)


def test_parts_share_no_pixel():
    """Columns are painted: what a crop shows says where it was cut."""
    columns = np.tile(np.linspace(0, 255, 400), (160, 1)).astype(np.uint8)
    field = FIELD._replace(image=columns)
    for changes, low, high in ((CHANGES, 0.2, 0.8), (None, 0.8, 1.0)):
        views = nuclei_views(field, LOOK, changes, side=40.0, count=60)
        # Without the rim, which blends with the black beyond the image.
        shown = np.array([v.images[0][3:-3, 3:-3] for v in all_views(views)])
        assert 255 * low - 1 <= shown.min() and shown.max() <= 255 * high + 1


def test_crops_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at most 76"):
        make_views(changes=None, side=90.0)
    with pytest.raises(ValueError, match="show no nucleus to ask for"):
        make_views(side=5.0).view(0, np.random.default_rng(0))
