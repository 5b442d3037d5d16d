"""Scores of classes and grades that are functions of a matrix of counts.

The counts [C, C + 1] say how often each true class (rows) got each answer (columns);
the last column are answers that could not be read: they are wrong, and of grades as
wrong as can be. Leading axes are many such matrices, as a bootstrap has them.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped


def confusion(
    label: Int[np.ndarray, "N"],
    predicted: Int[np.ndarray, "N"],
    num_classes: int,
) -> Int[np.ndarray, "C C+1"]:
    """How often each class (rows) got each answer (columns; the last: unread).

    Args:
        label: The true class of each of N answers, from 0 to C - 1.
        predicted: The class answered, or -1 where none could be read.
        num_classes: C, at least 1, those that never occur included.

    Returns:
        Integers whose sum is N.

    Raises:
        ValueError: A label or an answer outside the classes, or numbers of them that
            differ.
    """
    _check(label, predicted, num_classes)
    cell = cells_of(label, predicted, num_classes)
    counts = np.bincount(cell, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def accuracy(counts: Shaped[np.ndarray, "... C C+1"]) -> Float[np.ndarray, "..."]:
    """Share of right answers, from 0 to 1; NaN without answers.

    Args:
        counts: True classes in rows, answers in columns, unread ones in the last one;
            leading axes are many such matrices.
    """
    right = np.trace(counts, axis1=-2, axis2=-1)
    return ratio(right, counts.sum(axis=(-2, -1)))


def balanced_accuracy(
    counts: Shaped[np.ndarray, "... C C+1"],
) -> Float[np.ndarray, "..."]:
    """Mean recall of the classes that occur, from 0 to 1; NaN without answers.

    Args:
        counts: True classes in rows, answers in columns, unread ones in the last one;
            leading axes are many such matrices.
    """
    return np.asarray(mean_known(class_scores(counts)["recall"]))


def macro_f1(counts: Shaped[np.ndarray, "... C C+1"]) -> Float[np.ndarray, "..."]:
    """Mean of 2 TP / (2 TP + FP + FN) over classes that occur or were answered.

    From 0 to 1; NaN without answers.

    Args:
        counts: True classes in rows, answers in columns, unread ones in the last one;
            leading axes are many such matrices.
    """
    return np.asarray(mean_known(class_scores(counts)["F1"]))


def class_scores(
    counts: Shaped[np.ndarray, "... C C+1"],
) -> dict[str, Float[np.ndarray, "... C"]]:
    """Recall, precision and F1 of each class by these names, from 0 to 1.

    NaN where there is nothing to score: a class that does not occur has no recall, one
    that was not answered no precision, one that is neither no F1.

    Args:
        counts: True classes in rows, answers in columns, unread ones in the last one;
            leading axes are many such matrices.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, answered = counts.sum(axis=-1), counts[..., :-1].sum(axis=-2)
    return {
        "recall": ratio(right, true),
        "precision": ratio(right, answered),
        "F1": ratio(2 * right, true + answered),
    }


def quadratic_kappa(
    counts: Shaped[np.ndarray, "... C C+1"],
) -> Float[np.ndarray, "..."]:
    """1 - sum (i - j)^2 n_ij / sum (i - j)^2 n_i. n_.j / n (Cohen 1968).

    1 is agreement, 0 what chance gives. An unread answer counts as the grade farthest
    from the true one. NaN where all labels and answers are one grade.

    Args:
        counts: True classes in rows, answers in columns, unread ones in the last one;
            leading axes are many such matrices.
    """
    grades = _read_grades(counts).astype(np.float64)
    distance = _distance(grades.shape[-1]) ** 2
    total = grades.sum(axis=(-2, -1))
    chance = grades.sum(axis=-1)[..., :, None] * grades.sum(axis=-2)[..., None, :]
    expected = ratio((distance * chance).sum(axis=(-2, -1)), total)
    return 1 - ratio((distance * grades).sum(axis=(-2, -1)), expected)


def grade_error(counts: Shaped[np.ndarray, "... C C+1"]) -> Float[np.ndarray, "..."]:
    """Mean |answered grade - true grade|, from 0 to C - 1; NaN without answers.

    An unread answer counts as the grade farthest from the true one.

    Args:
        counts: True classes in rows, answers in columns, unread ones in the last one;
            leading axes are many such matrices.
    """
    grades = _read_grades(counts)
    wrong = (_distance(grades.shape[-1]) * grades).sum(axis=(-2, -1))
    return ratio(wrong, grades.sum(axis=(-2, -1)))


def parse_rate(counts: Shaped[np.ndarray, "... C C+1"]) -> Float[np.ndarray, "..."]:
    """Share of answers that could be read, from 0 to 1; NaN without answers.

    Args:
        counts: True classes in rows, answers in columns, unread ones in the last one;
            leading axes are many such matrices.
    """
    read = counts[..., :-1].sum(axis=(-2, -1))
    return ratio(read, counts.sum(axis=(-2, -1)))


def cells_of(
    label: Int[np.ndarray, "N"], predicted: Int[np.ndarray, "N"], num_classes: int
) -> Int[np.ndarray, "N"]:
    """Index of each answer's cell in the counts, flattened row by row.

    Args:
        label: The true class, from 0 to C - 1, which is not checked.
        predicted: The class answered; below 0 is an answer that could not be read.
        num_classes: C, so that there are C (C + 1) cells.
    """
    column = np.where(predicted < 0, num_classes, predicted)
    return label.astype(np.int64) * (num_classes + 1) + column


def count_scores(
    counts: Shaped[np.ndarray, "... C C+1"], ordinal: bool
) -> dict[str, Float[np.ndarray, "..."]]:
    """All of these scores by name.

    Args:
        counts: True classes in rows, answers in columns, unread ones in the last one;
            leading axes are many such matrices, and those of the scores.
        ordinal: True where classes are grades, in order: "kappa" and "grade error" are
            there too.
    """
    values = {
        "accuracy": accuracy(counts),
        "balanced accuracy": balanced_accuracy(counts),
        "macro F1": macro_f1(counts),
    }
    if ordinal:
        values |= {"kappa": quadratic_kappa(counts), "grade error": grade_error(counts)}
    return values | {"parsed": parse_rate(counts)}


def _read_grades(
    counts: Shaped[np.ndarray, "... C C+1"],
) -> Shaped[np.ndarray, "... C C"]:
    """Unread answers counted as the grade farthest from the true one."""
    grades, unread = counts[..., :-1].copy(), counts[..., -1]
    true = np.arange(grades.shape[-1])
    farthest = np.where(2 * true > len(true) - 1, 0, len(true) - 1)
    grades[..., true, farthest] += unread
    return grades


def _distance(count: int) -> Int[np.ndarray, "C C"]:
    return np.abs(np.subtract.outer(np.arange(count), np.arange(count)))


def ratio(
    above: Shaped[np.ndarray, "..."], below: Shaped[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """above / below in float64, NaN where below is 0.

    Args:
        above: Numbers of any dtype and unit.
        below: As many, of the same shape.
    """
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0)


def mean_known(values: Float[np.ndarray, "... C"]) -> Float[np.ndarray, "..."]:
    """Mean over the last axis of what is not NaN; NaN where nothing is left.

    Args:
        values: In any unit, with any leading axes.
    """
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def _check(
    label: Int[np.ndarray, "N"], predicted: Int[np.ndarray, "N"], count: int
) -> None:
    if len(label) != len(predicted):
        raise ValueError(f"{len(label)} labels and {len(predicted)} answers")
    for what, values, least in (("label", label, 0), ("answer", predicted, -1)):
        wrong = np.flatnonzero((values < least) | (values >= count))
        if len(wrong):
            raise ValueError(
                f"{what} {values[wrong[0]]} of row {wrong[0]} is outside the {count} "
                f"classes 0 to {count - 1}"
            )
