"""Which columns scores are shown by, and those that are refused."""

from typing import NamedTuple

import numpy as np
import pytest

from medjax.recipes.policy.score_story import Rated
from medjax.recipes.policy.subgroups import check_subgroups, subgroup_tables
from medjax.recipes.policy.task import Evaluation

EVALUATION = Evaluation(
    every=0, batch=1, questions=1, limit=0, seed=0, bootstrap=20, level=0.95
)


class Record(NamedTuple):
    plane: str
    columns: dict


RECORDS = [
    Record("MR axial", {"sex": "f", "name": "Doe"}),
    Record("CT axial", {"sex": "m", "name": "Roe"}),
    Record("MR axial", {"sex": None, "name": "Poe"}),
]
RATED = Rated("A@0.5", {"grpo": np.array([1.0, 0.0, 1.0])}, np.arange(3), "slices")


def test_the_plane_always_and_a_column_where_it_is_named():
    (plane,) = subgroup_tables(RATED, RECORDS, EVALUATION)
    assert plane.title == "grpo by plane"
    assert [row[:2] for row in plane.rows] == [("CT axial", "1"), ("MR axial", "2")]
    asked = EVALUATION._replace(subgroups=("sex", "scanner"))
    plane, sex = subgroup_tables(RATED, RECORDS, asked)
    assert [row[0] for row in sex.rows] == ["(empty)", "f", "m"]
    assert "Doe" not in repr((plane, sex))
    assert subgroup_tables(RATED, RECORDS[:1] * 3, EVALUATION) == []


def test_a_column_that_the_test_lacks_is_refused():
    drawn = []

    def batches():
        for record in RECORDS:
            drawn.append(record)
            yield None, [record]

    check_subgroups(EVALUATION, batches)
    assert drawn == []  # nothing is asked of the data
    check_subgroups(EVALUATION._replace(subgroups=("sex",)), batches)
    assert len(drawn) == 1
    with pytest.raises(ValueError, match="no column scanner in the test.*name, sex"):
        check_subgroups(EVALUATION._replace(subgroups=("sex", "scanner")), batches)
    with pytest.raises(ValueError, match="as the data has no columns"):
        check_subgroups(
            EVALUATION._replace(subgroups=("sex",)),
            lambda: [(None, [Record("axial", {})])],
        )
