"""Which files of an earlier prediction go."""

import hashlib
import json

from medjax.recipes.qmri.outputs import clear_stale, digests, earlier_files


def folder_with(path, **texts):
    path.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (path / name).write_text(text)
    return path


def test_digests_are_those_of_the_files(tmp_path):
    folder_with(tmp_path, a="one", b="two")
    expected = {n: hashlib.sha256(t).hexdigest() for n, t in [("a", b"one")]}
    assert digests(tmp_path, ["a"]) == expected


def test_stale_files_go_and_a_person_s_stay(tmp_path):
    folder = folder_with(tmp_path / "out", new="1", stale="2", edited="3", mine="4")
    outside = folder_with(tmp_path, other="5") / "other"
    (folder / "link").symlink_to(outside)
    names = ["new", "stale", "edited", "link", "../other"]
    earlier = digests(folder, names) | {"gone": "0", str(outside): "0"}
    (folder / "edited").write_text("with notes")
    assert clear_stale(folder, earlier, ["new"]) == ["edited"]
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["edited", "link", "mine", "new"]
    assert outside.read_text() == "5"


def test_what_a_folder_s_summary_says_was_written(tmp_path):
    assert earlier_files(tmp_path) == {}
    (tmp_path / "summary.json").write_text(json.dumps({"files": {"a": "0"}}))
    assert earlier_files(tmp_path) == {"a": "0"}
    for text in ("{", "[1]", "{}", '{"files": 3}'):
        (tmp_path / "summary.json").write_text(text)
        assert earlier_files(tmp_path) == {}
