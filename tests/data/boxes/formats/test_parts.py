"""Published folders as both parts of a run."""

import pytest

from medjax.data.boxes.slices import Look
from medjax.data.boxes.sources import load_parts
from medjax.data.lists.parts import HeldOut
from medjax.data.lists.reading import Reading
from medjax.data.prompting.layout import Geometry
from tests.data import folders

GEOMETRY = Geometry(7, 2, 2, 28, 28 * 28, 56 * 56)


def load(path, reading, **changes):
    return load_parts(
        str(path),
        look=Look((56, 56), 84.0, 4, phrasings=1),
        split="moved",
        held=HeldOut(0.3, seed=0)._replace(**changes),
        geometry=GEOMETRY,
        reading=reading,
    )


def values(parts, part, column):
    return {one.groups[column] for one in parts.samples if one.part == part}


def test_lesions_and_patients_lie_in_one_part(tmp_path):
    ham = load(folders.ham10000(tmp_path / "ham"), Reading())
    tested = values(ham, "test", "lesion_id")
    assert len(tested) == 4 and not tested & values(ham, "train", "lesion_id")
    assert ham.test.count == 8 and ham.train.count == 16
    nih = folders.nih(tmp_path / "nih", patients=4)
    official, own = load(nih, Reading()), load(nih, Reading(official=False))
    assert values(official, "test", "patient") == {"4"}
    assert not values(own, "test", "patient") & values(own, "train", "patient")


def test_official_parts_and_a_validation_of_tn3k(tmp_path):
    folders.tn3k(tmp_path)
    parts, chosen = load(tmp_path, Reading()), load(tmp_path, Reading(), tested="val")
    assert (parts.train.count, parts.test.count) == (8, 4)
    assert (chosen.train.count, chosen.test.count) == (8, 3)


def test_readers_of_vindr_are_counted_and_the_test_is_a_consensus(tmp_path):
    folders.vindr(tmp_path)
    reading = Reading(answers="set", readers="majority")
    parts = load(tmp_path, reading)
    assert (parts.train.count, parts.test.count) == (6, 3)
    assert sorted(len(one.boxes) for one in parts.samples) == [0] * 3 + [1] * 6
    with pytest.raises(ValueError, match="expected data.readers to say whose word"):
        load(tmp_path, reading._replace(readers=""))


def test_lines_without_their_image_are_counted_where_wanted(tmp_path):
    folders.ham10000(tmp_path)
    (tmp_path / "HAM10000_images_part_1" / "ISIC_0024306.jpg").unlink()
    with pytest.raises(ValueError, match="no image ISIC_0024306"):
        load(tmp_path, Reading())
    parts = load(tmp_path, Reading(on_bad="drop"))
    assert len(parts.samples) == 23
    assert ["ISIC_0024306" in one.message for one in parts.dropped] == [True]


def test_boxes_of_nih_do_not_fit_smaller_copies(tmp_path):
    folders.nih(tmp_path, patients=4, size=(64, 64))
    with pytest.raises(ValueError, match=r"size \[1024, 1024\] is declared, but"):
        load(tmp_path, Reading())
