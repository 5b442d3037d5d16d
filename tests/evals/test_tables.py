"""Intervals against groups resampled by hand, and the text of tables."""

import numpy as np
import pytest

from medjax.evals import tables

SETTINGS = {"num_samples": 200, "level": 0.9, "seed": 7}


def test_intervals_equal_resampling_the_rows_themselves():
    rng = np.random.default_rng(0)
    groups = rng.choice(["a", "b", "c", "d"], 30)
    column = rng.random(30)
    column[[3, 8]] = np.nan  # left out, with their weight
    found = tables.group_intervals({"x": column}, groups, **SETTINGS)["x"]
    names = np.unique(groups)
    drawn = np.random.default_rng(7).multinomial(4, np.full(4, 0.25), size=200)
    means = [
        np.nanmean(
            np.concatenate(
                [
                    column[groups == name]
                    for name, times in zip(names, counts, strict=True)
                    for _ in range(times)
                ]
            )
        )
        for counts in drawn
    ]
    # Sums of 30 numbers in another order: rounding only.
    np.testing.assert_allclose(found[1:], np.percentile(means, [5, 95]), rtol=1e-12)
    assert found.value == pytest.approx(np.nanmean(column), rel=1e-12)


def test_what_is_unknown_is_nan():
    nothing = {"x": np.full(4, np.nan), "y": np.ones(4)}
    found = tables.group_intervals(nothing, np.arange(4), **SETTINGS)
    assert np.isnan(found["x"]).all() and found["y"] == (1, 1, 1)
    empty = tables.group_intervals({"x": np.zeros(0)}, np.zeros(0), **SETTINGS)
    assert np.isnan(empty["x"]).all()
    # Draws that miss the only group with this score do not count.
    single = {"x": np.array([2.0, np.nan])}
    assert tables.group_intervals(single, np.arange(2), **SETTINGS)["x"] == (2, 2, 2)


def test_cells():
    interval = tables.Interval(0.5, 0.25, 1.0)
    assert tables.interval_cell(interval, digits=2) == "0.50 [0.25, 1.00]"
    assert tables.interval_cell(interval, digits=1, alone=True) == "0.5"
    assert tables.interval_cell(tables.Interval(*[np.nan] * 3), digits=1) == "-"


def test_render():
    table = tables.Table("t", ("", "n"), (("a|b", "1"), ("c", "23")))
    assert tables.render_text(table) == "t\n      n\n-------\na|b   1\nc    23"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"level": 95}, "level: expected above 0 and below 1, found 95"),
        ({"level": 0.0}, "level: .* found 0.0"),
        ({"num_samples": 0}, "num_samples 0 of 3 items"),
        ({"groups": np.arange(2)}, "column x: 3 numbers, expected 2"),
    ],
)
def test_resampling_out_of_its_range(changed, message):
    options = {"groups": np.arange(3), "num_samples": 5, "level": 0.9, "seed": 0}
    with pytest.raises(ValueError, match=message):
        tables.group_intervals({"x": np.ones(3)}, **(options | changed))
