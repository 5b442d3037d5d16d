"""The no-signal report: a partition of the groups, and its reasons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.advantages import group_advantages
from medjax.rl.signal import group_signal, has_signal, reward_signal

NAN = float("nan")
# rewards, hits, parsed, class
GROUPS = [
    ([0, 1], [0, 1], [1, 1], "effective"),
    ([0.0, 0.5], [0, 0], [1, 0], "effective"),  # differs in format only
    ([0, 0], [0, 0], [0, 0], "unparsable"),
    ([0, 0], [0, 0], [0, 1], "all_wrong"),
    ([0, 0], [0, 0], [1, 1], "all_wrong"),
    ([2, 2], [1, 1], [1, 1], "all_right"),
    ([1, 1], [1, 0], [1, 1], "tied"),  # parts of the reward cancel
    ([NAN, 1], [0, 1], [1, 1], "all_right"),  # one scorable completion only
]
CLASSES = ("effective", "unparsable", "all_wrong", "all_right", "tied")


def arrays(groups):
    rewards, hits, parsed, _ = zip(*groups, strict=True)
    rewards = jnp.asarray(rewards, jnp.float32)
    return rewards, jnp.asarray(hits, bool), jnp.asarray(parsed, bool)


def report_of(groups, rows=None):
    """With NaN for a completion that could not be scored."""
    rewards, hits, parsed = arrays(groups)
    valid = ~jnp.isnan(rewards) if rows is None else ~jnp.isnan(rewards) & rows
    return group_signal(rewards, hits, parsed, valid=valid)


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: f"{g[3]}{g[0]}")
def test_each_class(group):
    report = report_of([group])
    assert {name: float(report[name]) for name in CLASSES} == {
        name: float(name == group[3]) for name in CLASSES
    }


def test_counts_of_a_batch():
    report = {k: float(v) for k, v in report_of(GROUPS).items()}
    assert report.pop("reward_std") == pytest.approx((0.5**0.5 * 1.5) / 8)
    assert report == {
        "groups": 8,
        "effective": 2,
        "unparsable": 1,
        "all_wrong": 2,
        "all_right": 2,
        "tied": 1,
        "no_hit": 4,
        "every_hit": 2,
    }


def test_partition_and_agreement_with_the_advantages():
    rng = np.random.default_rng(0)
    counts_of = jax.jit(group_signal)
    for _ in range(30):
        hits = rng.random((16, 4)) < rng.random((16, 1)).round()
        parsed = hits | (rng.random((16, 4)) < rng.random((16, 1)).round())
        rewards = jnp.asarray(hits + 0.5 * parsed)
        valid = rng.random(16) < 0.7
        places = jnp.asarray(valid[:, None])
        report = counts_of(
            rewards, jnp.asarray(hits), jnp.asarray(parsed), valid=places
        )
        assert sum(float(report[c]) for c in CLASSES) == float(report["groups"])
        assert float(report["groups"]) == valid.sum()
        advantages = group_advantages(rewards, scale="group", valid=places)
        moved = np.any(np.asarray(advantages) != 0, axis=1)
        assert float(report["effective"]) == moved.sum()
        signal = np.asarray(has_signal(rewards, floor=1e-6))
        np.testing.assert_array_equal(signal & valid, moved)


def test_no_valid_row():
    report = report_of(GROUPS, jnp.zeros((8, 1), bool))
    assert all(float(v) == 0 for v in report.values())


def test_each_reward_by_itself():
    rewards = {
        "label": jnp.asarray([[1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 1, 0]], jnp.float32),
        "recite": jnp.asarray([[0.1, 0.3, 0.2], [0.5] * 3, [NAN, 1, NAN], [0, 2, 4]]),
    }
    scored = {name: ~jnp.isnan(x) for name, x in rewards.items()}
    report = jax.jit(reward_signal)(rewards, scored=scored)
    report = {k: float(v) for k, v in report.items()}
    assert report == pytest.approx(
        {
            "label_tied": 0.5,
            "label_std": 2 * (1 / 3) ** 0.5 / 4,
            "recite_tied": 0.5,
            "recite_std": (0.1 + 2) / 4,
        }
    )
    valid = jnp.asarray([False, True, True, False])[:, None]
    report = reward_signal(rewards, scored=scored, valid=valid)
    assert all(float(report[f"{name}_tied"]) == 1 for name in rewards)
    report = reward_signal(rewards, scored=scored, valid=valid & False)
    assert all(float(v) == 0 for v in report.values())


def test_a_nan_that_counts_is_no_tie():
    rewards = jnp.asarray([[NAN, 1.0], [1.0, 1.0]])
    hits = jnp.ones((2, 2), bool)
    np.testing.assert_array_equal(has_signal(rewards, floor=1e-6), [True, False])
    report = group_signal(rewards, hits, hits)
    assert float(report["effective"]) == 1 and jnp.isnan(report["reward_std"])
    report = reward_signal({"a": rewards})
    assert float(report["a_tied"]) == 0.5 and jnp.isnan(report["a_std"])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (1, 1)])
def test_sizes_0_and_1(shape):
    rewards, hits = jnp.ones(shape), jnp.ones(shape, bool)
    report = group_signal(rewards, hits, hits)
    groups = float(np.prod(shape) > 0)
    assert float(report["groups"]) == float(report["all_right"]) == groups
    assert float(report["reward_std"]) == 0
    assert float(reward_signal({"a": rewards})["a_tied"]) == groups
    assert not jnp.any(has_signal(rewards, floor=0.0))


def test_a_reward_that_is_tied_gives_no_advantage_alone():
    rng = np.random.default_rng(1)
    rewards = jnp.asarray(rng.integers(0, 2, (64, 3)), jnp.float32)
    moved = jnp.any(group_advantages(rewards, scale="group") != 0, axis=1)
    report = reward_signal({"label": rewards})
    assert float(report["label_tied"]) == pytest.approx(1 - float(moved.mean()))


def test_a_mark_for_no_reward_is_refused():
    ones = jnp.ones((1, 2))
    with pytest.raises(ValueError, match=r"scored: expected names .*'a'.*found \['b'"):
        reward_signal({"a": ones}, scored={"b": ones > 0})
