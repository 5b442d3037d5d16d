import numpy as np

from medjax.data.classes.shapes import shape_pictures


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
