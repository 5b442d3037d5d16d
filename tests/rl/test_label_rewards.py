"""Rewards of labels and grades against tables and loops written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.label_rewards import (
    GRADE_RULES,
    check_grade_table,
    fuzzy_grade_reward,
    grade_table,
    label_format_reward,
    label_reward,
)
from medjax.rl.text.label_text import ParsedLabels, parse_label_text
from tests.oracles.label_completions import ORGANS

# The specification's table of readings, d = 0 ... 4.
READINGS = {
    "sixteenth": (1, 0.25, 0.0625, 0, 0),
    "tenth": (1, 0.25, 0.1, 0, 0),
    "power": (1, 0.25, 0.0625, 0.015625, 0.00390625),
    "gaussian": (1, 0.5, 0.0625, 0.001953125, 1 / 65536),
    "quartic": (1, 0.31640625, 0.0625, 0.00390625, 0),
    "exact": (1, 0, 0, 0, 0),
}


def test_label_reward():
    label = jnp.asarray([[0, 1, -1], [2, 2, -1]])
    target = jnp.asarray([[0, 0, 0], [2, 1, -1]])  # -1 earns nothing even as a target
    reward = jax.jit(label_reward)(label, target)
    assert reward.dtype == jnp.float32
    np.testing.assert_array_equal(reward, [[1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("rule", GRADE_RULES)
@pytest.mark.parametrize("classes", [1, 2, 5, 9])
def test_presets(rule, classes):
    table = grade_table(rule, classes)
    assert len(table) == classes and table[: len(READINGS[rule])] == pytest.approx(
        READINGS[rule][:classes], abs=0
    )
    grades = jnp.arange(-1, classes, dtype=jnp.int32)
    for target in range(classes):
        reward = fuzzy_grade_reward(grades, jnp.full_like(grades, target), table)
        assert reward.dtype == jnp.float32
        want = [0, *(table[abs(grade - target)] for grade in range(classes))]
        np.testing.assert_array_equal(reward, np.array(want, np.float32))
        # Monotone: never more for a grade further off.
        order = np.argsort(np.abs(np.arange(classes) - target), kind="stable")
        assert np.all(np.diff(np.asarray(reward)[1:][order]) <= 0)
        assert float(reward[1 + target]) == max(reward) == 1


def test_differences_beyond_the_table_earn_nothing():
    grades = jnp.asarray([0, 1, 2, 3, 100, -1, -100])
    reward = fuzzy_grade_reward(grades, jnp.ones_like(grades), (1.0, 0.5))
    np.testing.assert_array_equal(reward, [0.5, 1, 0.5, 0, 0, 0, 0])


def test_unsigned_labels_do_not_wrap_round():
    grades, target = np.array([0, 1, 2], np.uint8), np.array([2, 2, 1], np.uint8)
    reward = fuzzy_grade_reward(grades, target, (1.0, 0.5, 0.25))
    np.testing.assert_array_equal(reward, [0.25, 0.5, 0.5])
    mixed = label_reward(grades.astype(np.int8), target.astype(np.int64))
    np.testing.assert_array_equal(mixed, [0, 0, 0])


def test_a_target_below_0_is_never_near():
    grades = jnp.asarray([0, 1, -1], jnp.int32)
    reward = fuzzy_grade_reward(grades, jnp.full_like(grades, -1), (1.0, 0.5))
    np.testing.assert_array_equal(reward, [0, 0, 0])


@pytest.mark.parametrize("shape", [(0,), (1, 0), (), (1, 1)])
def test_sizes_0_and_1(shape):
    grades = jnp.zeros(shape, jnp.int32)
    np.testing.assert_array_equal(label_reward(grades, grades), np.ones(shape))
    reward = fuzzy_grade_reward(grades, grades, (0.5,))
    np.testing.assert_array_equal(reward, np.full(shape, 0.5))
    with pytest.raises(ValueError, match="table: expected a number; found none"):
        fuzzy_grade_reward(grades, grades, ())


def test_exact_is_the_label_reward():
    rng = np.random.default_rng(0)
    grade, target = jnp.asarray(rng.integers(-1, 6, (2, 300))).astype(jnp.int32)
    target = jnp.maximum(target, 0)
    fuzzy = fuzzy_grade_reward(grade, target, grade_table("exact", 6))
    np.testing.assert_array_equal(fuzzy, label_reward(grade, target))


def test_a_sweep_over_tables_is_a_vmap():
    tables = jnp.asarray([[1, x, 0.0, 0, 0] for x in (0.0, 0.25, 0.5)], jnp.float32)
    grade, target = jnp.asarray([0, 1, 2]), jnp.asarray([1, 1, 1])
    rewards = jax.jit(jax.vmap(lambda table: fuzzy_grade_reward(grade, target, table)))
    np.testing.assert_array_equal(
        rewards(tables), [[0, 1, 0], [0.25, 1, 0.25], [0.5, 1, 0.5]]
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ((), "0 values: expected 1 to 3"),
        ((1, 0.5, 0.2, 0.1), "4 values: expected 1 to 3"),
        ((1, 0.2, 0.5), "do not rise"),
        ((1, 0, -0.5), "not negative"),
        ((1, float("nan")), "finite"),
        ((float("inf"), 1), "finite"),
        ((0, 0), "must earn something"),
    ],
)
def test_tables_that_reward_the_wrong_answer(table, message):
    with pytest.raises(ValueError, match=message):
        check_grade_table(table, 3)


def test_a_table_is_filled_up():
    assert check_grade_table((2, 0.5), 4) == (2.0, 0.5, 0.0, 0.0)
    with pytest.raises(ValueError, match="'half': expected one of sixteenth, tenth"):
        grade_table("half", 5)
    with pytest.raises(
        ValueError, match="classes: expected an integer of at least 1, found 0"
    ):
        grade_table("tenth", 0)


def test_format_asks_for_reasoning():
    texts = [
        "<think>It is big.</think><answer>B</answer>",
        "<think>It is big.</think><answer>no idea</answer>",
        "<think>Big.</think><answer>B</answer>",
        "<think></think><answer>B</answer>",
        "<think> . </think><answer>B</answer>",
        "<answer>B</answer>",
        "It is big. <think>It is big.</think><answer>B</answer>",
    ]
    rows = [parse_label_text(text, ORGANS) for text in texts]
    parsed = ParsedLabels(*(jnp.stack(x) for x in zip(*rows, strict=True)))
    for options, expected in (
        ({"min_words": 0, "require_label": False}, [1, 1, 1, 1, 1, 0, 0]),
        ({"min_words": 1, "require_label": False}, [1, 1, 1, 0, 0, 0, 0]),
        ({"min_words": 2, "require_label": False}, [1, 1, 0, 0, 0, 0, 0]),
        ({"min_words": 1, "require_label": True}, [1, 0, 1, 0, 0, 0, 0]),
        (
            {"min_words": 0, "min_bytes": 3, "require_label": False},
            [1, 1, 1, 0, 1, 0, 0],
        ),
    ):
        reward = label_format_reward(parsed, **options)
        assert reward.dtype == jnp.float32
        np.testing.assert_array_equal(reward, expected)
