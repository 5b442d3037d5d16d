import numpy as np
import pytest

from medjax.data.boxes.synthetic import NAMES, shape_pictures, synthetic_views


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


def test_pictures_of_one_shape():
    options = {"count": 80, "size": (56, 64), "part": "train"}
    kinds = shape_pictures(**options, ask_size=False)
    sizes = shape_pictures(**options, ask_size=True)
    assert np.bincount(kinds.labels[:, 0]).tolist() == [10] * 8
    assert np.bincount(sizes.labels[:, 0]).tolist() == [16] * 5
    for n in range(0, 80, 3):
        picture = kinds.picture(n, np.random.default_rng(n))
        same = sizes.picture(n, np.random.default_rng(n))
        assert np.array_equal(picture.image, same.image)
        tone = picture.image[..., 0].astype(int)
        dark = kinds.labels[n, 0] < 4
        inside = tone < 84 if dark else tone > 180
        rows, columns = (np.flatnonzero(inside.sum(axis=a) > 1) for a in (1, 0))
        side = max(np.ptp(rows), np.ptp(columns)) + 1
        share = 1 + 4 * np.array([0, 1]) / 5 + 4 * sizes.labels[n, 0] / 5
        low, high = share / 6 * 56
        assert low - 3 <= side <= high + 1
