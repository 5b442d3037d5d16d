"""What a manifest says of paths: names, wherever they stand."""

import pathlib

import pytest

from medjax.runtime.manifest import hide_paths

PATH = "/home/me/JANE DOE/boxes.jsonl"


def facts(**data):
    section = {"source": PATH, "check": "on", "identify": False} | data
    config = {"data": section, "prompt": {"suffix": "left/right?"}}
    return {
        "config": config,
        "command": ["run.py", f"--config=x.py:data={PATH},seed=1"],
    }


def test_paths_become_names_everywhere():
    given = facts(question="Is it on the left/right?", descriptions="a/JANE/d.json")
    found = hide_paths(given, pathlib.Path("/home/me/JANE DOE/work/sft"))
    assert "JANE" not in str(found)
    assert found["command"] == ["run.py", "--config=x.py:data=boxes.jsonl,seed=1"]
    assert found["config"]["data"]["descriptions"] == "d.json"
    # what is no path stays as it is
    assert found["config"]["data"]["question"] == "Is it on the left/right?"
    assert found["config"]["prompt"] == {"suffix": "left/right?"}
    assert given["config"]["data"]["source"] == PATH


def test_the_workdir_is_shortened_in_the_command():
    given = {"command": ["run.py", "--workdir=/data/JANE/work"]}
    found = hide_paths(given, pathlib.Path("/data/JANE/work/sft"))
    assert found == {"command": ["run.py", "--workdir=work"]}


def test_with_identify_nothing_changes():
    given = facts(identify=True)
    found = hide_paths(given, pathlib.Path("/data/JANE/work"))
    assert found == given | {"check": found["check"]}


@pytest.mark.parametrize(
    ("data", "first", "said"),
    [
        ({"check": "on"}, {}, "the data passed"),
        ({"check": "off"}, {}, "data.check=off"),
        ({"check": "on"}, {"check": "off"}, "data.check=off"),
    ],
)
def test_a_check_that_was_left_out_is_said(data, first, said):
    config = {"data": data, "localisation": {"data": first}}
    found = hide_paths({"config": config}, pathlib.Path("work"))
    assert found["check"].startswith(said)


def test_a_config_without_a_check_says_nothing():
    given = {"config": {"data": {"path": "x"}, "seed": 1}}
    assert hide_paths(given, pathlib.Path("work")) == given
    assert hide_paths({}, pathlib.Path("work")) == {}
