"""The linear probe of boxes, against scikit-learn and on pictures that it can read."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from medjax.data.boxes.batches import Record
from medjax.data.boxes.probe import fit_ridge, probe_boxes, shrink_grey
from medjax.data.boxes.views import View, Views
from medjax.rl.boxes import box_iou

SIZE = (40, 60)
OPTIONS = {"side": 20, "draws": 6, "most": 1000, "penalty": 1e-3, "seed": 0}


@pytest.mark.parametrize("count", [3, 50])
def test_the_fit_is_that_of_ridge(count):
    rng = np.random.default_rng(count)
    known, asked = rng.random((count, 12)), rng.random((5, 12))
    targets = rng.random((count, 4))
    scale = (known - known.mean(axis=0)).std()
    oracle = Ridge(alpha=0.2 * count).fit(known / scale, targets)
    np.testing.assert_allclose(
        fit_ridge(known, targets, asked, penalty=0.2),
        oracle.predict(asked / scale),
        rtol=1e-8,
    )


def test_of_alike_pictures_the_mean_is_the_answer():
    targets = np.array([[0.0, 1.0], [2.0, 5.0]])
    alike = np.full((2, 9), 0.5)
    found = fit_ridge(
        alike, targets, np.random.default_rng(0).random((3, 9)), penalty=1
    )
    np.testing.assert_allclose(found, [[1, 3]] * 3)


def test_grey_is_the_mean_of_an_area():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:2, :4] = (30, 60, 90)
    np.testing.assert_allclose(shrink_grey(image, 2), [60 / 255, 0, 0, 0])


def picture(rng):
    """A bright square on black, and its box."""
    x, y = rng.integers(0, 44), rng.integers(0, 24)
    image = np.zeros((*SIZE, 3), np.uint8)
    image[y : y + 16, x : x + 16] = 200
    return image, np.array([[x, y, x + 16, y + 16]], np.float32)


def make_views(count, *, outline=None):
    def view(index, rng):
        image, boxes = picture(rng)
        return View(
            images=(image,),
            names=("square",),
            boxes=boxes,
            questions=(("Where?",),),
            origin=f"slice {index}",
            plane="axial",
            position=index,
        )

    return Views(count, view, ("square",), ("Where?",), (SIZE,), outline=outline)


def record(rng, structure="square", plane="axial"):
    image, (box,) = picture(rng)
    return Record(0, image, "Where?", structure, box, "s", 0.1, plane, 0, {})


RECORDS = [record(np.random.default_rng(n)) for n in range(30)]


def overlap(boxes, records):
    truth = np.stack([r.box for r in records])
    return np.asarray(box_iou(boxes.astype(np.float32), truth))


def test_it_finds_what_pixels_tell_and_the_mean_does_not():
    found = probe_boxes(make_views(40), RECORDS, **OPTIONS)
    mean = np.tile(np.mean([r.box for r in RECORDS], axis=0), (30, 1))
    assert overlap(found, RECORDS).mean() > 0.7 > 0.4 > overlap(mean, RECORDS).mean()
    assert np.array_equal(found, probe_boxes(make_views(40), RECORDS, **OPTIONS))


def test_answers_are_boxes_of_the_picture():
    noise = np.random.default_rng(0)
    records = [
        r._replace(image=noise.integers(0, 256, (90, 30, 3)).astype(np.uint8))
        for r in RECORDS
    ]
    found = probe_boxes(make_views(40), records, **OPTIONS | {"penalty": 1e-9})
    assert (found[:, :2] <= found[:, 2:]).all() and found.min() >= 0
    assert (found[:, 2:] <= (30, 90)).all() and (found[:, 3] == 90).any()


@pytest.mark.parametrize("name", [("disc", "axial"), ("square", "coronal")])
def test_what_training_does_not_show_gets_nothing(name):
    asked = [RECORDS[0], record(np.random.default_rng(0), *name)]
    first, second = probe_boxes(make_views(40), asked, **OPTIONS)
    assert first.any() and not second.any()


def test_only_so_many_pictures_are_read():
    views, read = make_views(40), []

    def view(index, rng):
        read.append(index)
        return views.view(index, rng)

    probe_boxes(views._replace(view=view), RECORDS, **OPTIONS | {"most": 7})
    assert len(set(read)) == 7 and len(read) == 7 * 6
    assert read != sorted(range(7)) * 6
    read.clear()  # in files, every draw is the same
    probe_boxes(views._replace(view=view, outline=lambda n: None), RECORDS, **OPTIONS)
    assert read == list(range(40))
