"""Answers without a language model: the majority class, and a linear probe on pixels.

A policy that does not beat the first has learnt nothing, and one that does not beat the
second did not need to see more than a blurred picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from medjax.data.class_batches import LabelRecord
from medjax.data.labels import ClassTask
from medjax.data.pictures import Pictures, class_counts


class Probe(NamedTuple):
    """A multinomial logistic regression on standardised pixels."""

    mean: Float[np.ndarray, "F"]
    scale: float  # one for all pixels
    weights: Float[np.ndarray, "F+1 C"]  # the last row: biases


def majority_answers(
    task: ClassTask, train: Pictures, records: Sequence[LabelRecord]
) -> Int[np.ndarray, "n"]:
    """The most frequent training class of each record's question; ties: the first."""
    most = {
        question.name: int(class_counts(train, len(task.classes), m).argmax())
        for m, question in enumerate(task.questions)
    }
    return np.array([most[record.question] for record in records], np.int32)


def probe_answers(
    task: ClassTask,
    train: Pictures,
    records: Sequence[LabelRecord],
    *,
    side: int,
    draws: int,
    penalty: float,
    seed: int,
) -> Int[np.ndarray, "n"]:
    """What a linear probe trained on the training part answers to the records.

    Args:
        task: whose questions are asked; one probe each.
        train: the training part.
        records: of an evaluation.
        side: pixels a side to which pictures are reduced.
        draws: of each training picture, where it differs from draw to draw.
        penalty: of the squared weights, see `fit_probe`.
        seed: of the draws.
    """
    shown = [
        picture_pixels(
            train.picture(index, np.random.default_rng((seed, index, draw))).image,
            side,
        )
        for draw in range(draws)
        for index in range(train.count)
    ]
    pixels = np.stack(shown)
    asked = np.stack([picture_pixels(record.image, side) for record in records])
    if (pixels == pixels[..., :1]).all():  # grey: one channel says it all
        pixels, asked = pixels[..., :1], asked[..., :1]
    pixels, asked = (x.reshape(len(x), -1) for x in (pixels, asked))
    answers = np.zeros(len(records), np.int32)
    for m, question in enumerate(task.questions):
        rows = [
            n for n, record in enumerate(records) if record.question == question.name
        ]
        if rows:
            labels = np.tile(train.labels[:, m], draws)
            probe = fit_probe(
                pixels, labels, num_classes=len(task.classes), penalty=penalty
            )
            answers[rows] = probe_classes(probe, asked[rows])
    return answers


def picture_pixels(
    image: UInt8[np.ndarray, "h w 3"], side: int
) -> Float[np.ndarray, "side*side 3"]:
    """Pixels of the picture at side x side, 0-1."""
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1, 3) / 255


def fit_probe(
    pixels: Float[np.ndarray, "n F"],
    labels: Int[np.ndarray, "n"],
    *,
    num_classes: int,
    penalty: float,
) -> Probe:
    """Minimise mean cross-entropy + penalty / 2 * |W|^2 by L-BFGS; deterministic.

    Pixels are centred and divided by their common deviation; biases are free.
    """
    from scipy.optimize import minimize

    mean = pixels.mean(axis=0, dtype=np.float64)
    scale = max(float((pixels - mean).std()), 1e-6)
    x = np.concatenate([(pixels - mean) / scale, np.ones((len(pixels), 1))], axis=1)
    rows = np.arange(len(x))

    def objective(flat: Float[np.ndarray, "k"]) -> tuple[float, Float[np.ndarray, "k"]]:
        weights = flat.reshape(x.shape[1], num_classes)
        logits = x @ weights
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        total = shares.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - logits[rows, labels]))
        shares /= total
        shares[rows, labels] -= 1
        slope = x.T @ shares / len(x)
        slope[:-1] += penalty * weights[:-1]
        loss += 0.5 * penalty * float(np.sum(weights[:-1] ** 2))
        return loss, slope.ravel()

    start = np.zeros(x.shape[1] * num_classes)
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 100}
    )
    return Probe(mean, scale, found.x.reshape(x.shape[1], num_classes))


def probe_classes(
    probe: Probe, pixels: Float[np.ndarray, "n F"]
) -> Int[np.ndarray, "n"]:
    """The most probable class of each picture."""
    x = (pixels - probe.mean) / probe.scale
    logits = x @ probe.weights[:-1] + probe.weights[-1]
    return logits.argmax(axis=1).astype(np.int32)
