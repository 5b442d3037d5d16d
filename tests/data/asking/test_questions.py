"""Questions of a command line: a text, a file with one a line, lines about images."""

import json
from pathlib import Path

import pytest

from medjax.data.asking.questions import by_image, read_questions
from medjax.data.images import ImageFile


def test_a_question_is_itself_in_one_spelling():
    assert read_questions(" Cafe\u0301? ").everywhere == ("Caf\u00e9?",)
    assert read_questions("Is this the end.").named == ()


def test_a_text_file_has_one_a_line_and_each_once(tmp_path):
    path = tmp_path / "ask.txt"
    path.write_bytes(
        "\ufeffFind the disc.\r\n\n  Find the cross.\nFind the disc.\n".encode()
    )
    assert read_questions(str(path)).everywhere == ("Find the disc.", "Find the cross.")


@pytest.mark.parametrize(
    "content, piece",
    [
        ("", "ask.txt: no questions"),
        ("\n \n", "ask.txt: no questions"),
        (
            "ok\nFind <|image_pad|>.",
            "ask.txt, line 2: the question .* token of prompts",
        ),
        ("ok\na\x00b", "ask.txt, line 2: .*U\\+0000"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, content, piece):
    path = tmp_path / "ask.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=piece):
        read_questions(str(path))


@pytest.mark.parametrize("name", ["ask.txt", "ask.jsonl", "ask.csv", "ask.JSON"])
def test_a_file_that_is_not_there_is_no_question(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="no such file; expected a question"):
        read_questions(str(tmp_path / name))


@pytest.mark.parametrize("name", ["ask.csv", "ask.json", "ask.md"])
def test_a_file_of_another_kind_is_not_read_as_questions(tmp_path, name):
    path = tmp_path / name
    path.write_text("image,query\na.png,Find the disc.\n")
    with pytest.raises(ValueError, match="are not read; expected a text file"):
        read_questions(str(path))


def test_an_empty_question_is_refused():
    with pytest.raises(ValueError, match="--ask: the question is"):
        read_questions("  ")


def lines(path, *rows):
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in rows))
    return str(path)


def test_lines_about_images(tmp_path):
    volume = {"path": "b.nii.gz", "frame": 1, "plane": "axial"}
    path = lines(
        tmp_path / "ask.jsonl",
        {"image": "a.png", "query": "Find it."},
        {"image": volume, "query": "Find it."},
        {"image": "a.png", "query": "And that?", "box": [1, 2, 3, 4]},
        {"image": "a.png", "query": "Find it."},
    )
    slices = [ImageFile(Path("in/b.nii.gz"), n, "axial") for n in range(2)]
    images = [ImageFile(Path("in/a.png")), *slices, ImageFile(Path("in/c.png"))]
    found = by_image(read_questions(path), images, Path("in"))
    assert found == {images[0]: ("Find it.", "And that?"), slices[1]: ("Find it.",)}
    everywhere = read_questions("Find it.")
    assert by_image(everywhere, images, Path("in")) == dict.fromkeys(
        images, ("Find it.",)
    )


@pytest.mark.parametrize(
    "row, piece",
    [
        ({"image": "a.png"}, "ask.jsonl, line 2: no query"),
        ({"query": "Find it."}, "ask.jsonl, line 2: no image"),
        ({"image": "a.png", "query": None}, "ask.jsonl, line 2: query is"),
        ('{"image": "a.png"', "ask.jsonl, line 2"),
        ({"image": {"path": "a.png", "page": 1}, "query": "?"}, "line 2: image"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, row, piece):
    path = lines(tmp_path / "ask.jsonl", {"image": "a.png", "query": "Find it."}, row)
    with pytest.raises(ValueError, match=piece):
        read_questions(path)


@pytest.mark.parametrize(
    "image, piece",
    [
        ("z.png", "line 1: no image z.png in --input"),
        ({"path": "a.png", "frame": 0}, "a.png holds one image"),
        ("b.nii.gz", "holds 2 images in the plane 'axial'"),
        ({"path": "b.nii.gz", "frame": 2, "plane": "axial"}, "frame from 0 to 1"),
        ({"path": "b.nii.gz", "frame": 1, "plane": "coronal"}, "the plane 'axial'"),
    ],
)
def test_a_line_about_an_image_that_is_not_there(tmp_path, image, piece):
    path = lines(tmp_path / "ask.jsonl", {"image": image, "query": "Find it."})
    slices = [ImageFile(Path("in/b.nii.gz"), n, "axial") for n in range(2)]
    with pytest.raises(ValueError, match=piece):
        by_image(
            read_questions(path), [ImageFile(Path("in/a.png")), *slices], Path("in")
        )
