"""Files of a prediction, and of an earlier one that it replaces.

Of an earlier prediction the files go that nobody has changed since.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

SUMMARY = "summary.json"  # holds the digests of the other files, under "files"


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of a folder's files, which must exist, by their names relative to it."""
    hashes = {}
    for name in names:
        with (folder / name).open("rb") as stream:
            hashes[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def earlier_files(folder: Path) -> dict[str, str]:
    """Digests of what the last prediction into a folder wrote, by name.

    It is empty where no summary.json says so.
    """
    path, summary = folder / SUMMARY, None
    if path.is_file():
        with contextlib.suppress(ValueError):  # a person's own file: nothing is ours
            summary = json.loads(path.read_text("utf-8"))
    files = summary.get("files") if isinstance(summary, Mapping) else None
    return dict(files) if isinstance(files, Mapping) else {}


def clear_stale(
    folder: Path, earlier: Mapping[str, str], kept: Iterable[str]
) -> list[str]:
    """Remove files of an earlier prediction, but none that was changed since.

    Args:
        folder: Nothing outside it is touched, nor what a link in it points to.
        earlier: Digests by name, as `earlier_files` gives them.
        kept: Names that stay in any case: they have been written anew.

    Returns:
        Names of earlier files that stay because they are not what was written.
    """
    changed = []
    for name in sorted(earlier.keys() - set(kept)):
        path = folder / name
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside or not path.is_file() or path.is_symlink():
            continue
        if digests(folder, [name])[name] == earlier[name]:
            path.unlink()
        else:
            changed.append(name)
    return changed
