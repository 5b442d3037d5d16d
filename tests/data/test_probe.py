"""Baselines: majority, and the linear probe against scikit-learn."""

import numpy as np
import pytest

from medjax.data.class_batches import eval_label_batches
from medjax.data.probe import (
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


def test_the_probe_is_the_minimum_of_its_objective():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.random((200, 6))
    y = (x @ rng.normal(size=(6, 3)) + rng.normal(0, 0.3, (200, 3))).argmax(axis=1)
    penalty = 0.03
    probe = fit_probe(x, y, num_classes=3, penalty=penalty)
    z = (x - probe.mean) / probe.scale
    # its C weighs the sum of losses against |W|^2 / 2
    peer = linear.LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=1000)
    peer.fit(z, y)
    scores = z @ probe.weights[:-1] + probe.weights[-1]
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert np.abs(shares - peer.predict_proba(z)).max() < 2e-3  # of both solvers
    assert np.mean(probe_classes(probe, x) == peer.predict(z)) > 0.99


def test_even_pictures_do_not_divide_by_zero():
    probe = fit_probe(np.ones((6, 4)), np.arange(6) % 2, num_classes=2, penalty=0.1)
    assert np.isfinite(probe.weights).all()
