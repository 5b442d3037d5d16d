"""Calibrations on disk: read back, refused with what is wrong."""

import json

import pytest

from medjax.recipes.qmri.calibrated import (
    FOLDER,
    document,
    load_calibration,
    read_calibration,
    shipped,
)
from tests.systems.puq.test_calibration import MADE


def written(folder, **changes):
    path = folder / "t2.json"
    path.write_text(json.dumps(document(MADE, seed=3) | changes))
    return path


def test_a_calibration_comes_back(tmp_path):
    path = written(tmp_path)
    assert read_calibration(path) == MADE
    assert load_calibration("t2", "joint TV", file=str(path)) == MADE
    assert json.loads(path.read_text())["seed"] == 3


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_what_is_shipped_says_what_it_is_and_how_it_was_made(path):
    found = read_calibration(path)
    assert path == shipped(found.protocol.contrast, found.reconstruction)
    made = json.loads(path.read_text())
    assert {"command", "commit", "seed", "data", "options", "validation"} <= made.keys()
    for row in made["validation"]:  # of subjects that kappa was chosen on
        assert 0.90 <= row["coverage"] <= 0.99, row


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exponents": [0.3, 0.6]}, "exponents sum to 0.9"),
        ({"exponents": [float("nan"), 1.0]}, "exponents sum to nan"),
        ({"exponents": [1.0]}, "1 exponents of 2 features"),
        ({"exponents": "ab"}, "'ab' is no list of numbers"),
        ({"kappa": [1.0]}, "one each, rising"),
        ({"accelerations": [8.0, 4.0]}, "one each, rising"),
        ({"kappa": [1.0, 0.0]}, "expected above 0"),
        ({"reconstruction": "wavelets"}, "reconstruction 'wavelets'"),
        ({"protocol": {"contrast": "t2"}}, "KeyError 'times'"),
        ({"level": None}, "TypeError"),
        ({"spreads": [[1.0, 2.0]]}, "1 spreads at 2 accel"),
        ({"spreads": [[1.0, 2.0], [2.0, 1.0]]}, "ends 2.0 to 1.0"),
    ],
)
def test_a_broken_calibration_is_named(tmp_path, changes, words):
    path = written(tmp_path, **changes)
    with pytest.raises(ValueError, match=words) as error:
        read_calibration(path)
    assert str(error.value).startswith(str(path))
    assert "--mode=calibrate" in str(error.value)


def test_a_file_that_is_another_or_none(tmp_path):
    path = written(tmp_path)
    for asked in (("t1", "joint TV"), ("t2", "network")):
        with pytest.raises(ValueError, match="calibration of t2 and joint TV"):
            load_calibration(*asked, file=str(path))
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_calibration("t2", "joint TV", file=str(tmp_path / "none.json"))
    path.write_text("{")
    with pytest.raises(ValueError, match=r"t2\.json"):
        read_calibration(path)
