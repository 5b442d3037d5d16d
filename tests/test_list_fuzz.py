"""Lists with one thing changed: refused by name, right, or counted; never a leak."""

import importlib.util
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
COUNT = 300


@pytest.fixture(scope="module")
def list_fuzz():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec = importlib.util.spec_from_file_location(
            "list_fuzz", FOLDER / "list_fuzz.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def place(list_fuzz, tmp_path_factory):
    return list_fuzz.make_place(tmp_path_factory.mktemp("lists").resolve())


def test_nothing_wrong_is_used_in_silence(list_fuzz, place):
    rows = [list_fuzz.fuzz(seed, place) for seed in range(COUNT)]
    wrong = [row for row in rows if list_fuzz.failed(row)]
    assert not wrong, "\n".join(map(str, wrong))
    assert {row.format for row in rows} == {"jsonl", "csv", "labels", "coco"}
    for label in ("refused", "harmless", "open"):
        assert sum(row.label == label for row in rows) > COUNT / 10
    assert sum(row.dropped == "other" for row in rows) > COUNT / 10  # lines left out
    assert list_fuzz.fuzz(7, place) == rows[7]


def test_a_leak_and_a_bare_error_would_be_seen(list_fuzz, place, monkeypatch):
    """The oracle against a library that does not join groups, and one that breaks."""

    def apart(lines):
        return list(range(len(lines)))

    monkeypatch.setattr("medjax.data.lists.parts.join_groups", apart)
    monkeypatch.setattr("medjax.data.lists.parts.split_faults", lambda *_: [])
    found = [list_fuzz.fuzz(seed, place) for seed in range(60)]
    assert any(row.outcome == "leak" for row in found)

    def broken(lines):
        raise KeyError("patient")

    monkeypatch.setattr("medjax.data.lists.parts.join_groups", broken)
    found = [list_fuzz.fuzz(seed, place) for seed in range(20)]
    assert any(row.outcome == "bare" for row in found)
