"""Data that is not there: told as a path, or as a name that nothing has."""

import pytest

from medjax.data.lists.missing import missing_source

NAMES = ("mr_aal", "synthetic")


def told(source):
    return str(missing_source(str(source), NAMES, "data source", "a list of boxes"))


def test_a_path_says_how_far_it_leads_and_what_is_near(tmp_path):
    (tmp_path / "HAM10000").mkdir()
    (tmp_path / "boxes.jsonl").write_text("")
    (tmp_path / "Boxes_old.jsonl").write_text("")
    found = told(tmp_path / "boxs.jsonl")
    assert f"data={tmp_path}/boxs.jsonl: no such file or folder" in found
    assert "has no 'boxs.jsonl'; near it 'boxes.jsonl'" in found
    assert found.endswith("Expected a list of boxes, or one of mr_aal, synthetic")
    # an ending left out, another case, a folder that is missing on the way
    assert "near it 'boxes.jsonl'" in told(tmp_path / "boxes")
    assert "near it 'HAM10000'" in told(tmp_path / "ham10000")
    deep = told(tmp_path / "HAM1000" / "images" / "a.csv")
    assert f"{tmp_path}/ has no 'HAM1000'; near it 'HAM10000'" in deep
    assert "near it" not in told(tmp_path / "something else")


def test_a_bare_name_is_a_path_where_it_looks_like_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nodules").mkdir()
    assert "the current folder has no 'nodule'; near it 'nodules'" in told("nodule")
    assert "the current folder has no 'x.csv'. Expected" in told("x.csv")
    assert "a ~ is not the home folder here" in told("~/x.csv")


@pytest.mark.parametrize(
    ("name", "hint"), [("mr_aa1", "; did you mean 'mr_aal'? "), ("brain", ""), ("", "")]
)
def test_another_name_is_told_as_one(tmp_path, monkeypatch, name, hint):
    monkeypatch.chdir(tmp_path)
    message = f"data source {name!r}: no such name or path{hint or '. '}Expected one of"
    assert told(name).startswith(message)
