"""Scores of counted answers against scikit-learn, and at their edges."""

import numpy as np
import pytest

from medjax.evals.confusion import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion,
    grade_error,
    macro_f1,
    parse_rate,
    quadratic_kappa,
)


@pytest.mark.parametrize("seed", range(6))
def test_against_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    # few answers: some classes do not occur, or are never answered
    rng = np.random.default_rng(seed)
    true, said = rng.integers(5, size=(2, 9 if seed < 3 else 60))
    said = np.where(rng.random(len(true)) < 0.5, true, said)
    counts = confusion(true, said, 5)
    assert np.array_equal(
        counts[:, :-1], metrics.confusion_matrix(true, said, labels=range(5))
    )
    assert np.isclose(accuracy(counts), metrics.accuracy_score(true, said))
    keep = np.isin(said, true)  # it warns of answers that are never true
    expected = np.mean([np.mean(said[true == c] == c) for c in np.unique(true)])
    if keep.all():
        assert np.isclose(expected, metrics.balanced_accuracy_score(true, said))
    assert np.isclose(balanced_accuracy(counts), expected)
    f1 = metrics.f1_score(true, said, average="macro", zero_division=0.0)
    assert np.isclose(macro_f1(counts), f1)
    kappa = metrics.cohen_kappa_score(
        true, said, weights="quadratic", labels=list(range(5))
    )
    assert np.isclose(quadratic_kappa(counts), kappa)
    assert np.isclose(grade_error(counts), metrics.mean_absolute_error(true, said))
    assert parse_rate(counts) == 1
    each = class_scores(counts)
    for average, name in ((None, "recall"), (None, "precision")):
        score = getattr(metrics, f"{name}_score")
        wanted = score(
            true, said, average=average, labels=range(5), zero_division=np.nan
        )
        assert np.allclose(each[name], wanted, equal_nan=True)


def test_unread_answers_are_wrong_and_as_far_off_as_can_be():
    label, said = np.array([0, 1, 2, 3, 4]), np.array([0, 1, 2, -1, -1])
    counts = confusion(label, said, 5)
    assert counts[:, -1].tolist() == [0, 0, 0, 1, 1]
    assert np.isclose(accuracy(counts), 0.6) and np.isclose(parse_rate(counts), 0.6)
    far = confusion(label, np.array([0, 1, 2, 0, 0]), 5)
    assert grade_error(counts) == grade_error(far) == (3 + 4) / 5
    assert quadratic_kappa(counts) == quadratic_kappa(far)
    nobody = confusion(label, np.full(5, -1), 5)
    assert grade_error(nobody) == (4 + 3 + 2 + 3 + 4) / 5
    assert accuracy(nobody) == parse_rate(nobody) == macro_f1(nobody) == 0


def test_right_and_opposite_grades():
    label = np.arange(10) % 5
    right = confusion(label, label, 5)
    assert quadratic_kappa(right) == balanced_accuracy(right) == macro_f1(right) == 1
    assert grade_error(right) == 0
    assert np.isclose(quadratic_kappa(confusion(label, 4 - label, 5)), -1)


def test_one_class_only():
    counts = confusion(np.zeros(4, int), np.zeros(4, int), 3)
    assert accuracy(counts) == balanced_accuracy(counts) == 1
    assert np.isnan(quadratic_kappa(counts))


@pytest.mark.parametrize(
    ("label", "predicted", "message"),
    [
        ([0, 4], [0, 0], "label 4 of row 1 is outside the 4 classes 0 to 3"),
        ([-1, 0], [0, 0], "label -1 of row 0"),
        ([0, 1], [0, 4], "answer 4 of row 1"),
        ([0, 1], [0, -2], "answer -2 of row 1"),
        ([0, 1], [0], "2 labels and 1 answers"),
    ],
)
def test_what_is_refused(label, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion(np.array(label), np.array(predicted), 4)
