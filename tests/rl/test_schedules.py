"""The presets' numbers, and schedules that do not fit together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl import schedules
from medjax.rl.schedules import (
    check_schedule,
    cosine_schedule,
    fixed_aggressive_schedule,
    fixed_conservative_schedule,
    fixed_moderate_schedule,
    fixed_schedule,
    linear_schedule,
    piecewise_schedule,
)

PRESETS = (
    piecewise_schedule(),
    linear_schedule(),
    cosine_schedule(),
    fixed_schedule(0.5),
    fixed_conservative_schedule(),
    fixed_moderate_schedule(),
    fixed_aggressive_schedule(),
)


def test_presets_are_consistent_and_follow_the_stated_directions():
    for schedule in PRESETS:
        check_schedule(schedule)
        assert list(schedule.hit_rates) == sorted(schedule.hit_rates, reverse=True)
        assert list(schedule.deviations) == sorted(schedule.deviations)
        assert (schedule.window, schedule.keep, schedule.margin) == (30, 0.5, 0.10)


def test_the_numbers_of_the_paper():
    piecewise = piecewise_schedule()
    assert (piecewise.start, piecewise.target) == (0.3, 0.8)
    assert piecewise.steps == (0.15, 0.10, 0.05)
    assert piecewise.step_bounds == (0.55, 0.75)
    for schedule in (linear_schedule(), cosine_schedule()):
        assert (schedule.start, schedule.target, schedule.steps[0]) == (0.2, 0.8, 0.2)
    triples = [(s.steps, s.hit_rates, s.deviations) for s in PRESETS[4:]]
    assert triples == [
        ((0.05,) * 3, (0.80,) * 3, (0.20,) * 3),
        ((0.10,) * 3, (0.70,) * 3, (0.30,) * 3),
        ((0.15,) * 3, (0.55,) * 3, (0.40,) * 3),
    ]


def test_presets_stack():
    stacked = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v) for v in x]), *PRESETS)
    np.testing.assert_array_equal(stacked.rule, [0, 1, 2, 0, 0, 0, 0])
    assert stacked.steps[0].shape == (7,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": 0.9}, "start 0.9 <= target 0.8"),
        ({"target": 1.2}, "target 1.2 <= 1"),
        ({"rule": 3}, "rule 3"),
        ({"rule": "linear"}, "rule linear"),
        ({"steps": (0.1, 0.1)}, "steps: one more"),
        ({"steps": (0.1, 0.1, 0.0)}, "> 0"),
        ({"hit_rates": (0.8,)}, "one more than stage_bounds"),
        ({"deviations": (0.8,)}, "one more than stage_bounds"),
        ({"step_bounds": (0.7, 0.6)}, "step_bounds ascending"),
        ({"stage_bounds": (0.7, 0.6)}, "stage_bounds ascending"),
        ({"window": 0}, "window 0"),
        ({"keep": 1.0}, "keep 1.0"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        check_schedule(piecewise_schedule()._replace(**change))


def test_all_problems_are_named_at_once():
    bad = piecewise_schedule()._replace(window=0, rule=9)
    with pytest.raises(ValueError, match="rule 9.*window 0"):
        schedules.check_schedule(bad)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hit_rates", (80, 75, 55)),
        ("deviations", (-0.1, 0.3, 0.4)),
        ("stage_bounds", (60, 75)),
        ("margin", 10),
        ("window", 2.5),
        ("snap", -0.1),
        ("min_step", -0.1),
    ],
)
def test_numbers_by_which_tau_would_never_rise_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        check_schedule(piecewise_schedule()._replace(**{field: value}))
