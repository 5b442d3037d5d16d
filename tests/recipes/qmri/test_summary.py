"""What a person is told of the maps, and which earlier files go."""

import hashlib
import json

import numpy as np
import pytest

from medjax.mri.fit import FitStatus
from medjax.mri.signals import signal_model
from medjax.recipes.qmri.slabs import empty_maps
from medjax.recipes.qmri.summary import (
    SliceMaps,
    clear_stale,
    digests,
    doubts,
    earlier_files,
    empty_slices,
    ranges,
    slice_maps,
    summarise,
)

T2 = signal_model("t2")


def test_a_summary_counts_what_has_signal():
    value = np.array([[0.1, 0.2], [np.nan, 0.5]])
    sigma = np.array([[0.01, np.nan], [np.nan, 0.03]])
    status = np.array([[0, FitStatus.AT_BOUND], [FitStatus.NOT_CONVERGED, 0]])
    bright = np.array([[True, True], [True, False]])
    found = summarise([SliceMaps(value, sigma, status, bright)], T2)
    assert found["voxels"] == 3 and found["failed"] == 1
    assert found["median_ms"] == pytest.approx(150)
    assert found["median_sigma_ms"] == pytest.approx(10)
    assert found["share_at_bounds"] == pytest.approx(1 / 3)


def test_a_summary_of_nothing_is_json():
    nothing = np.full((2, 2), np.nan)
    status = np.full((2, 2), FitStatus.NO_SIGNAL)
    found = summarise([SliceMaps(nothing, nothing, status, np.zeros((2, 2), bool))], T2)
    assert found["voxels"] == 0 and found["median_ms"] is None
    json.dumps(found, allow_nan=False)


def test_slices_without_signal_are_named():
    one = np.ones((2, 2))
    status = np.array([[FitStatus.NO_SIGNAL, 0], [0, 0]])
    filled = SliceMaps(one, one, status, one > 0)
    nothing = slice_maps(empty_maps(T2, (2, 2)), T2)
    seen = [nothing, nothing, filled, nothing]
    assert empty_slices(seen) == [0, 1, 3]
    found = summarise(seen, T2)
    assert found["slices_without_signal"] == [0, 1, 3] and found["voxels"] == 4
    assert ranges([0, 1, 3]) == "0 to 1, 3"
    assert ranges([2]) == "2" and ranges([1, 2, 3, 7, 9, 10]) == "1 to 3, 7, 9 to 10"


def told(status, *, sigma=0.01):
    """What is doubted of a slice where each voxel of this status has a signal."""
    status = np.array([status])
    value = np.where(status < FitStatus.NOT_CONVERGED, 0.1, np.nan)
    seen = SliceMaps(value, np.full(status.shape, sigma), status, status >= 0)
    return doubts(summarise([seen], T2))


def test_maps_are_doubtful_where_many_voxels_have_no_fit():
    good, failed, bound = 0, FitStatus.NOT_CONVERGED, FitStatus.AT_BOUND
    assert told([good] * 10) == told([good] * 9 + [failed]) == []
    (line,) = told([good] * 8 + [failed] * 2)
    assert "20 % of the voxels with signal could not be fitted" in line
    (line,) = told([good] * 6 + [bound] * 4)
    assert "40 % of the voxels with signal lie at a bound" in line
    (line,) = told([good] * 4, sigma=np.nan)
    assert "without error bars" in line


def test_maps_without_a_value_are_doubtful():
    assert told([FitStatus.NOT_CONVERGED] * 3) == ["no voxel could be fitted"]
    first, last = doubts(summarise([slice_maps(empty_maps(T2, (2, 2)), T2)], T2))
    assert "slices without signal: 0;" in first and last == "no voxel could be fitted"


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
