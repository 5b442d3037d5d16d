"""Baselines: majority, and the linear probe against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import optimize, special

from medjax.data.classes.batches import eval_label_batches
from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.probe import (
    choose_pictures,
    fit_probe,
    majority_answers,
    picture_pixels,
    probe_answers,
    probe_classes,
)
from tests.data.toy_classes import TASK, make_encoding, make_pictures, make_wording


@pytest.fixture(scope="module")
def records():
    wording = make_wording()
    batches = eval_label_batches(
        make_pictures(), wording, make_encoding(wording), batch=4, seed=1
    )
    return [r for _, some in batches for r in some]


def test_majority_of_each_question(records):
    train = make_pictures(count=10)  # 4 dark of 10; 6 on the left
    found = majority_answers(TASK, train, records)
    expected = [0 if r.question == "tone" else 3 for r in records]
    assert found.tolist() == expected


def test_the_probe_sees_tone_and_side(records):
    options = {"side": 4, "draws": 2, "penalty": 1e-3, "seed": 0}
    found = probe_answers(TASK, make_pictures(), records, **options)
    assert found.tolist() == [r.label for r in records]
    again = probe_answers(TASK, make_pictures(), records, **options)
    assert np.array_equal(found, again)


def test_pixels_are_area_means():
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    means = image.reshape(2, 4, 2, 4, 3).mean(axis=(1, 3)).reshape(-1, 3)
    assert (
        np.abs(picture_pixels(image, 2) * 255 - means).max() <= 0.51
    )  # to whole greys


def make_problem(counts, *, features=5, seed=0):
    """Overlapping classes of different sizes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = rng.normal(0, 0.3, (len(counts), features))
    return centres[labels] + rng.normal(0, 0.4, (len(labels), features)), labels


def objective(flat, x, y, penalty):
    """Mean over classes of their mean cross-entropy, written as loops, float64."""
    weights = flat.reshape(x.shape[1] + 1, -1)
    logits = x @ weights[:-1] + weights[-1]
    logits = logits - logits.max(axis=1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    losses = [-np.mean(logp[y == label, label]) for label in np.unique(y)]
    return np.mean(losses) + penalty / 2 * np.sum(weights[:-1] ** 2)


@pytest.mark.parametrize("counts", [(60, 60, 60), (150, 12, 40), (200, 0, 5)])
def test_the_probe_is_the_minimum_of_its_objective(counts):
    x, y = make_problem(counts)
    penalty = 0.03
    probe = fit_probe(x, y, num_classes=len(counts), penalty=penalty)
    z = (x - probe.mean) / probe.scale
    kept = [n for n, count in enumerate(counts) if count]  # others go to minus infinity
    problem = (z, np.searchsorted(kept, y), penalty)
    peer = optimize.minimize(
        objective,
        np.zeros((x.shape[1] + 1) * len(kept)),
        problem,
        method="BFGS",
        options={"gtol": 1e-7},
    )
    ours = objective(probe.weights[:, kept].astype(np.float64).ravel(), *problem)
    assert ours - peer.fun < 1e-5  # float32, and a class left out is not yet infinite
    weights = peer.x.reshape(x.shape[1] + 1, -1)
    shares, found = (
        special.softmax(z @ w[:-1] + w[-1], axis=1)
        for w in (weights, probe.weights[:, kept])
    )
    assert np.abs(shares - found).max() < 2e-3
    predicted = np.array(kept)[shares.argmax(axis=1)]
    assert np.mean(probe_classes(probe, x) == predicted) > 0.99


def test_the_probe_agrees_with_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = make_problem((150, 12, 40), seed=1)
    penalty = 0.03
    probe = fit_probe(x, y, num_classes=3, penalty=penalty)
    z = (x - probe.mean) / probe.scale
    # its C weighs the sum of weighted losses against |W|^2 / 2
    peer = linear.LogisticRegression(
        C=1 / (penalty * len(y)), class_weight="balanced", tol=1e-8, max_iter=1000
    )
    peer.fit(z, y)
    shares = special.softmax(z @ probe.weights[:-1] + probe.weights[-1], axis=1)
    assert np.abs(shares - peer.predict_proba(z)).max() < 2e-3  # of both solvers


def test_pixels_are_standardised_with_equal_classes():
    x, y = make_problem((90, 10))
    probe = fit_probe(x, y, num_classes=2, penalty=0.1)
    means = np.stack([x[y == label].mean(axis=0) for label in (0, 1)])
    assert np.allclose(probe.mean, means.mean(axis=0), atol=1e-12)
    spread = [((x[y == label] - probe.mean) ** 2).mean() for label in (0, 1)]
    assert np.isclose(probe.scale, np.sqrt(np.mean(spread)), rtol=1e-12)


def test_repeating_a_class_changes_nothing():
    x, y = make_problem((40, 10))
    again = np.concatenate([np.arange(50), np.arange(40, 50), np.arange(40, 50)])
    one, two = (
        fit_probe(x[rows], y[rows], num_classes=2, penalty=0.03)
        for rows in (np.arange(50), again)
    )
    assert np.abs(one.weights - two.weights).max() < 1e-4  # of float32 sums


def test_a_rare_class_is_not_given_up():
    """Unweighted, the likeliest class of nearly all pictures would be the larger."""
    y = np.repeat([0, 1], [980, 20])
    x = y[:, None] + np.random.default_rng(0).normal(0, 0.7, (1000, 1))
    probe = fit_probe(x, y, num_classes=2, penalty=1e-3)
    right = probe_classes(probe, x) == y
    assert min(right[y == label].mean() for label in (0, 1)) > 0.5


@pytest.mark.parametrize(("drawn", "looked_at"), [(True, 3 * 30), (False, 30)])
def test_pictures_in_files_are_looked_at_once(records, drawn, looked_at):
    asked = []

    def picture(n, rng):
        asked.append(n)
        image = np.full((28, 28, 3), 40 + 80 * (n % 3), np.uint8)
        noise = rng.integers(0, 30, image.shape) if drawn else 0
        return Picture((image + noise).astype(np.uint8), f"toy {n}", f"toy {n}")

    labels = make_pictures(count=30).labels
    train = Pictures(30, picture, labels, ((28, 28),))
    options = {"side": 4, "draws": 3, "penalty": 1e-3, "seed": 0}
    probe_answers(TASK, train, records, **options)
    counts = np.bincount(asked[-looked_at:], minlength=30)
    assert (counts == looked_at // 30).all()
    assert len(asked) - looked_at <= 16  # two draws of the first eight, to compare


def test_large_parts_are_sampled(records, monkeypatch):
    monkeypatch.setattr("medjax.data.classes.probe.MOST", 40)
    options = {"side": 4, "draws": 2, "penalty": 1e-3, "seed": 0}
    fitted = []
    monkeypatch.setattr(
        "medjax.data.classes.probe.fit_probe",
        lambda x, y, **how: fitted.append(y) or fit_probe(x, y, **how),
    )
    train = make_pictures(count=60)
    found = probe_answers(TASK, train, records, **options)
    assert [len(labels) for labels in fitted] == [40, 40]
    assert found.tolist() == [r.label for r in records]  # rows still have their labels


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [
        ((1000, 30, 0, 8), 60, [26, 26, 0, 8]),
        ((1000, 30, 500), 60, [20, 20, 20]),
        ((50, 50), 20, [10, 10]),
        ((3, 2), 5, [3, 2]),
        ((9,), 4, [4]),
    ],
)
def test_classes_are_chosen_from_equally(counts, most, expected):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    chosen = choose_pictures(labels, most=most, seed=0)
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(labels[chosen], minlength=len(counts)).tolist() == expected
    assert np.array_equal(chosen, choose_pictures(labels, most=most, seed=0))
    if most < len(labels):
        other = choose_pictures(labels, most=most, seed=1)
        assert not np.array_equal(chosen, other)


def test_each_question_has_its_own_choice(records, monkeypatch):
    """Classes that are rare in one question are not lost to another's."""
    monkeypatch.setattr("medjax.data.classes.probe.MOST", 12)
    fitted = []
    monkeypatch.setattr(
        "medjax.data.classes.probe.fit_probe",
        lambda x, y, **how: fitted.append((x, y)) or fit_probe(x, y, **how),
    )
    index = np.arange(200)
    tone, side = np.minimum(index // 90, 2), 3 + (index < 6)

    def picture(n, rng):
        image = np.full((28, 28, 3), 20 * tone[n] + 100 * (side[n] == 4), np.uint8)
        return Picture(image, f"toy {n}", f"toy {n}")

    labels = np.stack([tone, side], axis=-1).astype(np.int32)
    train = Pictures(200, picture, labels, ((28, 28),))
    probe_answers(TASK, train, records, side=2, draws=1, penalty=1e-3, seed=0)
    (x, tones), (z, sides) = fitted
    assert np.bincount(tones).tolist() == [4, 4, 4]
    assert np.bincount(sides)[3:].tolist() == [6, 6]
    seen = np.round(255 * x[:, 0]).astype(int) % 100 // 20
    assert np.array_equal(seen, tones)  # each row is its label's picture
    assert np.array_equal(np.round(255 * z[:, 0]) >= 100, sides == 4)


def test_even_pictures_do_not_divide_by_zero():
    probe = fit_probe(np.ones((6, 4)), np.arange(6) % 2, num_classes=2, penalty=0.1)
    assert np.isfinite(probe.weights).all()
