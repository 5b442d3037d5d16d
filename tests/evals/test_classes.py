"""Scores of answers and their intervals against loops, and the tables of them."""

import numpy as np
import pytest

from medjax.evals.classes import (
    LabelAnswers,
    balance_table,
    bootstrap,
    by_question,
    confusion_table,
    scores,
    summary_table,
    vote_by_group,
)
from medjax.evals.confusion import confusion
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


def test_a_difference_is_paired_by_resampled_groups():
    """Both answer the same questions: a resampled group counts for both."""
    policy, before = make(seed=1), make(seed=1)
    worse = before._replace(predicted=np.where(before.length > 12, -1, before.label))
    how = {"num_classes": 4, "ordinal": False, "level": 0.9, "seed": 3}
    contenders = {"policy": policy, "warm": worse}
    table = summary_table(contenders, **how, num_samples=64, against="warm")
    at = table.header.index("minus warm")
    assert table.header[at - 1] == "accuracy" and table.rows[1][at] == "-"
    gained = (policy.predicted == policy.label) - (worse.predicted == worse.label) * 1.0
    names, drawn = np.unique(policy.group), []
    rng = np.random.default_rng(3)
    for counts in rng.multinomial(len(names), np.full(len(names), 1 / len(names)), 64):
        weight = counts[np.searchsorted(names, policy.group)]
        drawn.append((weight * gained).sum() / weight.sum())
    low, high = np.percentile(drawn, [5, 95])
    assert table.rows[0][at] == f"{gained.mean():.3f} [{low:.3f}, {high:.3f}]"


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


def test_a_group_answers_by_its_votes():
    said = [0, 1, 1, -1, 2, 0, -1, -1, 1, 0]
    group = ["a", "a", "a", "a", "b", "b", "c", "c", "d", "d"]
    answers = LabelAnswers(
        label=np.array([1, 1, 1, 1, 2, 2, 0, 0, 1, 1], np.int32),
        predicted=np.array(said, np.int32),
        group=np.array(group),
        question=np.array(["q"] * 10),
        length=np.ones(10),
        overlap=np.zeros(10),
    )
    voted = vote_by_group(answers)
    assert voted.group.tolist() == ["a", "b", "c", "d"]
    assert voted.label.tolist() == [1, 2, 0, 1]
    # b: one vote each, so the lower number; c: nothing was read
    assert voted.predicted.tolist() == [1, 0, -1, 0]
    assert np.isnan(voted.length).all() and np.isnan(voted.overlap).all()
    assert scores(voted, num_classes=3, ordinal=False)["accuracy"] == 0.25
    two = LabelAnswers(*(np.tile(column, 2) for column in answers))
    two = two._replace(question=np.repeat(["p", "q"], 10))
    assert len(vote_by_group(two).label) == 8
    none = LabelAnswers(*(column[:0] for column in answers))
    assert len(vote_by_group(none).label) == 0
    with pytest.raises(ValueError, match="group a: pictures of different classes"):
        vote_by_group(answers._replace(label=np.arange(10, dtype=np.int32) % 3))
