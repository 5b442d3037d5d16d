"""Scores by what the data says of its pictures: sex, scanner, modality, any column."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from medjax.evals.subgroups import subgroup_table
from medjax.evals.tables import Table
from medjax.recipes.policy.score_story import Rated
from medjax.recipes.policy.task import Evaluation

PLANE = "plane"  # of every record; the others are columns
UNKNOWN = "(empty)"


class Shown(Protocol):
    """What a record says beside its question."""

    @property
    def plane(self) -> str:
        """Of the slice, perhaps behind its modality; or the picture's kind."""
        ...

    @property
    def columns(self) -> Mapping[str, Any]:
        """What else the data says about it."""
        ...


def subgroup_tables(
    rated: Rated, records: Sequence[Shown], evaluation: Evaluation
) -> list[Table]:
    """The score by plane, and by each column that the config names.

    Columns are shown by name alone: a list may hold who a patient is.

    Args:
        rated: All contenders on the same questions.
        records: The questions, in the same order.
        evaluation: Its `subgroups` name the columns; a column with one value, and one
            that no record has, gives no table.
    """
    own = next(iter(rated.contenders))
    columns = {PLANE: [record.plane for record in records]}
    for name in evaluation.subgroups:
        columns[name] = [_text(record.columns.get(name)) for record in records]
    tables = (
        subgroup_table(
            f"{own} by {name}",
            rated.metric,
            rated.contenders,
            values,
            rated.groups,
            **evaluation.resampling,
        )
        for name, values in columns.items()
    )
    return [table for table in tables if table is not None]


def check_subgroups(
    evaluation: Evaluation, batches: Callable[[], Iterable[tuple[Any, Sequence[Shown]]]]
) -> None:
    """Refuse columns that no question of the test part has.

    Args:
        evaluation: Without `subgroups` nothing is drawn.
        batches: The evaluation's.

    Raises:
        ValueError: There is no such column; those that there are are named.
    """
    missing, known = set(evaluation.subgroups), set[str]()
    if not missing:
        return
    for _, records in batches():
        for record in records:
            known |= record.columns.keys()
        if missing <= known:
            return
    unknown = ", ".join(sorted(missing - known))
    raise ValueError(
        f"evaluation.subgroups: no column {unknown} in the test part; expected some of "
        f"{', '.join(sorted(known)) or 'none, as the data has no columns'}"
    )


def _text(value: object) -> str:
    return UNKNOWN if value in (None, "") else str(value)
