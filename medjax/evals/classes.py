"""Scores of predicted classes and grades, with intervals, as tables.

N answers about C classes, in S groups (patients, blocks of slices). Answers of one
group are not independent: intervals resample groups.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from medjax.evals.confusion import (
    cells_of,
    class_scores,
    confusion,
    count_scores,
    mean_known,
    ratio,
)
from medjax.evals.tables import (
    Contender,
    Interval,
    Table,
    check_level,
    compared_table,
    draw_groups,
    percentile_interval,
)

UNREAD = "unread"


class LabelAnswers(NamedTuple):
    """What is scored, one row an answer."""

    label: Int[np.ndarray, "N"]  # true class, 0 to C - 1
    predicted: Int[np.ndarray, "N"]  # class; -1: none could be read
    group: Shaped[np.ndarray, "N"]  # patient, or block of slices
    question: Shaped[np.ndarray, "N"]  # name of the question
    length: Float[np.ndarray, "N"]  # tokens of the answer; NaN: it is no text
    overlap: Float[np.ndarray, "N"]  # of the reasoning with the knowledge, 0-1; or NaN


def scores(
    answers: LabelAnswers, *, num_classes: int, ordinal: bool
) -> dict[str, float]:
    """All scores by name: those of `count_scores`, mean length and mean overlap.

    Args:
        answers: Any number; a score that they do not define is NaN.
        num_classes: C, those that never occur included.
        ordinal: True where classes are grades, in order: "kappa" and "grade error" are
            there too.

    Raises:
        ValueError: A label or an answer outside the classes.
    """
    counts = confusion(answers.label, answers.predicted, num_classes)
    values = {
        name: float(value) for name, value in count_scores(counts, ordinal).items()
    }
    for name in ("length", "overlap"):
        values[name] = float(mean_known(np.asarray(getattr(answers, name), np.float64)))
    return values


def bootstrap(
    answers: LabelAnswers,
    *,
    num_classes: int,
    ordinal: bool,
    num_samples: int,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    """Percentile intervals of `scores` under resampled groups (cluster bootstrap).

    A sample draws S of the S groups with replacement, all answers of a group together.
    Samples in which a score is not defined are left out of its interval.

    Args:
        answers: In any number of groups; one group gives intervals of width 0, which
            say nothing, and without answers all is NaN.
        num_classes: C, those that never occur included.
        ordinal: True where classes are grades, in order.
        num_samples: How many samples are drawn, 1 or more; 1000 is usual.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: An integer of at least 0; the same seed gives the same intervals.

    Returns:
        The value over all answers and the ends of its interval, by the score's name.

    Raises:
        ValueError: A label or an answer outside the classes, a level or a number of
            samples out of its range.
    """
    check_level(level)
    values = scores(answers, num_classes=num_classes, ordinal=ordinal)
    if not len(answers.label):
        return {name: Interval(value, value, value) for name, value in values.items()}
    members, drawn = draw_groups(answers.group, num_samples=num_samples, seed=seed)
    size, cells = drawn.shape[1], num_classes * (num_classes + 1)
    cell = cells_of(answers.label, answers.predicted, num_classes)
    each = np.bincount(members * cells + cell, minlength=size * cells)
    drawn = drawn.astype(np.float64)  # BLAS; whole numbers stay exact
    counts = (drawn @ each.reshape(size, cells)).reshape(
        -1, num_classes, num_classes + 1
    )
    samples = count_scores(counts, ordinal)
    for name in ("length", "overlap"):
        column = np.asarray(getattr(answers, name), np.float64)
        known = ~np.isnan(column)
        sums = np.bincount(members[known], weights=column[known], minlength=size)
        samples[name] = ratio(
            drawn @ sums, drawn @ np.bincount(members[known], minlength=size)
        )
    return {
        name: percentile_interval(value, samples[name], level=level)
        for name, value in values.items()
    }


def by_question(answers: LabelAnswers) -> dict[str, LabelAnswers]:
    """The answers to each question by its name, in alphabetical order.

    Args:
        answers: One row an answer; a question without one is not there.
    """
    return {
        str(name): LabelAnswers(*(c[answers.question == name] for c in answers))
        for name in np.unique(answers.question)
    }


def vote_by_group(answers: LabelAnswers) -> LabelAnswers:
    """One answer a group and question: the class that most of its answers name.

    Of classes with equally many votes it is the one with the lower number. Answers that
    could not be read have no vote; where none could, the group's is unread. Lengths and
    overlaps, which a vote has none of, are NaN.

    Args:
        answers: Any number; the answers of a group to a question have one true class.

    Raises:
        ValueError: A group has different true classes.
    """
    keys = np.stack([answers.group.astype(str), answers.question.astype(str)], axis=1)
    _, first, member = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    member = member.reshape(-1)
    differ = np.flatnonzero(answers.label != answers.label[first][member])
    if len(differ):
        raise ValueError(
            f"group {answers.group[differ[0]]}: pictures of different classes; "
            "expected one class a group that votes"
        )
    votes = np.zeros((len(first), max(int(answers.predicted.max(initial=0)) + 1, 1)))
    read = answers.predicted >= 0
    np.add.at(votes, (member[read], answers.predicted[read]), 1)
    unknown = np.full(len(first), np.nan)
    return LabelAnswers(
        label=answers.label[first],
        predicted=np.where(votes.any(axis=1), votes.argmax(axis=1), -1).astype(
            np.int32
        ),
        group=answers.group[first],
        question=answers.question[first],
        length=unknown,
        overlap=unknown,
    )


def summary_table(
    results: Mapping[str, LabelAnswers],
    *,
    num_classes: int,
    ordinal: bool,
    num_samples: int,
    level: float,
    seed: int,
    against: str | None = None,
    title: str = "all answers",
) -> Table:
    """One row a contender (the policy, its warm start, the baselines).

    Args:
        results: The answers of each contender by name, in the order of the rows. All
            must have answered the same questions in the same order.
        num_classes: C, those that never occur included.
        ordinal: True where classes are grades, in order.
        num_samples: How many bootstrap samples are drawn, see `bootstrap`.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Of the draws; the same for every contender.
        against: A name in `results`: the difference of each other accuracy to its one
            gets a column, with an interval of its own, which is narrower than those of
            the two where both find the same pictures hard. None leaves it out.
        title: What is scored, which stands first in the table's title.
    """
    resampling = {"num_samples": num_samples, "level": level, "seed": seed}
    contenders = {
        name: Contender(
            bootstrap(answers, num_classes=num_classes, ordinal=ordinal, **resampling),
            _right(answers),
            answers.group,
        )
        for name, answers in results.items()
    }
    title += f", {100 * level:g} % intervals over patients or blocks of slices"
    return compared_table(title, contenders, against=against, **resampling)


def _right(answers: LabelAnswers) -> Float[np.ndarray, "N"]:
    return (answers.predicted == answers.label).astype(np.float64)


def confusion_table(
    answers: LabelAnswers, classes: Sequence[str], *, title: str
) -> Table:
    """Counts of true class (rows) and answer (columns), and each class's scores.

    Args:
        answers: Any number; a score that is not defined shows as "-".
        classes: The name of each class, in the order of their numbers.
        title: Stands above the table in print.
    """
    counts = confusion(answers.label, answers.predicted, len(classes))
    each = class_scores(counts)
    rows = tuple(
        (
            name,
            *map(str, counts[n].tolist()),
            *(f"{column[n]:.3f}".replace("nan", "-") for column in each.values()),
        )
        for n, name in enumerate(classes)
    )
    return Table(title, ("true \\ answer", *classes, UNREAD, *each), rows)


def balance_table(
    classes: Sequence[str], parts: Mapping[str, Int[np.ndarray, "C"]]
) -> Table:
    """How many pictures of each class each part has, and their share of the part.

    The title gives the largest class by the smallest of the first part, "infinity"
    where a class of it is empty.

    Args:
        classes: The name of each class, in the order of the counts.
        parts: Pictures of each class by the part's name (such as "train"), at least
            one part; a part may be empty.
    """
    first = np.asarray(next(iter(parts.values())))
    ratio = f"{first.max() / first.min():.1f}" if first.min() else "infinity"
    rows = []
    for n, name in enumerate(classes):
        cells = []
        for counts in parts.values():
            share = counts[n] / max(int(counts.sum()), 1)
            cells += [str(int(counts[n])), f"{100 * share:.1f} %"]
        rows.append((name, *cells))
    header = [cell for part in parts for cell in (part, "share")]
    title = f"class balance; largest by smallest in {next(iter(parts))}: {ratio}"
    return Table(title, ("", *header), tuple(rows))
