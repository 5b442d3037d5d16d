"""Tasks of several labels: balanced pictures, and answers without a language model.

`Pictures.labels` of such a task are marks [count, C]. A policy that does not beat
"none" and the most common set has learnt nothing.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.data.classes.batches import LabelRecord
from medjax.data.classes.pictures import Pictures, repeat_evenly
from medjax.data.classes.probe import (
    MOST,
    choose_pictures,
    fit_probe,
    look_draws,
    probe_logits,
    shown_pixels,
)


def rarest_labels(labels: Int[np.ndarray, "n C"]) -> Int[np.ndarray, "n"]:
    """The rarest class that each picture shows, C where it shows none.

    Of equally rare ones it is the first.

    Args:
        labels: 1 where a picture shows a class, else 0.
    """
    counts = labels.sum(axis=0)
    rarity = np.where(labels > 0, counts, len(labels) + 1)
    return np.where(labels.any(axis=1), rarity.argmin(axis=1), labels.shape[1])


def balance_label_sets(pictures: Pictures) -> Pictures:
    """Pictures repeated so that each rarest class, and "none", comes equally often.

    A picture counts for the rarest class that it shows, see `rarest_labels`: classes
    that stand beside rare ones come more often than these.

    Args:
        pictures: Of a task of several labels, one or more.
    """
    return repeat_evenly(pictures, rarest_labels(pictures.labels))


def most_common_set(labels: Int[np.ndarray, "n C"]) -> Bool[np.ndarray, "C"]:
    """The set of classes that most pictures show; of equally common ones the first.

    Args:
        labels: 1 where a picture shows a class, else 0; one picture or more. Sets are
            in the order of their marks, the empty one first.
    """
    sets, counts = np.unique(labels, axis=0, return_counts=True)
    return sets[counts.argmax()] > 0


def prevalence_draws(
    labels: Int[np.ndarray, "n C"], count: int, *, seed: int
) -> Bool[np.ndarray, "count C"]:
    """Sets that name each class by chance, as often as training pictures show it.

    Args:
        labels: 1 where a training picture shows a class; one picture or more.
        count: How many sets are drawn.
        seed: Decides the draws.
    """
    drawn = np.random.default_rng(seed).random((count, labels.shape[1]))
    return drawn < labels.mean(axis=0)


def probe_sets(
    train: Pictures,
    records: Sequence[LabelRecord],
    *,
    side: int,
    draws: int,
    penalty: float,
    seed: int,
) -> Float[np.ndarray, "N C"]:
    """How much a linear probe on pixels holds each class for shown: log odds.

    One probe a class, for which pictures with and without the class count equally
    (see `fit_probe`), so that a rare class is named above 0 too often rather than
    never. At most 20,000 rows are fitted on, pictures of rare classes first.

    Args:
        train: The training part, before it is balanced.
        records: What is to be answered, one or more.
        side: Pictures are reduced to so many pixels a side.
        draws: How often each training picture is looked at, see `look_draws`.
        penalty: The weight of the squared weights, 0 or more, see `fit_probe`.
        seed: Decides the draws, and which pictures of a large part are fitted on.
    """
    draws = look_draws(train, draws, seed)
    kinds = rarest_labels(train.labels)
    index = choose_pictures(kinds, most=max(MOST // draws, 1), seed=seed)
    pixels, targets = shown_pixels(
        train, index, records, side=side, draws=draws, seed=seed
    )
    score = np.zeros((len(records), train.labels.shape[1]), np.float64)
    for n, marks in enumerate(train.labels[index].T):
        shown = np.tile((marks > 0).astype(np.int32), draws)
        probe = fit_probe(pixels, shown, num_classes=2, penalty=penalty)
        logits = probe_logits(probe, targets)
        score[:, n] = logits[:, 1] - logits[:, 0]
    return score
