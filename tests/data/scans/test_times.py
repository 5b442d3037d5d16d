"""Which times are a scan's, and which are refused."""

import numpy as np
import pytest

from medjax.data.scans.times import check_series, choose_times

TE = [0.01, 0.02, 0.03]


def choose(found, times=None, contrast=None, count=3):
    return choose_times(found, "a.h5", count=count, times=times, contrast=contrast)


def test_the_file_says():
    name, times = choose({"t2": TE})
    assert name == "t2" and times.tolist() == TE
    # One echo time is a constant of an inversion recovery.
    assert choose({"t2": [0.01], "t1": [0.1, 0.5, 2]})[0] == "t1"
    assert choose({"t2": [0.01] * 3, "t1": [0.1, 0.5, 2]})[0] == "t1"
    assert choose({"t2": TE, "t1": [0.1, 0.5, 2]}, contrast="t1")[0] == "t1"
    assert choose({"vfa": [0.05, 0.2, 0.3]})[0] == "vfa"


def test_the_caller_says():
    assert choose({}, times=TE, contrast="t2")[1].tolist() == TE
    assert choose({"t1": [9, 9.5, 10]}, times=[1, 2, 3])[0] == "t1"
    assert choose({"t2": TE}, times=[1, 2, 3], contrast="t1")[0] == "t1"


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        ({}, {}, "found: none.*give times= in seconds"),
        ({"t2": [0.01]}, {}, "found: {'echo times': 1}"),
        ({"t2": TE, "t1": [0.1, 0.5, 2]}, {}, "echo times and inversion.*contrast="),
        ({"t2": TE}, {"contrast": "t1"}, "no inversion times"),
        ({}, {"times": TE}, "say contrast="),
        ({}, {"contrast": "t3"}, "'t3': expected one of"),
        ({"t2": TE}, {"times": [0.1, 0.2]}, r"shape \(2,\); expected \(3,\)"),
    ],
)
def test_what_is_open_is_asked_for(found, options, message):
    with pytest.raises(ValueError, match=message):
        choose(found, **options)


@pytest.mark.parametrize(
    ("times", "contrast", "message"),
    [
        ([25, 35, 45], "t2", "milliseconds: divide by 1000"),
        ([1.2, 2.4, 3.6], "t2", "milliseconds: divide by 1000"),
        ([50, 500, 4000], "t1", "milliseconds: divide by 1000"),
        ([2, 10, 20], "vfa", "degrees"),
        ([0.1], "t2", "found 1"),
        ([0.1, 0.1], "t2", "found 1"),
        ([-0.1, 0.1], "t2", "none negative"),
        ([np.nan, 0.1], "t2", "finite"),
    ],
)
def test_impossible_times_are_refused(times, contrast, message):
    with pytest.raises(ValueError, match=f"a.h5.*{message}"):
        check_series(times, "a.h5", count=len(times), contrast=contrast)


def test_zero_is_a_time():
    times = [0, 0.025, 0.125]  # preparation times of the in-vivo protocol
    assert check_series(times, "a", count=3, contrast="t2").tolist() == times
