"""Scores of sets of labels, with intervals, as tables.

N answers about C classes of which a picture shows any number, in S groups (patients,
volumes). Answers of one group are not independent: intervals resample groups.

An answer that could not be read counts as wrong about every class: it names those that
are not shown and misses those that are. So no score can be gained by writing nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from medjax.evals.confusion import mean_known, ratio
from medjax.evals.tables import (
    Contender,
    Interval,
    Table,
    check_level,
    compared_table,
    draw_groups,
    percentile_interval,
)

_CHUNK = 64  # resamples whose weights are in memory at once


class LabelSetAnswers(NamedTuple):
    """What is scored, one row an answer."""

    truth: Bool[np.ndarray, "N C"]  # the classes shown
    named: Bool[np.ndarray, "N C"]  # the classes answered
    read: Bool[np.ndarray, "N"]  # a set, the empty one included, could be read
    group: Shaped[np.ndarray, "N"]  # patient or volume
    length: Float[np.ndarray, "N"]  # tokens of the answer; NaN: it is no text
    overlap: Float[np.ndarray, "N"]  # of the reasoning with the knowledge, 0-1; or NaN
    # The higher, the more likely is the class shown; None: there is no such number, and
    # so no AUROC.
    score: Float[np.ndarray, "N C"] | None = None


def label_set_scores(answers: LabelSetAnswers) -> dict[str, float]:
    """All scores by name.

    ================  ==============================================================
    "set F1"          mean over pictures of 2 |A and B| / (|A| + |B|); both empty 1
    "micro F1"        2 TP / (2 TP + FP + FN) of all classes together
    "macro F1"        mean F1 of the classes that are shown or named somewhere
    "exact match"     share of the sets that are right
    "Hamming loss"    share of the N C marks that are wrong; less is better
    "macro AUROC"     mean of the classes that are shown in some pictures and not in
                      others; NaN without a score
    "parsed"          share of the answers that could be read
    "length"          mean tokens of an answer
    "overlap"         mean overlap of the reasoning with the descriptions
    ================  ==============================================================

    Args:
        answers: Any number; a score that they do not define is NaN.

    Raises:
        ValueError: Arrays that do not belong together.
    """
    check_answers(answers)
    sums = {name: x.sum(axis=0) for name, x in _parts(answers).items()}
    return {
        name: float(value)
        for name, value in (_scores(sums) | {"macro AUROC": _auroc(answers)}).items()
    }


def label_set_intervals(
    answers: LabelSetAnswers, *, num_samples: int, level: float, seed: int
) -> dict[str, Interval]:
    """Percentile intervals of `label_set_scores` under resampled groups.

    A sample draws S of the S groups with replacement, all answers of a group together
    (cluster bootstrap). Samples in which a score is not defined are left out of its
    interval.

    Args:
        answers: In any number of groups; one group gives intervals of width 0, which
            say nothing, and without answers all is NaN.
        num_samples: How many samples are drawn, 1 or more; 1000 is usual.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: An integer of at least 0; the same seed gives the same intervals.

    Raises:
        ValueError: Arrays that do not belong together, a level or a number of samples
            out of its range.
    """
    check_level(level)
    values = label_set_scores(answers)
    if not len(answers.read):
        return {name: Interval(value, value, value) for name, value in values.items()}
    members, drawn = draw_groups(answers.group, num_samples=num_samples, seed=seed)
    weights = drawn.astype(np.float64)  # BLAS; whole numbers stay exact
    sums = {}
    for name, part in _parts(answers).items():
        each = np.zeros((drawn.shape[1], *part.shape[1:]), np.float64)
        np.add.at(each, members, part)
        flat = weights @ each.reshape(len(each), -1)
        sums[name] = flat.reshape(num_samples, *part.shape[1:])
    samples = _scores(sums)
    samples["macro AUROC"] = np.concatenate(
        [
            np.atleast_1d(_auroc(answers, weights[n : n + _CHUNK][:, members]))
            for n in range(0, num_samples, _CHUNK)
        ]
    )
    return {
        name: percentile_interval(value, samples[name], level=level)
        for name, value in values.items()
    }


def class_auroc(
    score: Float[np.ndarray, "N"],
    shown: Bool[np.ndarray, "N"],
    weights: Float[np.ndarray, "R N"] | None = None,
) -> Float[np.ndarray, "..."]:
    """The chance that a picture with the class scores above one without; ties 1/2.

    Args:
        score: The higher, the more likely is the class shown; finite.
        shown: Whether it is.
        weights: How often each answer counts, of R resamples; None counts each once.

    Returns:
        One number, or R; NaN where all or none of the answers that count are shown.
    """
    once = weights is None
    weights = np.ones((1, len(score))) if weights is None else weights
    order = np.argsort(score, kind="stable")
    ranked, there = score[order], shown[order]
    first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: len(ranked)])
    if not len(first):
        return np.full(() if once else len(weights), np.nan)
    counted = weights[:, order]
    positive = np.add.reduceat(np.where(there, counted, 0), first, axis=1)
    negative = np.add.reduceat(np.where(there, 0, counted), first, axis=1)
    below = np.cumsum(negative, axis=1) - negative + negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    found = ratio((positive * below).sum(axis=1), pairs)
    return found[0] if once else found


def label_set_summary(
    results: Mapping[str, LabelSetAnswers],
    *,
    num_samples: int,
    level: float,
    seed: int,
    against: str | None = None,
) -> Table:
    """One row a contender (the policy, its warm start, the baselines).

    Args:
        results: The answers of each contender by name, in the order of the rows. All
            must have answered the same questions in the same order.
        num_samples: How many bootstrap samples are drawn, see `label_set_intervals`.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Of the draws; the same for every contender.
        against: A name in `results`: the difference of each other set F1 to its one
            gets a column with an interval of its own. None leaves it out.
    """
    resampling = {"num_samples": num_samples, "level": level, "seed": seed}
    contenders = {
        name: Contender(
            label_set_intervals(answers, **resampling), set_f1(answers), answers.group
        )
        for name, answers in results.items()
    }
    title = (
        f"all answers, {100 * level:g} % intervals over patients or volumes; no AUROC "
        "where a contender has no score"
    )
    return compared_table(title, contenders, against=against, **resampling)


def label_table(
    answers: LabelSetAnswers, classes: Sequence[str], *, title: str
) -> Table:
    """Of each class: pictures that show it, answers that name it, and its scores.

    Sensitivity TP / (TP + FN), specificity TN / (TN + FP), F1 and, where there is a
    score, AUROC; "-" where there is nothing to score.

    Args:
        answers: Any number; those that could not be read are wrong about every class.
        classes: The name of each class, in the order of their numbers.
        title: Stands above the table in print.
    """
    hit, over, missed, clear = _counts(answers).sum(axis=0).T
    columns = {
        "sensitivity": ratio(hit, hit + missed),
        "specificity": ratio(clear, clear + over),
        "F1": ratio(2 * hit, 2 * hit + over + missed),
    }
    score = answers.score
    if score is not None:
        columns["AUROC"] = np.array(
            [class_auroc(score[:, n], x) for n, x in enumerate(answers.truth.T)]
        )
    numbers = {
        "shown": hit + missed,
        "named": hit + over,
        "right": hit,
        "wrongly named": over,
        "missed": missed,
    }
    rows = tuple(
        (
            name,
            *(str(int(column[n])) for column in numbers.values()),
            *(f"{column[n]:.3f}".replace("nan", "-") for column in columns.values()),
        )
        for n, name in enumerate(classes)
    )
    if score is None:
        title += " (no score, so no AUROC)"
    if unread := int((~answers.read).sum()):
        title += f"; {unread} unread, which count as wrong about every class"
    return Table(title, ("class", *numbers, *columns), rows)


def prevalence_table(
    classes: Sequence[str], parts: Mapping[str, Shaped[np.ndarray, "N C"]]
) -> Table:
    """How many pictures of each part show each class, and their share of the part.

    Args:
        classes: The name of each class, in the order of the columns.
        parts: Marks of the classes that pictures show, by the part's name.
    """
    every = {**{name: n for n, name in enumerate(classes)}, "none": None}
    rows = []
    for name, n in every.items():
        cells = []
        for marks in parts.values():
            there = marks[:, n] > 0 if n is not None else ~(marks > 0).any(axis=1)
            share = there.sum() / max(len(there), 1)
            cells += [str(int(there.sum())), f"{100 * share:.1f} %"]
        rows.append((name, *cells))
    header = [cell for part in parts for cell in (part, "share")]
    means = ", ".join(
        f"{(marks > 0).sum() / max(len(marks), 1):.2f} in {name}"
        for name, marks in parts.items()
    )
    return Table(f"classes shown; a picture: {means}", ("", *header), tuple(rows))


def check_answers(answers: LabelSetAnswers) -> None:
    """Raise ValueError unless all arrays have N rows, and marks and scores C columns.

    Args:
        answers: Any number, N of 0 included.
    """
    shape = answers.truth.shape
    wide = {"named": answers.named.shape}
    if answers.score is not None:
        wide["score"] = answers.score.shape
        if not np.isfinite(answers.score).all():
            raise ValueError("score: expected finite numbers, found NaN or infinity")
    for name, found in wide.items():
        if found != shape:
            raise ValueError(f"{name}: shape {found}; expected {shape}, as truth has")
    for name in ("read", "group", "length", "overlap"):
        if len(getattr(answers, name)) != shape[0]:
            raise ValueError(
                f"{name}: {len(getattr(answers, name))} rows; expected {shape[0]}"
            )


def _named(answers: LabelSetAnswers) -> Bool[np.ndarray, "N C"]:
    """What counts as named: an unread answer is wrong about every class."""
    return np.where(answers.read[:, None], answers.named, ~answers.truth)


def _counts(answers: LabelSetAnswers) -> Int[np.ndarray, "N C 4"]:
    """TP, FP, FN and TN of each mark."""
    named, truth = _named(answers), answers.truth
    each = (named & truth, named & ~truth, ~named & truth, ~named & ~truth)
    return np.stack(each, axis=-1).astype(np.int64)


def set_f1(answers: LabelSetAnswers) -> Float[np.ndarray, "N"]:
    """2 TP / (2 TP + FP + FN) of each answer over its classes; 1 where all are 0.

    Args:
        answers: Any number; see `label_set_scores` for those that could not be read.
    """
    counts = _counts(answers).sum(axis=1)
    below = 2 * counts[:, 0] + counts[:, 1] + counts[:, 2]
    return np.where(below > 0, 2 * counts[:, 0] / np.maximum(below, 1), 1.0)


def _parts(answers: LabelSetAnswers) -> dict[str, Shaped[np.ndarray, "N ..."]]:
    """What each answer adds to the sums that scores are made of."""
    counts = _counts(answers)
    found = {
        "counts": counts,
        "set F1": set_f1(answers),
        "exact match": (counts[..., 1:3].sum(axis=(1, 2)) == 0).astype(np.float64)
        * answers.read,
        "parsed": answers.read.astype(np.float64),
        "n": np.ones(len(answers.read)),
    }
    for name in ("length", "overlap"):
        column = np.asarray(getattr(answers, name), np.float64)
        known = ~np.isnan(column)
        found[name] = np.where(known, column, 0.0)
        found[f"{name} known"] = known.astype(np.float64)
    return found


def _scores(
    sums: Mapping[str, Shaped[np.ndarray, "..."]],
) -> dict[str, Float[np.ndarray, "..."]]:
    """Scores of sums over answers, which may have a leading axis of resamples."""
    counts = np.asarray(sums["counts"], np.float64)
    hit, over, missed = (counts[..., n] for n in range(3))
    wrong, marks = (over + missed).sum(axis=-1), counts.sum(axis=(-2, -1))
    micro = 2 * hit.sum(axis=-1)
    return {
        "set F1": ratio(sums["set F1"], sums["n"]),
        "micro F1": ratio(micro, micro + wrong),
        "macro F1": mean_known(ratio(2 * hit, 2 * hit + over + missed)),
        "exact match": ratio(sums["exact match"], sums["n"]),
        "Hamming loss": ratio(wrong, marks),
        "macro AUROC": np.full(np.shape(sums["n"]), np.nan),  # its place in the order
        "parsed": ratio(sums["parsed"], sums["n"]),
        "length": ratio(sums["length"], sums["length known"]),
        "overlap": ratio(sums["overlap"], sums["overlap known"]),
    }


def _auroc(
    answers: LabelSetAnswers, weights: Float[np.ndarray, "R N"] | None = None
) -> Float[np.ndarray, "..."]:
    if answers.score is None:
        return np.full(() if weights is None else len(weights), np.nan)
    each = [
        class_auroc(answers.score[:, n], shown, weights)
        for n, shown in enumerate(answers.truth.T)
    ]
    return mean_known(np.stack(each, axis=-1))
