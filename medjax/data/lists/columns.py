"""Names that a user's columns may not have: rewards in Python are given them."""

from collections.abc import Iterable

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
