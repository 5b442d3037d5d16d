"""Config sections become records, and what does not belong is named."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from medjax.recipes.sections import as_mapping, read_section


class Inner(NamedTuple):
    group: int
    steps: int
    weights: Mapping[str, Any] = {}


class Outer(NamedTuple):
    lr: float
    betas: tuple[float, ...]
    grpo: Inner | None = None
    table: Mapping[str, Inner] = {}


INNER = {"group": 4, "steps": 2}
OUTER = {"lr": 0.1, "betas": [0.9, 0.99]}


def test_sections_inside_of_sections_and_lists_become_tuples():
    grpo = INNER | {"weights": {"box": [1, [2, 3]]}}
    section = OUTER | {"grpo": grpo, "table": {"a": INNER, "b": INNER}}
    record = read_section(Outer, "train", section)
    inner = Inner(4, 2, {"box": (1, (2, 3))})
    assert record == Outer(
        0.1, (0.9, 0.99), inner, {"a": Inner(4, 2), "b": Inner(4, 2)}
    )
    assert isinstance(record.grpo, Inner)


def test_defaults_stand_for_what_is_left_out():
    assert read_section(Outer, "train", OUTER) == Outer(0.1, (0.9, 0.99))
    assert read_section(Outer, "train", OUTER | {"grpo": None}).grpo is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            OUTER | {"grpo": {"grp": 4, "group": 4}},
            'config section "train.grpo": no option "grp" (did you mean "group"?); '
            'missing "steps"',
        ),
        ({}, 'config section "train": missing "lr", "betas"'),
        (
            OUTER | {"xyz": 1},
            'config section "train": no option "xyz" (expected: lr, betas, grpo, '
            "table)",
        ),
        (
            OUTER | {"table": {"a": {"group": 1}}},
            'config section "train.table.a": missing "steps"',
        ),
        (
            OUTER | {"grpo": 3},
            'config section "train.grpo": expected options, found 3',
        ),
        (
            OUTER | {"table": None},
            'config section "train.table": expected sections, found None',
        ),
    ],
)
def test_what_does_not_belong_is_named(section, message):
    with pytest.raises(ValueError) as error:
        read_section(Outer, "train", section)
    assert str(error.value) == message


def test_a_record_goes_back_to_the_section_it_came_from():
    section = OUTER | {"grpo": INNER | {"weights": {"a": 1}}, "table": {}}
    record = read_section(Outer, "train", section)
    assert as_mapping(record) == section | {"betas": (0.9, 0.99)}
