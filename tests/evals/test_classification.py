"""Scores of classes and grades against scikit-learn, loops, and at their edges."""

import numpy as np
import pytest

from medjax.evals.classification import (
    LabelAnswers,
    accuracy,
    balance_table,
    balanced_accuracy,
    bootstrap,
    by_question,
    class_scores,
    confusion,
    confusion_table,
    grade_error,
    macro_f1,
    parse_rate,
    quadratic_kappa,
    scores,
    summary_table,
)
from medjax.evals.tables import render_text


def make(count=60, classes=4, *, seed=0, unread=0.0, groups=12):
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=count)
    predicted = np.where(
        rng.random(count) < 0.6, label, rng.integers(classes, size=count)
    )
    predicted = np.where(rng.random(count) < unread, -1, predicted)
    return LabelAnswers(
        label=label,
        predicted=predicted,
        group=rng.integers(groups, size=count),
        question=np.array(["a", "b"])[rng.integers(2, size=count)],
        length=rng.integers(5, 20, count).astype(float),
        overlap=rng.random(count),
    )


@pytest.mark.parametrize("seed", range(6))
def test_against_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    # few answers: some classes do not occur, or are never answered
    answers = make(9 if seed < 3 else 60, 5, seed=seed)
    true, said = answers.label, answers.predicted
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


def test_scores_of_texts():
    answers = make(unread=0.2)._replace(overlap=np.full(60, np.nan))
    found = scores(answers, num_classes=4, ordinal=False)
    assert list(found) == [
        *("accuracy", "balanced accuracy", "macro F1", "parsed", "length", "overlap")
    ]
    assert found["length"] == answers.length.mean() and np.isnan(found["overlap"])
    graded = scores(answers, num_classes=4, ordinal=True)
    assert {"kappa", "grade error"} < set(graded)


def test_bootstrap_is_that_of_resampled_groups():
    answers = make(40, 3, unread=0.1, groups=6)
    answers.overlap[::3] = np.nan
    options = {"num_classes": 3, "ordinal": True}
    found = bootstrap(answers, **options, num_samples=64, level=0.9, seed=5)
    names = np.unique(answers.group)
    drawn = np.random.default_rng(5).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=64
    )
    samples = []
    for counts in drawn:
        rows = np.concatenate(
            [
                np.tile(np.flatnonzero(answers.group == name), times)
                for name, times in zip(names, counts, strict=True)
            ]
        )
        samples.append(scores(LabelAnswers(*(c[rows] for c in answers)), **options))
    for name, interval in found.items():
        column = np.array([sample[name] for sample in samples])
        ends = np.percentile(column[~np.isnan(column)], [5, 95])
        assert np.allclose(interval[1:], ends), name
        assert interval.value == scores(answers, **options)[name]


def test_bootstrap_at_its_edges():
    options = {"num_classes": 4, "ordinal": False, "num_samples": 20, "level": 0.9}
    one = bootstrap(make(groups=1), **options, seed=0)["accuracy"]
    assert one.low == one.value == one.high
    none = LabelAnswers(*(column[:0] for column in make()))
    assert all(np.isnan(v).all() for v in bootstrap(none, **options, seed=0).values())
    texts = make()._replace(length=np.full(60, np.nan))
    assert np.isnan(bootstrap(texts, **options, seed=0)["length"]).all()


def test_by_question():
    answers = make()
    parts = by_question(answers)
    assert list(parts) == ["a", "b"]
    assert sum(len(part.label) for part in parts.values()) == 60
    assert (parts["a"].question == "a").all()


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


def test_tables():
    answers = make(unread=0.1)
    baseline = answers._replace(
        predicted=np.zeros(60, int), length=np.full(60, np.nan), overlap=answers.length
    )
    options = {"num_classes": 4, "ordinal": True, "level": 0.95, "seed": 0}
    table = summary_table(
        {"policy": answers, "majority": baseline}, **options, num_samples=50
    )
    assert table.header[:3] == ("", "n", "accuracy") and len(table.rows) == 2
    assert table.rows[1][table.header.index("length")] == "-"
    assert "95 % intervals" in render_text(table)
    names = ("w", "x", "y", "z")
    grid = confusion_table(answers, names, title="policy")
    counts = confusion(answers.label, answers.predicted, 4)
    assert [row[1:6] for row in grid.rows] == [
        tuple(map(str, r)) for r in counts.tolist()
    ]
    assert grid.header[5:] == ("unread", "recall", "precision", "F1")
    never = confusion_table(baseline, names, title="majority")
    assert never.rows[1][-2] == "-"  # never answered


def test_balance():
    parts = {"train": np.array([30, 10, 0]), "test": np.array([1, 1, 2])}
    table = balance_table(("a", "b", "c"), parts)
    assert table.rows[0] == ("a", "30", "75.0 %", "1", "25.0 %")
    assert table.title.endswith("train: infinity")
    even = balance_table(("a", "b"), {"train": np.array([30, 10])})
    assert even.title.endswith("3.0")
