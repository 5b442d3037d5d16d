"""A score by the values of a column: does a policy do as well for all of them?"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from medjax.evals.tables import Table, group_intervals, interval_cell

MOST = 12  # values that have a row; the rarer ones share the last


def subgroup_table(
    title: str,
    metric: str,
    contenders: Mapping[str, Float[np.ndarray, "N"]],
    values: Sequence[str],
    groups: Shaped[np.ndarray, "N"],
    *,
    num_samples: int,
    level: float,
    seed: int,
) -> Table | None:
    """A row a value: answers, groups, the first contender's score, the others'.

    The first has an interval, by resampling the groups that have the value; one of a
    single group would say nothing, and is left out. Rows of few groups differ by chance
    alone: the intervals say how much.

    Args:
        title: Of the table.
        metric: What the score is called, such as "A@0.5".
        contenders: A number an answer, NaN where there is none, by contender.
        values: Of the column, one an answer; the `MOST` most frequent ones have rows.
        groups: Whose answers are resampled together.
        num_samples: How many samples are drawn, 1 or more.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Of the draws, an integer of at least 0.

    Returns:
        None where all answers have the same value, or there is none.
    """
    column = np.array([str(value) for value in values])
    names, counts = np.unique(column, return_counts=True)
    if len(names) < 2:
        return None
    shown = names.tolist()
    if len(names) > MOST:
        frequent = np.argsort(-counts, kind="stable")[: MOST - 1]
        shown = names[np.sort(frequent)].tolist()
    masks = {name: column == name for name in shown}
    if len(names) > len(shown):
        rest = f"{len(names) - len(shown)} other values"
        masks[rest] = ~np.isin(column, shown)
    own, *others = contenders
    rows = []
    for name, mask in masks.items():
        here = {k: np.asarray(x, np.float64)[mask] for k, x in contenders.items()}
        found = group_intervals(
            here, groups[mask], num_samples=num_samples, level=level, seed=seed
        )
        count = len(np.unique(groups[mask]))
        rows.append(
            (
                name,
                str(int(mask.sum())),
                str(count),
                interval_cell(found[own], digits=3, alone=count < 2),
                *(interval_cell(found[k], digits=3, alone=True) for k in others),
            )
        )
    head = ("", "n", "groups", *(f"{metric} {name}" for name in contenders))
    return Table(title, head, tuple(rows))
