"""Rewards of sets of labels against scikit-learn and loops over Python's sets."""

import jax
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, hamming_loss

from medjax.rl.label_set_rewards import (
    SET_RULES,
    label_accuracy,
    label_set_exact,
    label_set_f1,
    label_set_reward,
)


def draw(rows=4000, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    shown, target = rng.random((2, rows, classes)) < 0.35
    read = rng.random(rows) < 0.9
    return shown & read[:, None], target, read


def test_f1_of_every_pair_of_small_sets():
    every = np.array([[n >> c & 1 for c in range(4)] for n in range(16)], bool)
    shown, target = np.repeat(every, 16, axis=0), np.tile(every, (16, 1))
    found = label_set_f1(shown, target, np.ones(256, bool))
    for value, a, b in zip(np.asarray(found), shown, target, strict=True):
        one, other = set(np.flatnonzero(a)), set(np.flatnonzero(b))
        both = len(one) + len(other)
        expected = 2 * len(one & other) / both if both else 1.0
        assert value == np.float32(expected)
    assert found.dtype == np.float32


def test_means_are_those_of_scikit_learn():
    shown, target, read = draw()
    read[:] = True
    means = {
        label_set_f1: f1_score(target, shown, average="samples", zero_division=1.0),
        label_set_exact: accuracy_score(target, shown),
        label_accuracy: 1 - hamming_loss(target, shown),
    }
    for reward, expected in means.items():
        found = np.mean(np.asarray(reward(shown, target, read), np.float64))
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rule", SET_RULES)
def test_what_was_not_read_earns_nothing(rule):
    shown, target, read = draw()
    target[:50] = False  # an unread answer is not the empty set
    found = np.asarray(
        jax.jit(label_set_reward, static_argnums=0)(rule, shown, target, read)
    )
    assert (found[~read] == 0).all() and (found[read] > 0).any()
    assert found.min() >= 0 and found.max() == 1
    grouped = label_set_reward(
        rule,
        shown.reshape(40, 100, 5),
        target.reshape(40, 100, 5),
        read.reshape(40, -1),
    )
    assert np.array_equal(grouped.reshape(-1), found)


def test_bad_arguments():
    shown, target, read = draw(8)
    with pytest.raises(ValueError, match="label_set_f1: target"):
        label_set_f1(shown, target[:, :4], read)
    with pytest.raises(ValueError, match="label_set_exact: shown"):
        label_set_exact(shown.astype(int), target, read)
    with pytest.raises(ValueError, match="expected a class; found none"):
        label_accuracy(shown[:, :0], target[:, :0], read)
    with pytest.raises(ValueError, match="rule 'jaccard': expected one of f1, exact"):
        label_set_reward("jaccard", shown, target, read)
