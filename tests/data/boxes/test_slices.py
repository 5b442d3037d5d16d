import numpy as np
import pytest

from medjax.data.boxes.slices import held_out
from medjax.data.volumes.anatomy import STRUCTURES, UNIONS, other_side
from tests.data.toy_atlas import GEOMETRY, LOOK, mr_views, structure_names

NAMES = tuple(s.name for s in STRUCTURES)


def views(atlas, split, part, look=LOOK, **change):
    options = {"structures": structure_names(atlas), "seed": 0, **change}
    return mr_views(atlas, split=split, part=part, look=look, **options)


def draw(source, index, *seed):
    return source.view(index, np.random.default_rng(seed or (0, index)))


def origins(source):
    return {draw(source, i).origin for i in range(source.count)}


@pytest.mark.parametrize("split", ["slices", "moved", "structure"])
def test_no_slice_is_in_both_parts(atlas, split):
    train, test = (origins(views(atlas, split, part)) for part in ("train", "test"))
    assert train and test and not train & test


def test_slices_are_the_same_at_every_draw_and_moved_ones_are_not(atlas):
    still, moved = (views(atlas, split, "train") for split in ("slices", "moved"))
    first, second = draw(still, 3, 1), draw(still, 3, 2)
    np.testing.assert_array_equal(first.images[0], second.images[0])
    np.testing.assert_array_equal(first.boxes, second.boxes)
    first, second = draw(moved, 3, 1), draw(moved, 3, 2)
    assert not np.array_equal(first.images[0], second.images[0])
    again = draw(moved, 3, 1)
    np.testing.assert_array_equal(first.images[0], again.images[0])
    np.testing.assert_array_equal(first.boxes, again.boxes)


def test_boxes_are_whole_inside_and_large_enough(atlas):
    for split in ("slices", "moved"):
        source = views(atlas, split, "train")
        for index in range(0, source.count, 5):
            view = draw(source, index)
            assert view.images[0].shape == (70, 70, 3)
            assert len(view.names) == len(view.boxes) == len(view.questions) > 0
            assert (view.boxes == np.round(view.boxes)).all()
            assert view.boxes.min() >= 0 and view.boxes.max() <= 70
            assert (view.boxes[:, 2:] - view.boxes[:, :2]).min() >= LOOK.min_side


def test_box_is_where_the_structure_is(atlas):
    """The toy head's structures have grey values of their own."""
    source = views(atlas, "moved", "test")
    for index in range(source.count):
        view = draw(source, index)
        for name, box in zip(view.names, view.boxes.astype(int), strict=True):
            x1, y1, x2, y2 = box
            inside = view.images[0][y1:y2, x1:x2, 0]
            assert np.median(inside) > 100, (view.origin, name)


def test_right_is_at_the_left_of_the_picture(atlas):
    source = views(atlas, "slices", "train")
    for index in range(source.count):
        view = draw(source, index)
        if view.plane != "sagittal":
            for name, box in zip(view.names, view.boxes, strict=True):
                assert (box[0] + box[2] < 70) == name.startswith("right")


def test_mirrored_views_exchange_names(atlas):
    """A structure stays on its side of the picture; unexchanged names would not."""
    plain = views(atlas, "slices", "train")
    source = views(atlas, "slices", "train", LOOK._replace(mirror=True))
    seen = 0
    for index in range(source.count):
        view, other = draw(source, index), draw(plain, index)
        if "mirrored" not in view.origin:
            continue
        seen += 1
        assert view.names == tuple(other_side(name) for name in other.names)
        assert all(
            name in text
            for name, texts in zip(view.names, view.questions, strict=True)
            for text in texts
        )
        if view.plane == "sagittal":
            np.testing.assert_array_equal(view.images[0], other.images[0])
            continue
        np.testing.assert_array_equal(view.images[0], other.images[0][:, ::-1])
        for name, box in zip(view.names, view.boxes, strict=True):
            assert (box[0] + box[2] < 70) == name.startswith("right")
        x1, y1, x2, y2 = view.boxes[0].astype(int)
        mirrored = other.images[0][y1:y2, 70 - x2 : 70 - x1][:, ::-1]
        np.testing.assert_array_equal(view.images[0][y1:y2, x1:x2], mirrored)
    assert seen > source.count // 4


def test_test_views_are_never_mirrored(atlas):
    source = views(atlas, "moved", "test", LOOK._replace(mirror=True))
    assert not any("mirrored" in origin for origin in origins(source))


def test_side_split(atlas):
    train, test = (views(atlas, "side", part) for part in ("train", "test"))
    assert not set(train.names) & set(test.names)
    assert {other_side(name) for name in test.names} == set(train.names)
    for source in (train, test):
        seen = {n for i in range(source.count) for n in draw(source, i).names}
        assert seen <= set(source.names)
    assert not any(origin.startswith("sagittal") for origin in origins(test))
    held = held_out(NAMES, "side", 0)
    tested = [name for name, h in zip(NAMES, held, strict=True) if h]
    assert len(tested) == 54
    assert sum(name.startswith("left") for name in tested) == 27
    with pytest.raises(ValueError, match="mirror=False"):
        views(atlas, "side", "train", LOOK._replace(mirror=True))


def test_structure_split(atlas):
    held = held_out(NAMES, "structure", 0)
    tested = {name for name, h in zip(NAMES, held, strict=True) if h}
    assert tested == {other_side(name) for name in tested}
    bases = {min(name, other_side(name)) for name in NAMES}
    assert len({min(n, other_side(n)) for n in tested}) == len(bases) // 10
    train, test = (
        views(atlas, "structure", part, structures=atlas.names)
        for part in ("train", "test")
    )
    assert not set(train.names) & set(test.names)
    unions = {s.name for s in UNIONS}
    assert not unions & set(train.names + test.names)
    assert not held_out(NAMES, "slices", 0).any()


def test_texts_hold_every_question(atlas):
    source = views(atlas, "moved", "train")
    asked = {
        text
        for index in range(source.count)
        for texts in draw(source, index).questions
        for text in texts
    }
    assert asked <= set(source.texts)
    assert source.sizes == ((70, 70),) and GEOMETRY.factor == 14


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "random"}, "'random'.*slices"),
        ({"part": "validation"}, "validation"),
        ({"structures": "everything"}, "everything"),
        ({"look": LOOK._replace(min_side=69)}, "lower min_side"),
    ],
)
def test_bad_arguments(atlas, change, message):
    options = {"split": "moved", "part": "train", "look": LOOK, **change}
    with pytest.raises(ValueError, match=message):
        views(atlas, **options)
