"""Answers without a language model: the majority class, and a linear probe on pixels.

A policy that does not beat the first has learnt nothing, and one that does not beat the
second did not need to see more than a blurred picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from medjax.data.classes.batches import LabelRecord
from medjax.data.classes.pictures import Pictures, class_counts
from medjax.data.classes.tasks import ClassTask

_ITERATIONS = 300  # of the probe's fit
MOST = 20_000  # rows that the probe is fitted on
_LOOKED = 8  # pictures that tell whether a source's draws differ


class Probe(NamedTuple):
    """A multinomial logistic regression on standardised pixels."""

    mean: Float[np.ndarray, "F"]
    scale: float  # one for all pixels
    weights: Float[np.ndarray, "F+1 C"]  # the last row: biases


def majority_answers(
    task: ClassTask, train: Pictures, records: Sequence[LabelRecord]
) -> Int[np.ndarray, "n"]:
    """The most frequent training class of each record's question.

    Args:
        task: Names the questions, in the order of the pictures' labels.
        train: The training part, whose labels alone are read.
        records: What is to be answered.

    Returns:
        A class index a record; of equally frequent classes it is the first.
    """
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

    Classes count equally, however many pictures they have (see `fit_probe`), so the
    training part is given as it is. At most 20,000 rows are fitted on: of a larger
    part, pictures are chosen for each question, see `choose_pictures`.

    Args:
        task: A probe is fitted for each of its questions that is asked.
        train: The training part; its pictures are drawn anew.
        records: What is to be answered, one or more, in the order of the answers.
        side: Pictures are reduced to so many pixels a side, 1 or more, whatever their
            shape.
        draws: How often each training picture is looked at, 1 or more. It is once where
            the first pictures are the same at every draw, as those in files are.
        penalty: The weight of the squared weights, 0 or more, see `fit_probe`.
        seed: Decides the draws, and which pictures of a large part are fitted on.

    Returns:
        A class index a record.
    """
    draws = look_draws(train, draws, seed)
    most = max(MOST // draws, 1)
    chosen = [choose_pictures(x, most=most, seed=seed) for x in train.labels.T]
    index = np.unique(np.concatenate(chosen))  # a picture is looked at once
    pixels, targets = shown_pixels(
        train, index, records, side=side, draws=draws, seed=seed
    )
    answers = np.zeros(len(records), np.int32)
    for m, question in enumerate(task.questions):
        rows = [
            n for n, record in enumerate(records) if record.question == question.name
        ]
        if rows:
            fitted = np.tile(np.isin(index, chosen[m]), draws)
            labels = np.tile(train.labels[chosen[m], m], draws)
            probe = fit_probe(
                pixels[fitted], labels, num_classes=len(task.classes), penalty=penalty
            )
            answers[rows] = probe_classes(probe, targets[rows])
    return answers


def shown_pixels(
    train: Pictures,
    index: Int[np.ndarray, "n"],
    records: Sequence[LabelRecord],
    *,
    side: int,
    draws: int,
    seed: int,
) -> tuple[Float[np.ndarray, "draws*n F"], Float[np.ndarray, "N F"]]:
    """Small pictures of the training part, draw by draw, and those of the records.

    Args:
        train: The training part; its pictures are drawn anew.
        index: Which of them are looked at.
        records: What is to be answered, one or more.
        side: Pictures are reduced to so many pixels a side.
        draws: How often each training picture is looked at, see `look_draws`.
        seed: Decides the draws.

    Returns:
        Values from 0 to 1; where all are grey, one channel.
    """
    pixels = np.stack(
        [
            picture_pixels(_shown(train, n, draw, seed), side)
            for draw in range(draws)
            for n in index.tolist()
        ]
    )
    targets = np.stack([picture_pixels(record.image, side) for record in records])
    if (pixels == pixels[..., :1]).all():  # grey: one channel says it all
        pixels, targets = pixels[..., :1], targets[..., :1]
    return pixels.reshape(len(pixels), -1), targets.reshape(len(targets), -1)


def look_draws(train: Pictures, draws: int, seed: int) -> int:
    """How often each picture is looked at: once where every draw is the same.

    Args:
        train: The training part, of which the first pictures are drawn twice.
        draws: How often where draws differ, 1 or more.
        seed: Decides the draws.
    """
    return draws if _draws_differ(train, draws, seed) else 1


def choose_pictures(
    labels: Int[np.ndarray, "count"], *, most: int, seed: int
) -> Int[np.ndarray, "n"]:
    """Indices of all pictures, or of `most` chosen at random, rising.

    Of those, classes get equally many, since they weigh equally; what a class does not
    have goes to the others.

    Args:
        labels: The class of each picture.
        most: How many are chosen at most, 1 or more.
        seed: Decides which of a class are chosen.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    mixed = np.random.default_rng(seed).permutation(len(labels))
    mixed = mixed[np.argsort(labels[mixed], kind="stable")]
    _, first = np.unique(labels[mixed], return_index=True)
    # every class's first picture, then every class's second, until there are enough
    rank = np.arange(len(labels)) - np.repeat(first, np.diff([*first, len(labels)]))
    return np.sort(mixed[np.argsort(rank, kind="stable")[:most]])


def picture_pixels(
    image: UInt8[np.ndarray, "h w 3"], side: int
) -> Float[np.ndarray, "side*side 3"]:
    """Pixels of a picture that was reduced to side x side, from 0 to 1, row by row.

    Args:
        image: RGB, 0 to 255, of any shape; its aspect ratio is not kept.
        side: 1 or more.
    """
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1, 3) / 255


def fit_probe(
    pixels: Float[np.ndarray, "n F"],
    labels: Int[np.ndarray, "n"],
    *,
    num_classes: int,
    penalty: float,
) -> Probe:
    """Minimise the classes' mean cross-entropy + penalty / 2 * |W|^2; deterministic.

    The cross-entropy is averaged over each class's pictures, then over the classes that
    occur: repeating all pictures of a class changes nothing. Pixels are centred and
    divided by their common deviation, weighted alike; biases are free. The problem is
    convex and smooth: Nesterov's accelerated gradient with steps 1 / L, momentum reset
    where it points uphill (O'Donoghue and Candes 2015).

    Args:
        pixels: n pictures of F values each, in any unit.
        labels: The class of each picture, 0 to `num_classes` - 1; at least one.
        num_classes: C, above the highest label; classes need not occur.
        penalty: The weight of the squared weights, 0 or more; biases are free of it.
    """
    share = class_shares(labels)
    mean = share @ pixels.astype(np.float64)
    centred = pixels - mean
    scale = max(float(np.sqrt(share @ (centred**2).mean(axis=1))), 1e-6)
    x = np.concatenate([centred / scale, np.ones((len(pixels), 1))], axis=1)
    x = x.astype(np.float32)
    right = np.eye(num_classes, dtype=np.float32)[labels]
    weighted = x * share.astype(np.float32)[:, None]
    pull = np.full((x.shape[1], 1), penalty, np.float32)
    pull[-1] = 0
    # The softmax's curvature is at most 1/2, and the shares add up to one.
    step = 1 / (0.5 * float(np.linalg.eigvalsh(weighted.T @ x)[-1]) + penalty)
    weights = np.zeros((x.shape[1], num_classes), np.float32)
    ahead, momentum = weights, 1.0
    for _ in range(_ITERATIONS):
        logits = x @ ahead
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        slope = weighted.T @ (shares - right) + pull * ahead
        new = ahead - step * slope
        if np.sum(slope * (new - weights)) > 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - weights)
        weights, momentum = new, following
    return Probe(mean, scale, weights)


def class_shares(labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The weight of each picture: classes that occur weigh equally, 1 in sum.

    Args:
        labels: The class of each picture, 0 or more; at least one.
    """
    counts = np.bincount(labels)
    return 1 / (counts[labels] * np.count_nonzero(counts))


def probe_classes(
    probe: Probe, pixels: Float[np.ndarray, "n F"]
) -> Int[np.ndarray, "n"]:
    """The most probable class of each picture; the first of equal ones.

    Args:
        probe: From `fit_probe`.
        pixels: n pictures of as many values as it was fitted on, in the same unit.
    """
    return probe_logits(probe, pixels).argmax(axis=1).astype(np.int32)


def probe_logits(
    probe: Probe, pixels: Float[np.ndarray, "n F"]
) -> Float[np.ndarray, "n C"]:
    """The log-odds of the classes of each picture, up to a number that all share.

    Args:
        probe: From `fit_probe`.
        pixels: n pictures of as many values as it was fitted on, in the same unit.
    """
    x = (pixels - probe.mean) / probe.scale
    return x @ probe.weights[:-1] + probe.weights[-1]


def _shown(
    train: Pictures, index: int, draw: int, seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    return train.picture(index, np.random.default_rng((seed, index, draw))).image


def _draws_differ(train: Pictures, draws: int, seed: int) -> bool:
    """Whether any of the first pictures is another one at its second draw."""
    return draws > 1 and any(
        not np.array_equal(*(_shown(train, n, draw, seed) for draw in (0, 1)))
        for n in range(min(train.count, _LOOKED))
    )
