"""The report page: everything inside it, nothing unescaped, written whole."""

import ast
import base64
import json
import pathlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from medjax.report import page
from medjax.report.boxes import Overlay

PNG = b"\x89PNG\r\n\x1a\n"
TABLE = ("all <answers>", ("", "n", "mIoU"), (("policy", "10", "0.5"),))


class Tags(HTMLParser):
    """Open tags must close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def workdir(tmp_path):
    rows = [
        {"step": s, "tau": 0.3, "iou": 0.4, "loss": 0.1, "groups_effective": 3}
        for s in range(1, 9)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text)
    starts = [{"config": {"seed": 0}, "command": ["run.py"]}, {"config": {"seed": 1}}]
    (tmp_path / "manifest.json").write_text(json.dumps(starts))
    return tmp_path


def test_page_needs_no_other_file(workdir):
    image = np.zeros((8, 8, 3), np.uint8)
    answers = [Overlay(image, "Where?", np.array([1.0, 1, 4, 4]), None, 0.0)] * 4
    path = page.write_report(
        workdir, title="a < b", tables=[TABLE], answers=answers, note="x & y"
    )
    text = path.read_text()
    tags = Tags(text)
    assert not tags.open
    assert tags.links and all(link.startswith("data:image/png") for link in tags.links)
    embedded = re.findall(r"base64,([^\"]+)", text)
    written = {p.read_bytes() for p in (workdir / "figures").glob("*.png")}
    assert {base64.b64decode(data) for data in embedded} == written
    assert all(data.startswith(PNG) for data in written)
    names = sorted(p.stem for p in (workdir / "figures").iterdir())
    assert names == ["curves", "overlays", "overlays.narrow", "signal", "threshold"]
    assert text.count("<picture>") == 1 and text.count("<figure>") == 4
    narrow = (workdir / "figures/overlays.narrow.png").read_bytes()
    (source,) = re.findall(
        r'<source media="\(max-width: 600px\)" srcset="([^"]+)"', text
    )
    assert base64.b64decode(source.partition("base64,")[2]) == narrow
    for piece in (
        "a &lt; b",
        "x &amp; y Research software, not a medical device.",
        "all &lt;answers&gt;",
        "&quot;seed&quot;: 1",
    ):
        assert piece in text
    assert "started 2 times" in text


def test_curves_end_with_the_evaluation_that_the_page_is_about(workdir, monkeypatch):
    """Its row of eval.jsonl is written after the page."""
    seen = []
    monkeypatch.setattr(
        page, "training_curves", lambda *_, evals, raises: seen.append(evals)
    )
    (workdir / "eval.jsonl").write_text('{"step": 0, "mIoU": 0.25, "n": 4}\n')
    told = {"title": "a", "tables": [TABLE], "evaluated": (8, {"mIoU": 0.5, "n": 4})}
    page.write_report(workdir, **told)
    assert seen[0]["mIoU"].step.tolist() == [0, 8]
    assert seen[0]["mIoU"].value.tolist() == [0.25, 0.5]
    (workdir / "metrics.jsonl").unlink()  # nothing was trained: a point is no curve
    (workdir / "eval.jsonl").unlink()
    page.write_report(workdir, **told)
    assert seen[1] == {}


def test_every_page_of_an_evaluation_is_given_its_scores():
    recipes = pathlib.Path(page.__file__).parents[1] / "recipes"
    calls = [
        (path.name, {word.arg for word in node.keywords})
        for path in recipes.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "write_report"
    ]
    assert len(calls) >= 5
    assert all("evaluated" in words for _, words in calls), calls


def test_an_empty_run_still_has_a_page(tmp_path):
    text = page.write_report(tmp_path, title="nothing", tables=[TABLE]).read_text()
    assert '<td data-head="mIoU">0.5</td>' in text and "<img" not in text
    assert "What happened" not in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_same_figure_gives_the_same_bytes(workdir):
    first = page.write_report(workdir, title="t").read_bytes()
    assert page.write_report(workdir, title="t").read_bytes() == first


def test_no_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        page.write_report(tmp_path / "absent", title="t")


def test_a_failed_write_leaves_the_old_page(workdir, monkeypatch):
    path = page.write_report(workdir, title="old")
    before = path.read_bytes()

    def full(self, data):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        page.write_report(workdir, title="new")
    assert path.read_bytes() == before
    assert not list(workdir.rglob("*.tmp"))


def test_a_story_opens_the_page_and_doubts_are_marked(tmp_path):
    text = page.render_page(
        "t", tables=[TABLE], figures={}, starts=(), note="", story=["a < b"],
        doubts=["wrong & long"],
    )  # fmt: skip
    assert not Tags(text).open
    story, doubt = text.index("<li>a &lt; b</li>"), text.index("wrong &amp; long")
    assert text.index("What happened") < doubt < story < text.index("<table>")
    page.write_report(tmp_path, title="t", story=["tau rose once"])
    assert "<li>tau rose once</li>" in (tmp_path / "report.html").read_text()


def test_a_row_of_another_length_than_the_header_is_an_error():
    wrong = ("t", ("", "n"), (("a", "1", "2"),))
    with pytest.raises(ValueError, match="zip"):
        page.render_page("t", tables=[wrong], figures={}, starts=(), note="")
