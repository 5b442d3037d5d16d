"""Metrics read back from JSON lines."""

import json

import numpy as np
import pytest

from medjax.report import series


def write(path, rows, tail=""):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def test_read_keeps_numbers_and_leaves_the_rest(tmp_path):
    rows = [
        {"step": 1, "a": 0.5, "note": "x"},
        {"step": 3, "a": float("nan"), "b": True},
    ]
    found = series.read_metrics(write(tmp_path / "m.jsonl", rows))
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["a"].step, [1, 3])
    np.testing.assert_array_equal(found["a"].value, [0.5, np.nan])
    np.testing.assert_array_equal(found["b"].value, [1.0])


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = write(tmp_path / "m.jsonl", [{"step": 1, "a": 1}], tail='{"step": 2, "a"')
    assert series.read_metrics(path)["a"].step.tolist() == [1]


@pytest.mark.parametrize("line", ["{broken", '{"a": 1}', "[1]", "3", '{"step": "x"}'])
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"m\.jsonl, line 2: expected a JSON object"):
        series.read_metrics(path)


def test_raises_carry_the_numbers_of_their_step(tmp_path):
    rows = [
        {"step": s, "tau": 0.3, "window_tau_next": 0.45, "window_raised": s == 2}
        | {"window_hit_rate": s / 10, "window_deviation": 0.1, "window_margin": 0.2}
        for s in (1, 2, 3)
    ]
    found = series.find_raises(series.read_metrics(write(tmp_path / "m.jsonl", rows)))
    assert found == [series.Raise(2, 0.3, 0.45, 0.2, 0.1, 0.2)]
    assert series.find_raises({}) == []


@pytest.mark.parametrize("length", [1, 2, 7, 40])
@pytest.mark.parametrize("width", [1, 2, 5, 100])
def test_running_mean_equals_the_loop(length, width):
    value = np.random.default_rng(0).normal(size=length)
    value[length // 2] = np.nan
    used = min(width, length)
    expected = np.full(length, np.nan)
    for i in range(length):
        first = i - used // 2
        window = [
            value[j]
            for j in range(first, first + used)
            if 0 <= j < length and np.isfinite(value[j])
        ]
        if window:
            expected[i] = sum(window) / len(window)
    found = series.running_mean(value, width=width)
    np.testing.assert_allclose(found, expected, atol=1e-12)  # float64 sums of <= 40


def test_a_row_more_stands_at_its_step_and_replaces_one():
    old = {"a": series.Series(np.array([0, 4, 8]), np.array([1.0, 2.0, 3.0]))}
    found = series.with_row(old, 4, {"a": 9, "b": 0.5, "word": "x"})
    assert found["a"].step.tolist() == [0, 4, 8]
    assert found["a"].value.tolist() == [1, 9, 3]
    assert found["b"] == series.Series(np.array([4]), np.array([0.5]))
    assert set(found) == {"a", "b"} and old["a"].value.tolist() == [1, 2, 3]
    later = series.with_row(old, 12, {"a": 5.0})["a"]
    assert later.step.tolist() == [0, 4, 8, 12] and later.value[-1] == 5


def test_value_at():
    metrics = {"a": series.Series(np.array([1, 2, 2]), np.array([5.0, 6.0, 7.0]))}
    assert series.value_at(metrics, "a", step=2) == 7.0
    assert np.isnan(series.value_at(metrics, "a", step=9))
    assert np.isnan(series.value_at(metrics, "b", step=1))
