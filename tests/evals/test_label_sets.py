"""Scores of sets of labels against scikit-learn, and their intervals by resampling."""

import warnings

import numpy as np
import pytest
from sklearn import metrics

from medjax.evals.label_sets import (
    LabelSetAnswers,
    class_auroc,
    label_set_intervals,
    label_set_scores,
    label_set_summary,
    label_table,
    prevalence_table,
)

CLASSES = ("edema", "mass", "nodule", "hernia")


def draw(rows=400, classes=4, *, seed=0, unread=0.0, score=True):
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, classes)) < np.linspace(0.4, 0.05, classes)
    scores = np.round(rng.standard_normal((rows, classes)) + 1.5 * truth, 1)  # ties
    read = rng.random(rows) >= unread
    return LabelSetAnswers(
        truth=truth,
        named=(scores > 0.7) & read[:, None],
        read=read,
        group=np.arange(rows) // 3,
        length=np.where(rng.random(rows) < 0.9, 12.0, np.nan),
        overlap=np.full(rows, np.nan),
        score=scores if score else None,
    )


def test_scores_are_those_of_scikit_learn():
    answers = draw()
    truth, named = answers.truth, answers.named
    found = label_set_scores(answers)
    f1 = {
        average: metrics.f1_score(truth, named, average=average, zero_division=1.0)
        for average in ("samples", "micro", "macro")
    }
    expected = {
        "set F1": f1["samples"],
        "micro F1": f1["micro"],
        "macro F1": f1["macro"],
        "exact match": metrics.accuracy_score(truth, named),
        "Hamming loss": metrics.hamming_loss(truth, named),
        "macro AUROC": metrics.roc_auc_score(truth, answers.score, average="macro"),
        "parsed": 1.0,
        "length": 12.0,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert np.isnan(found["overlap"])


def test_an_unread_answer_is_wrong_about_every_class():
    answers = draw(unread=0.3)
    unread = ~answers.read
    assert (~answers.truth[unread].any(axis=1)).any()  # not right for naming nothing
    as_read = answers._replace(
        named=np.where(unread[:, None], ~answers.truth, answers.named),
        read=np.ones(len(unread), bool),
    )
    found, expected = label_set_scores(answers), label_set_scores(as_read)
    assert found.pop("parsed") == pytest.approx(1 - unread.mean())
    del expected["parsed"]
    assert found == pytest.approx(expected, nan_ok=True)
    silent = answers._replace(read=np.zeros(len(unread), bool))
    worst = label_set_scores(silent)
    assert worst["Hamming loss"] == 1 and worst["exact match"] == 0
    assert worst["set F1"] == worst["micro F1"] == worst["macro F1"] == 0


def test_each_class_of_the_table():
    answers = draw(unread=0.1)
    named = np.where(answers.read[:, None], answers.named, ~answers.truth)
    counts = metrics.multilabel_confusion_matrix(answers.truth, named)
    table = label_table(answers, CLASSES, title="policy: each class")
    assert f"{(~answers.read).sum()} unread" in table.title
    assert table.header[1:6] == ("shown", "named", "right", "wrongly named", "missed")
    assert table.header[6:] == ("sensitivity", "specificity", "F1", "AUROC")
    for n, row in enumerate(table.rows):
        (clear, over), (missed, hit) = counts[n].tolist()
        assert row[0] == CLASSES[n]
        assert [int(x) for x in row[1:6]] == [
            hit + missed,
            hit + over,
            hit,
            over,
            missed,
        ]
        expected = (
            hit / (hit + missed),
            clear / (clear + over),
            2 * hit / (2 * hit + over + missed),
            metrics.roc_auc_score(answers.truth[:, n], answers.score[:, n]),
        )
        assert row[6:] == tuple(f"{x:.3f}" for x in expected)


def test_without_a_score_there_is_no_auroc():
    answers = draw(score=False)
    assert np.isnan(label_set_scores(answers)["macro AUROC"])
    table = label_table(answers, CLASSES, title="none")
    assert "AUROC" not in table.header and "no score, so no AUROC" in table.title
    summary = label_set_summary(
        {"none": answers}, num_samples=5, level=0.9, seed=0, against=None
    )
    row = dict(zip(summary.header, summary.rows[0], strict=True))
    assert row["macro AUROC"] == "-" and "no AUROC" in summary.title


def test_weighted_auroc_is_that_of_repeated_answers():
    rng = np.random.default_rng(3)
    score, shown = np.round(rng.standard_normal(60), 1), rng.random(60) < 0.3
    weights = rng.integers(0, 3, (5, 60))
    found = class_auroc(score, shown, weights.astype(float))
    for value, times in zip(found, weights, strict=True):
        rows = np.repeat(np.arange(60), times)
        assert value == pytest.approx(metrics.roc_auc_score(shown[rows], score[rows]))
    assert np.isnan(class_auroc(score, np.zeros(60, bool)))
    assert np.isnan(class_auroc(score[:0], shown[:0]))


def test_intervals_resample_groups():
    """By hand: the answers of drawn groups, one after another, scored anew."""
    answers = draw(90, seed=4, unread=0.1)
    found = label_set_intervals(answers, num_samples=40, level=0.8, seed=7)
    drawn = np.random.default_rng(7).multinomial(30, np.full(30, 1 / 30), size=40)
    samples = {name: [] for name in found}
    for times in drawn:
        rows = np.concatenate(
            [
                np.tile(np.flatnonzero(answers.group == g), n)
                for g, n in enumerate(times)
            ]
        )
        again = LabelSetAnswers(*(column[rows] for column in answers))
        for name, value in label_set_scores(again).items():
            samples[name].append(value)
    for name, interval in found.items():
        if name == "overlap":
            assert np.isnan(interval).all()
            continue
        low, high = np.nanpercentile(samples[name], [10, 90])
        assert interval.low == pytest.approx(low, abs=1e-9), name
        assert interval.high == pytest.approx(high, abs=1e-9), name
        assert interval.value == label_set_scores(answers)[name]


def test_classes_that_never_occur_and_no_answers():
    answers = draw(50)
    rare = answers._replace(
        truth=answers.truth & (np.arange(4) < 3),
        named=answers.named & (np.arange(4) < 3),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = label_set_scores(rare)
        empty = label_set_scores(LabelSetAnswers(*(column[:0] for column in answers)))
    first = metrics.f1_score(rare.truth[:, :3], rare.named[:, :3], average="macro")
    assert found["macro F1"] == pytest.approx(first)
    assert all(np.isnan(value) for value in empty.values())
    assert label_table(rare, CLASSES, title="x").rows[3][6:] == ("-", "1.000", "-", "-")


def test_the_summary_compares_with_another():
    one, other = draw(60), draw(60)._replace(named=np.zeros((60, 4), bool), score=None)
    table = label_set_summary(
        {"grpo": one, "none": other}, num_samples=20, level=0.9, seed=0, against="none"
    )
    assert table.header[:4] == ("", "n", "set F1", "minus none")
    gain = label_set_scores(one)["set F1"] - label_set_scores(other)["set F1"]
    assert table.rows[0][3].startswith(f"{gain:.3f} [") and table.rows[1][3] == "-"


def test_prevalence_of_both_parts():
    train = np.array([[1, 0], [1, 1], [0, 0], [0, 0]])
    table = prevalence_table(("a", "b"), {"train": train, "test": train[:2]})
    assert table.rows == (
        ("a", "2", "50.0 %", "2", "100.0 %"),
        ("b", "1", "25.0 %", "1", "50.0 %"),
        ("none", "2", "50.0 %", "0", "0.0 %"),
    )
    assert "0.75 in train, 1.50 in test" in table.title


def test_arrays_that_do_not_belong_together():
    answers = draw(8)
    with pytest.raises(ValueError, match="named: shape"):
        label_set_scores(answers._replace(named=answers.named[:, :3]))
    with pytest.raises(ValueError, match="score: expected finite"):
        label_set_scores(answers._replace(score=answers.score * np.nan))
    with pytest.raises(ValueError, match="group: 7 rows; expected 8"):
        label_set_scores(answers._replace(group=answers.group[:7]))
