"""What evaluations share: intervals by resampling groups, and tables as text.

N scored items (answers, slices) of S groups (images, subjects). Items of a group are
not independent, so intervals resample groups, not items. Plain NumPy on the host.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped


class Interval(NamedTuple):
    """An estimate between the ends of its interval; all three NaN without data."""

    value: float
    low: float
    high: float


class Table(NamedTuple):
    """Cells as text; the first column holds names, the others numbers."""

    title: str
    header: tuple[str, ...]  # one cell a column
    rows: tuple[tuple[str, ...], ...]  # each as long as the header


def group_intervals(
    columns: Mapping[str, Shaped[np.ndarray, "N"]],
    groups: Shaped[np.ndarray, "N"],
    *,
    num_samples: int,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    """Mean of each column and its percentile interval (cluster bootstrap).

    A sample draws S of the S groups with replacement, all items of a group together.
    A mean needs of a group its sum and its number of items alone.

    Args:
        columns: A number for each of N items, by the column's name, in any unit. NaN
            is left out of its column; a column of nothing else gives NaN.
        groups: The name or number of each item's group; one group gives intervals of
            width 0, which say nothing, and without items all is NaN.
        num_samples: How many samples are drawn, 1 or more; 1000 is usual.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: An integer of at least 0; the same seed gives the same intervals.

    Returns:
        The mean of each column over all items, and the ends of its interval, in its
        unit, by its name.

    Raises:
        ValueError: a level or a number of samples out of its range, a column of another
            length than `groups`.
    """
    for name, column in columns.items():
        if len(column) != len(groups):
            raise ValueError(
                f"column {name}: {len(column)} numbers, expected {len(groups)}, one "
                "for each of groups"
            )
    known = {name: ~np.isnan(column) for name, column in columns.items()}
    pairs = {
        name: (np.where(known[name], x, 0), known[name]) for name, x in columns.items()
    }
    return ratio_intervals(
        pairs, groups, num_samples=num_samples, level=level, seed=seed
    )


def ratio_intervals(
    columns: Mapping[str, tuple[Shaped[np.ndarray, "N"], Shaped[np.ndarray, "N"]]],
    groups: Shaped[np.ndarray, "N"],
    *,
    num_samples: int,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    """Sum of one column over the sum of another, and its percentile interval.

    As `group_intervals` of scores that are no means of items, such as F1.

    Args:
        columns: By the score's name what is counted of each of N items, and what it is
            counted of; 0 and 0 leave an item out.
        groups: The name or number of each item's group.
        num_samples: How many samples are drawn, 1 or more; 1000 is usual.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: An integer of at least 0; the same seed gives the same intervals.

    Returns:
        By name; NaN where the sum that divides is 0. Samples where it is 0 are left out
        of an interval.

    Raises:
        ValueError: a level or a number of samples out of its range, a column of another
            length than `groups`.
    """
    check_level(level)
    for name, pair in columns.items():
        if {len(column) for column in pair} != {len(groups)}:
            raise ValueError(
                f"column {name}: {len(pair[0])} and {len(pair[1])} numbers, expected "
                f"{len(groups)}, one for each of groups"
            )
    nothing = Interval(*[float("nan")] * 3)
    if not len(groups):
        return dict.fromkeys(columns, nothing)
    members, drawn = draw_groups(groups, num_samples=num_samples, seed=seed)
    size = drawn.shape[1]

    def interval(above: np.ndarray, below: np.ndarray) -> Interval:
        if not below.sum():
            return nothing
        sums = [np.bincount(members, weights=x, minlength=size) for x in (above, below)]
        some = drawn @ sums[1] > 0  # a sample may hold only groups without this score
        ratios = (drawn[some] @ sums[0]) / (drawn[some] @ sums[1])
        value = float(np.sum(above) / np.sum(below))
        return percentile_interval(value, ratios, level=level)

    return {name: interval(*map(np.asarray, pair)) for name, pair in columns.items()}


def percentile_interval(
    value: float, samples: Float[np.ndarray, "R"], *, level: float
) -> Interval:
    """An estimate, and the percentiles that its bootstrap samples end at.

    Args:
        value: Of all items; NaN gives NaN throughout.
        samples: The same of each sample. NaN, where a sample has nothing to score, is
            left out; nothing else gives NaN throughout.
        level: The share of samples inside the interval, above 0 and below 1.
    """
    defined = samples[~np.isnan(samples)]
    if np.isnan(value) or not len(defined):
        return Interval(*[float("nan")] * 3)
    tail = 50 * (1 - level)
    return Interval(value, *np.percentile(defined, [tail, 100 - tail]).tolist())


def draw_groups(
    groups: Shaped[np.ndarray, "N"], *, num_samples: int, seed: int
) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "num_samples S"]]:
    """Each item's group as a number, and how often each sample draws each group.

    Args:
        groups: The name or number of each item's group, at least one item; the S
            groups are numbered from 0 on in sorted order.
        num_samples: How many samples are drawn; each draws S groups with replacement.
        seed: An integer of at least 0; the same seed gives the same draws.

    Raises:
        ValueError: less than one sample, or no item.
    """
    if num_samples < 1 or not len(groups):
        raise ValueError(
            f"num_samples {num_samples} of {len(groups)} items: expected at least 1 of "
            "at least 1"
        )
    names, members = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=num_samples
    )
    return members.reshape(-1), drawn


def check_same_questions(
    results: Mapping[str, Mapping[str, Shaped[np.ndarray, "N"]]],
) -> None:
    """Refuse contenders that were asked other things than the first.

    Args:
        results: By contender, at least one: what tells the questions apart, by name.

    Raises:
        ValueError: A column of a contender is not that of the first.
    """
    first, *others = results
    for name in others:
        for column, asked in results[first].items():
            if not np.array_equal(asked, results[name][column]):
                raise ValueError(
                    f"{name} and {first} answered different questions: their {column} "
                    "columns differ; score both on the same records in the same order"
                )


def check_level(level: float) -> None:
    """Refuse a share of the samples that no interval may hold.

    Args:
        level: Above 0 and below 1.

    Raises:
        ValueError: Another number, NaN among them.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected above 0 and below 1, found {level}")


def interval_cell(interval: Interval, *, digits: int, alone: bool = False) -> str:
    """`0.512 [0.498, 0.530]`, or "-" where the value is NaN.

    Args:
        interval: In the unit that the column's head names.
        digits: Decimals that are shown, 0 or more.
        alone: True shows the value without its interval.
    """
    if np.isnan(interval.value):
        return "-"
    value, low, high = (f"{x:.{digits}f}" for x in interval)
    return value if alone else f"{value} [{low}, {high}]"


def render_text(table: Table) -> str:
    """The table for a terminal: title, header, rule and rows, columns aligned.

    Args:
        table: Its first column stands to the left, the others to the right.
    """
    lines = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([table.title, text[0], rule, *text[1:]])


def scores_table(
    title: str,
    header: tuple[str, ...],
    scored: Mapping[str, tuple[int, Mapping[str, Interval]]],
) -> Table:
    """One row a contender: what it was scored on, and its scores with intervals.

    Args:
        title: Of the table.
        header: What the count is of, then the names of the scores.
        scored: By contender, in the order of the rows: the count, and its scores in the
            order of the header.
    """
    rows = [
        (name, str(count), *(interval_cell(x, digits=3) for x in intervals.values()))
        for name, (count, intervals) in scored.items()
    ]
    return Table(title, ("", *header), tuple(rows))


class Contender(NamedTuple):
    """What a table of scores shows of one policy or baseline."""

    intervals: Mapping[str, Interval]  # its scores by name, `main`'s mean the first
    main: Float[np.ndarray, "N"]  # an entry an answer
    groups: Shaped[np.ndarray, "N"]  # whose answers are resampled together


def compared_table(
    title: str,
    contenders: Mapping[str, Contender],
    *,
    against: str | None,
    num_samples: int,
    level: float,
    seed: int,
) -> Table:
    """One row a contender: its number of answers, its scores, what it gained.

    Args:
        title: Of the table.
        contenders: In the order of the rows; all have the same scores and answered the
            same questions in the same order. `length` is shown with one decimal.
        against: A contender: behind the first score stands the difference of each
            other's to its one, paired by answer, with an interval of its own. None
            leaves it out.
        num_samples: How many bootstrap samples the differences have, 1 or more.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Of the draws; the same for every contender.
    """
    rows, header = [], ()
    resampling = {"num_samples": num_samples, "level": level, "seed": seed}
    for name, one in contenders.items():
        header = tuple(one.intervals)
        cells = [
            interval_cell(value, digits=1 if metric == "length" else 3)
            for metric, value in one.intervals.items()
        ]
        if against is not None:
            gained = one.main - contenders[against].main
            columns = {"gain": gained if name != against else gained + np.nan}
            gain = group_intervals(columns, one.groups, **resampling)["gain"]
            cells.insert(1, interval_cell(gain, digits=3))
            header = (header[0], f"minus {against}", *header[1:])
        rows.append((name, str(len(one.main)), *cells))
    return Table(title, ("", "n", *header), tuple(rows))
