"""Which files answers are about."""

import pytest

from medjax.data.asking.pictures import Asked
from medjax.data.images import ImageFile
from medjax.recipes.policy.predicted import (
    PICTURES,
    Place,
    check_pictures,
    note_pictures,
)


@pytest.fixture
def asked(tmp_path):
    """Three files by bare names, the last with two frames."""
    for name in "abc":
        (tmp_path / name).write_text(f"picture {name}")
    frames = [("a", None), ("b", None), ("c", 0), ("c", 1)]
    return [
        Asked(ImageFile(tmp_path / name, frame), name, (8, 8), ("What?",))
        for name, frame in frames
    ]


def places(asked):
    return [Place(one.name, one.image.frame, "", "What?") for one in asked]


def test_a_file_is_noted_once_and_found_again(tmp_path, asked):
    assert check_pictures(tmp_path, asked, []) == {}
    known = note_pictures(tmp_path, asked[:3], {})
    known = note_pictures(tmp_path, asked, known)
    assert sorted(known) == ["a", "b", "c"]
    assert len((tmp_path / PICTURES).read_text().splitlines()) == 3
    assert check_pictures(tmp_path, asked, places(asked)) == known


def test_another_file_of_the_name_is_refused_where_it_was_answered(tmp_path, asked):
    note_pictures(tmp_path, asked, {})
    (tmp_path / "b").write_text("the next patient")
    check_pictures(tmp_path, asked, places(asked[:1]))  # b failed, and was mended
    with pytest.raises(ValueError, match="1 files of the same names .* first is b"):
        check_pictures(tmp_path, asked, places(asked))


def test_a_line_cut_short_is_taken_out(tmp_path, asked):
    note_pictures(tmp_path, asked, {})
    path = tmp_path / PICTURES
    path.write_text(path.read_text()[:-5])
    known = check_pictures(tmp_path, asked, places(asked))
    assert sorted(known) == ["a", "b"]
    assert sorted(note_pictures(tmp_path, asked, known)) == ["a", "b", "c"]
    assert sorted(check_pictures(tmp_path, asked, [])) == ["a", "b", "c"]
