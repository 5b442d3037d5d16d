import numpy as np
import pytest

from medjax.data.boxes.formats.regions import polygon_box, rle_box

COUNT = 100


def random_masks():
    """Of all sizes: rectangles, noise, single pixels, and all of the picture."""
    rng = np.random.default_rng(0)
    for n in range(COUNT):
        height, width = rng.integers(1, 40, 2)
        inside = np.zeros((height, width), np.uint8)
        y, x = rng.integers(0, (height, width))
        inside[y : y + 1 + int(rng.integers(height)), x : x + 1 + n % 9] = 1
        if n % 5 == 0:
            inside |= rng.random(inside.shape) < 0.1
        if n % 10 == 3:
            inside[:] = 1
        yield inside


def test_boxes_of_run_lengths_are_those_of_pycocotools():
    from pycocotools import mask

    for inside in random_masks():
        packed = mask.encode(np.asfortranarray(inside))
        x, y, width, height = mask.toBbox(packed).tolist()
        size = list(inside.shape)
        found = rle_box({"size": size, "counts": packed["counts"].decode()})
        assert found == (x, y, x + width, y + height)
        flat = inside.T.ravel()
        edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
        runs = [0] * int(flat[0]) + np.diff(edges).tolist()
        assert rle_box({"size": size, "counts": runs}) == found


def test_boxes_of_polygons_hold_those_of_pycocotools_pixels():
    from pycocotools import mask

    rng = np.random.default_rng(1)
    for _ in range(COUNT):
        corners = rng.uniform(2, 60, (int(rng.integers(3, 9)), 2)).ravel().tolist()
        found = polygon_box([corners])
        x, y, width, height = mask.toBbox(mask.frPyObjects([corners], 64, 64))[0]
        # Pixels count whose centres lie inside: half a pixel may stand out, and a
        # spike between centres has none.
        assert x >= found[0] - 0.5 and x + width <= found[2] + 0.5
        assert y >= found[1] - 0.5 and y + height <= found[3] + 0.5


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"counts": [1]}, "size None; expected .height, width."),
        ({"size": [2, 2], "counts": [4]}, "is empty; expected an area"),
        ({"size": [2, 2], "counts": [-1, 5]}, "expected run lengths"),
        ({"size": [2, 2], "counts": None}, "expected run lengths"),
        ({"size": [2, 2], "counts": "P" * 30}, "expected run lengths|pixels in all"),
    ],
)
def test_runs_that_are_none_are_told(shape, message):
    found = rle_box(shape)
    assert isinstance(found, str)
    with pytest.raises(ValueError, match=message):
        raise ValueError(found)
