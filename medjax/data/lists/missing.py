"""What is said of data that is not there: a path, or a name that nothing has."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

_NEAR = 3  # names that an error offers


def missing_source(
    source: str, names: Sequence[str], what: str, expected: str
) -> FileNotFoundError:
    """The error that neither a built-in name nor a path leads to any data.

    What has a slash, an ending or a name beside it that is almost the same is told as a
    path: how far it leads, and what is called nearly so there. Anything else is told as
    an unknown name.

    Args:
        source: As the config says; nothing is there.
        names: The built-in ones.
        what: What errors call a name, such as "task".
        expected: What a path may lead to, such as "a user's file or folder of boxes".
    """
    path = Path(source)
    folder, gone = path.parent, path.name
    while folder != folder.parent and not folder.is_dir():
        folder, gone = folder.parent, folder.name
    near = _near(gone, os.listdir(folder)) if folder.is_dir() else []
    known = _near(source, names)
    if not known and (path.suffix or near or any(mark in source for mark in "/\\~")):
        where = "the current folder" if folder == Path() else f"{folder}/"
        hint = f"; near it {_or(near)}" if near else ""
        if source.startswith("~"):
            hint += "; a ~ is not the home folder here, write it out"
        return FileNotFoundError(
            f"data={source}: no such file or folder, {where} has no {gone!r}{hint}. "
            f"Expected {expected}, or one of {', '.join(names)}"
        )
    hint = f"; did you mean {_or(known)}?" if known else "."
    return FileNotFoundError(
        f"{what} {source!r}: no such name or path{hint} Expected one of "
        f"{', '.join(names)}, or the path of {expected}"
    )


def _near(name: str, names: Sequence[str]) -> list[str]:
    """What differs from a name by a few letters, or by case or its ending alone."""
    stems = {Path(one).stem.casefold(): one for one in names}
    same = [stems[stem]] if (stem := Path(name).stem.casefold()) in stems else []
    close = difflib.get_close_matches(name, names, n=_NEAR, cutoff=0.7)
    return list(dict.fromkeys((*same, *close)))[:_NEAR]


def _or(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
