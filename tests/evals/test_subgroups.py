"""Scores by the values of a column."""

import numpy as np

from medjax.evals.subgroups import MOST, subgroup_table
from medjax.evals.tables import group_intervals

DRAWS = {"num_samples": 100, "level": 0.9, "seed": 0}


def table(values, scores, groups, **others):
    return subgroup_table("grpo by sex", "A@0.5", {"grpo": np.array(scores), **others},
                          values, np.array(groups), **DRAWS)  # fmt: skip


def test_a_row_a_value_with_the_interval_of_its_groups():
    values, groups = ["m", "f", "m", "m", "f"], [0, 1, 2, 2, 1]
    scores = [1.0, 0.0, 0.0, 1.0, 1.0]
    found = table(values, scores, groups, probe=np.array([1.0, 1.0, 1.0, 0.0, 1.0]))
    assert found.header == ("", "n", "groups", "A@0.5 grpo", "A@0.5 probe")
    drawn = group_intervals({"a": np.array([1.0, 0.0, 1.0])}, np.array([0, 2, 2]),
                            **DRAWS)["a"]  # fmt: skip
    assert found.rows == (
        ("f", "2", "1", "0.500", "1.000"),  # of one group: no interval
        ("m", "3", "2", f"0.667 [{drawn.low:.3f}, {drawn.high:.3f}]", "0.667"),
    )


def test_one_value_alone_gives_no_table():
    assert table(["m", "m"], [1.0, 0.0], [0, 1]) is None
    assert table([], [], []) is None


def test_rare_values_share_a_row():
    values = [f"v{n:02d}" for n in range(MOST + 3)] + ["v03", "v09"]
    count = len(values)
    found = table(values, np.arange(count) % 2.0, np.arange(count))
    assert len(found.rows) == MOST and sum(int(row[1]) for row in found.rows) == count
    names = [row[0] for row in found.rows]
    assert names[:-1] == sorted(names[:-1]) and {"v03", "v09"} <= set(names)
    assert found.rows[-1][:2] == ("4 other values", "4")
