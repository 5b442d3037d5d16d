"""Crops and graded slices of the toy head: places, labels, splits, balance."""

import numpy as np
import pytest

from medjax.data.classes.pictures import (
    PictureLook,
    balance_pictures,
    class_counts,
    crop_pictures,
    grade_pictures,
    labelled_pictures,
)
from medjax.data.volumes.atlas import PLANES
from medjax.data.volumes.splits import split_slices
from tests.data.toy_classes import make_pictures

LOOK = PictureLook((40, 40), 20.0, 1.5, 0.0, 0.0, (1.0, 1.0))
MEMBERS = {
    f"{side} {name}": n
    for n, name in enumerate(("thalamus", "insula", "putamen"))
    for side in ("left", "right")
}
TONES = (120 + 10 * 1, 120 + 10 * 3, 120 + 10 * 5)  # toy_atlas: 120 + 10 * number


def crops(atlas, part="train", **changes):
    return crop_pictures(atlas, MEMBERS, part=part, look=LOOK._replace(**changes))


def test_a_crop_is_centred_on_its_structure(atlas):
    pictures = crops(atlas)
    assert pictures.sizes == ((40, 40),) and pictures.planes == PLANES
    for index in range(0, pictures.count, 5):
        picture = pictures.picture(index, np.random.default_rng(0))
        label, plane = pictures.labels[index]
        assert picture.plane == PLANES[plane - 3]
        position = int(picture.origin.split()[1])
        assert picture.origin == f"{picture.plane} {position}"
        assert picture.group == f"{picture.plane} block {position // 8}"
        grey = picture.image[18:22, 18:22].astype(int)
        assert (picture.image == picture.image[..., :1]).all()
        # either side's tone, which is brighter than the brain's 90
        assert min(abs(np.median(grey) - TONES[label] - 10 * s) for s in (0, 1)) <= 3


def test_a_crop_shows_its_margin(atlas):
    near, far = crops(atlas, margin=1.0, field=1.0), crops(atlas, margin=3.0)
    one, two = (
        p.picture(3, np.random.default_rng(0)).image[..., 0] for p in (near, far)
    )
    label = near.labels[3, 0]
    inside = [
        (np.abs(p.astype(int) - TONES[label] - 5) <= 8).mean() for p in (one, two)
    ]
    assert inside[0] > 4 * inside[1]


def test_parts_share_no_slice_and_keep_their_distance(atlas):
    train, test = crops(atlas), crops(atlas, "test")
    slices = [
        {p.picture(n, np.random.default_rng(0)).origin for n in range(p.count)}
        for p in (train, test)
    ]
    assert not slices[0] & slices[1]
    for name in slices[1]:
        plane, position = name.split()
        for near in (-2, -1, 1, 2):
            assert f"{plane} {int(position) + near}" not in slices[0]


@pytest.mark.parametrize("kind", ["crops", "grades"])
def test_settings_are_chosen_without_the_test(atlas, kind):
    plane, position = np.zeros(60, np.int32), np.arange(60, dtype=np.int32)

    def shown(part, tested):
        look = LOOK._replace(tested=tested, field=80.0)
        pictures = (
            crops(atlas, part, tested=tested)
            if kind == "crops"
            else grade_pictures(atlas, plane, plane, position, part=part, look=look)
        )
        return {
            pictures.picture(n, np.random.default_rng(0)).origin
            for n in range(pictures.count)
        }

    train, chosen_on = shown("train", "val"), shown("test", "val")
    assert train and chosen_on and not train & chosen_on
    assert train | chosen_on < shown("train", "test")


def test_small_ends_of_structures_are_left_out(atlas):
    assert crops(atlas, least=0.8).count < crops(atlas, least=0.3).count
    assert crops(atlas, least=0.3).count < crops(atlas).count


def test_draws_move_and_mirror_training_and_fix_the_test(atlas):
    moving = {"shift": 0.2, "scale": (0.7, 1.4), "mirror": True}
    train, test = crops(atlas, **moving), crops(atlas, "test", **moving, test_draws=3)
    images = [train.picture(0, np.random.default_rng(s)).image for s in range(8)]
    assert len({image.tobytes() for image in images}) == 8
    once, again = (test.picture(4, np.random.default_rng(4)).image for _ in range(2))
    assert np.array_equal(once, again)
    assert test.count == 3 * crops(atlas, "test").count
    assert len({test.picture(n, np.random.default_rng(0)).group for n in range(3)}) == 1
    assert (test.labels[:3] == test.labels[0]).all()


def test_mirroring_flips_some(atlas):
    plain, flipped = crops(atlas), crops(atlas, mirror=True)
    same = []
    for seed in range(20):
        one, two = (
            p.picture(0, np.random.default_rng(seed)).image for p in (plain, flipped)
        )
        assert np.array_equal(one, two) or np.array_equal(one[:, ::-1], two)
        same.append(np.array_equal(one, two))
    assert 0 < sum(same) < 20


def test_graded_slices(atlas):
    plane, position = np.zeros(60, np.int32), np.arange(60, dtype=np.int32)
    grades = (position // 20).astype(np.int32)
    whole = LOOK._replace(field=80.0)
    for part, index in (("train", 0), ("test", 1)):
        pictures = grade_pictures(atlas, grades, plane, position, part=part, look=whole)
        kept = position[split_slices(position) == index]
        assert pictures.labels[:, 0].tolist() == (kept // 20).tolist()
        shown = pictures.picture(0, np.random.default_rng(0))
        assert shown.origin == f"axial {kept[0]}" and shown.image.shape == (40, 40, 3)


def test_what_is_refused(atlas):
    with pytest.raises(ValueError, match="part='val'"):
        crops(atlas, "val")
    with pytest.raises(ValueError, match="none of the structures"):
        crop_pictures(atlas, {"left nose": 0}, part="train", look=LOOK)
    none = np.zeros(0, np.int32)
    with pytest.raises(ValueError, match="train: no slice of 0"):
        grade_pictures(atlas, none, none, none, part="train", look=LOOK)


def test_balanced_classes():
    pictures = make_pictures(count=10, questions=1)  # 4, 3, 3
    assert class_counts(pictures, 5).tolist() == [4, 3, 3, 0, 0]
    even = balance_pictures(pictures)
    assert class_counts(even, 5).tolist() == [4, 4, 4, 0, 0] and even.count == 12
    for index in range(12):
        n = even.picture(index, np.random.default_rng(0)).columns["n"]
        assert n % 3 == even.labels[index, 0]


def test_some_pictures_are_labelled():
    pictures = make_pictures(count=10)
    some = labelled_pictures(pictures, 4, seed=0)
    assert some.count == len(some.labels) == 4 and some.sizes == pictures.sizes
    shown = [some.picture(n, np.random.default_rng(5)) for n in range(4)]
    numbers = [picture.columns["n"] for picture in shown]
    assert numbers == sorted(set(numbers))
    np.testing.assert_array_equal(some.labels, pictures.labels[numbers])
    for picture, number in zip(shown, numbers, strict=True):
        whole = pictures.picture(number, np.random.default_rng(5))
        np.testing.assert_array_equal(picture.image, whole.image)
    drawn = {labelled_pictures(pictures, 4, seed=n).labels.tobytes() for n in range(9)}
    assert len(drawn) > 1
    with pytest.raises(ValueError, match="labelled=11: expected 1 to 10"):
        labelled_pictures(pictures, 11, seed=0)
