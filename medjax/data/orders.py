"""In which order pictures and questions come, as functions of a seed and an index."""

from collections.abc import Iterator

import grain
import numpy as np
from jaxtyping import Int


def drawn_places(count: int, chosen: int, *, seed: int) -> Int[np.ndarray, "chosen"]:
    """Which of the pictures of a training part are taken to be labelled, in order.

    Args:
        count: How many pictures there are.
        chosen: How many are taken, 1 or more.
        seed: Decides which.

    Raises:
        ValueError: There are fewer.
    """
    if not 1 <= chosen <= count:
        raise ValueError(
            f"data.labelled={chosen}: expected 1 to {count}, the pictures of the "
            "training part, or 0 for all of them"
        )
    return np.sort(np.random.default_rng((seed, count)).permutation(count)[:chosen])


def shuffled(count: int, seed: int) -> grain.MapDataset:
    """Indices below `count`, in a new order each epoch, without end.

    Args:
        count: How many there are, 1 or more.
        seed: Decides the orders, 0 or more; equal seeds give equal ones.

    Returns:
        A grain dataset of integers; entry i of epoch e is entry e * count + i.
    """
    return grain.MapDataset.range(count).shuffle(seed=seed).repeat()


def choose(
    count: int, wanted: int, rng: np.random.Generator
) -> Int[np.ndarray, "wanted"]:
    """`wanted` of `count` things, without repetition while there are enough.

    Args:
        count: How many there are, 1 or more.
        wanted: How many are chosen, 0 or more. Beyond `count` they are drawn evenly.
        rng: Gives a permutation, and then the numbers beyond `count`.
    """
    chosen = rng.permutation(count)[:wanted]
    if count < wanted:
        chosen = np.concatenate([chosen, rng.integers(count, size=wanted - count)])
    return chosen


def evaluation_order(
    count: int, *, seed: int, limit: int | None
) -> Int[np.ndarray, "count"]:
    """All pictures in turn; where only some will be asked about, in a random order.

    Args:
        count: How many pictures there are, 0 or more.
        seed: Decides the random order; it is not read without a limit.
        limit: How many questions will be asked; None asks all. Its number does not
            matter.
    """
    order = np.arange(count)
    return order if limit is None else np.random.default_rng(seed).permutation(order)


def rows_of(
    count: int, questions: int, left: int | None
) -> Iterator[tuple[list[int], int]]:
    """Targets 0 ... count - 1 (at most `left`) in rows of Q, and how many are new.

    The last row is filled with its last target.

    Args:
        count: How many targets there are; 0 gives no rows.
        questions: Q, how many a row has, 1 or more.
        left: How many may be asked at most, 0 or more; None is no bound.

    Returns:
        Pairs (Q indices of targets, how many of them count): (([0, 1], 2), ([2, 2], 1))
        for three targets in rows of two.
    """
    everyone = list(range(count if left is None else min(count, left)))
    for start in range(0, len(everyone), questions):
        chosen = everyone[start : start + questions]
        yield chosen + chosen[-1:] * (questions - len(chosen)), len(chosen)
