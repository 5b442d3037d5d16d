"""Figures of answers: from the file of answers, by names that no two share."""

import json

import numpy as np
import pytest
from PIL import Image

from medjax.data.asking.pictures import find_pictures
from medjax.data.asking.questions import read_questions
from medjax.data.lists.reading import PLAIN
from medjax.recipes.policy.overlays import draw_overlays
from medjax.recipes.policy.predicted import place_of
from medjax.report import predictions

BOX = {"boxes": [[2.0, 3.0, 20.0, 15.0]], "confidence": [0.876], "labels": []}
NONE = {"boxes": [], "confidence": [], "labels": []}
UNREAD = {"boxes": None, "confidence": None, "labels": [], "parsed": False}
CLASS = {"label": "a, b", "labels": ["a", "b"], "confidence": 0.5, "parsed": True}
NO_CLASS = {"label": "none", "labels": [], "confidence": 0.25, "parsed": True}


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A function (names, rows, most) -> what was drawn, and the files."""
    seen, plain = [], predictions.draw_prediction

    def draw(image, **told):
        seen.append(told | {"image": image})
        return plain(image, **told)

    monkeypatch.setattr(predictions, "draw_prediction", draw)

    def run(names, rows, most):
        source, out = tmp_path / "in", tmp_path / "out"
        source.mkdir()
        out.mkdir()
        for n, name in enumerate(names):
            Image.new("L", (30, 20), 40 * (n + 1)).save(source / name)
        asked, _ = find_pictures(
            str(source), read_questions("What?"), plane="axial", reading=PLAIN,
            identify=False,
        )  # fmt: skip
        same = {"query": "What?", "why": ""}
        lines = [json.dumps(same | row) for row in rows]
        (out / "answers.jsonl").write_text("".join(f"{x}\n" for x in lines))
        draw_overlays(out, asked, most)
        return seen, sorted(p.name for p in out.glob("overlays/*"))

    return run


def test_what_stands_below_says_what_was_answered(drawn):
    rows = [BOX, NONE, UNREAD | {"why": "no <answer>..</answer>"}, CLASS, NO_CLASS]
    names = [f"{n}.png" for n in range(len(rows))]
    seen, files = drawn(
        names, [{"image": n} | r for n, r in zip(names, rows, strict=True)], 9
    )
    assert len(files) == 5
    assert [told["said"] for told in seen] == [
        "", "says that there is none", "no <answer>..</answer>", "a, b, 0.50",
        "none, 0.25",
    ]  # fmt: skip
    assert seen[0]["notes"] == ("0.88",) and seen[2]["boxes"] is None
    np.testing.assert_array_equal(seen[0]["boxes"], BOX["boxes"])
    levels = [int(told["image"].max()) for told in seen]
    assert levels == [40, 80, 120, 160, 200]  # each in its own picture


def test_names_that_differ_in_a_blank_have_figures_of_their_own(drawn):
    names = ["a b.png", "a_b.png"]
    _, files = drawn(names, [{"image": name} | BOX for name in names], 9)
    assert len(files) == 2 and all(name.startswith("a_b.png_") for name in files)


@pytest.mark.parametrize(("most", "count"), [(0, 0), (1, 1), (-1, 0)])
def test_no_more_are_drawn_than_are_asked_for(drawn, most, count):
    names = ["a.png", "b.png"]
    _, files = drawn(names, [{"image": name} | BOX for name in names], most)
    assert len(files) == count


@pytest.mark.parametrize("line", ['{"query": "x"}', '{"image": "a.png"}', "[]", "{"])
def test_a_line_that_names_no_question_has_no_place(line):
    with pytest.raises((ValueError, LookupError, TypeError)):
        place_of(line)
