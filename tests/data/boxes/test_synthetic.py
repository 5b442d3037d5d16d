import numpy as np
import pytest

from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.volumes.shapes import NAMES


def make(part="train", size=(56, 70)):
    return synthetic_views(count=5, size=size, part=part, num_phrasings=2)


def draw(views, index, seed=0):
    return views.view(index, np.random.default_rng((seed, index)))


def test_boxes_are_tight_round_shapes_of_their_tone():
    for index in range(5):
        view = draw(make(), index)
        image = view.images[0][..., 0].astype(int)
        assert view.images[0].shape == (56, 70, 3) and len(set(view.names)) == 4
        for name, box in zip(view.names, view.boxes.astype(int), strict=True):
            x1, y1, x2, y2 = box
            sign = 1 if name.startswith("bright") else -1
            shape = sign * (image - 128) > 55
            for edge in (shape[y1:y2, x1], shape[y1:y2, x2 - 1]):
                assert edge.any()
            for edge in (shape[y1, x1:x2], shape[y2 - 1, x1:x2]):
                assert edge.any()
            assert shape[y1:y2, x1:x2].mean() > 0.3


def test_equal_draws_are_equal_and_parts_differ():
    first, again = draw(make(), 2), draw(make(), 2)
    np.testing.assert_array_equal(first.images[0], again.images[0])
    assert first.names == again.names
    others = (make("test"), 0), (make("val"), 0), (make(), 1)
    for other in (draw(views, 2, seed) for views, seed in others):
        assert not np.array_equal(first.images[0], other.images[0])


def test_names_and_texts():
    views = make()
    assert views.names == NAMES and len(views.texts) == 2 * len(NAMES)
    view = draw(views, 0)
    assert {text for texts in view.questions for text in texts} <= set(views.texts)


@pytest.mark.parametrize(
    ("part", "size", "message"),
    [("all", (56, 56), "'all'"), ("train", (16, 56), "32 pixels")],
)
def test_bad_arguments(part, size, message):
    with pytest.raises(ValueError, match=message):
        make(part, size)
