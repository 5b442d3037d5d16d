"""Names of a user's columns: mistyped ones, and those that rewards in Python have."""

import difflib
from collections.abc import Collection, Iterable, Sequence

# Every keyword that the library itself passes to a reward in Python.
REWARD_WORDS = (
    *("completions", "step", "tau"),
    *("query", "question", "structure", "target", "label", "slice_id", "plane"),
)


def check_columns(names: Iterable[str], origin: str) -> None:
    """Raise where a column would take the place of what the library says by its name.

    Args:
        names: Of the columns that are handed to rewards in Python.
        origin: What an error calls the line.

    Raises:
        ValueError: A column is called by one of `REWARD_WORDS`.
    """
    for name in names:
        if name in REWARD_WORDS:
            raise ValueError(
                f"{origin}: column {name!r}: rewards in Python are given the library's "
                f"own {name!r} by that name; expected any other than "
                f"{', '.join(REWARD_WORDS)}: rename it"
            )


def check_mistyped(
    header: Sequence[str], used: Collection[str | None], words: Sequence[str], file: str
) -> None:
    """Raise where a column that nothing is read from looks like one that would be.

    Args:
        header: All columns of a file.
        used: Those that something is read from.
        words: What columns may be called that are read.
        file: What an error calls the file.

    Raises:
        ValueError: A column is called almost like one of the words, such as "spilt".
    """
    for column in header:
        near = difflib.get_close_matches(column.lower(), words, cutoff=0.75)
        if column not in used and near:
            raise ValueError(
                f"{file}, line 1: column {column!r}; is it meant to be {near[0]!r}? "
                "Correct it, or rename it to something else"
            )
