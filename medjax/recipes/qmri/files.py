"""What a prediction wrote, and what of an earlier one has to go when it is replaced."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

SUMMARY = "summary.json"  # holds what `digests` found, under "files"


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of a folder's files, by their names relative to it."""
    found = {}
    for name in names:
        with (folder / name).open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def earlier_files(folder: Path) -> dict[str, str]:
    """What the last prediction into a folder wrote; empty where none says so."""
    path, found = folder / SUMMARY, None
    if path.is_file():
        with contextlib.suppress(ValueError):  # a person's own file: nothing is ours
            found = json.loads(path.read_text("utf-8"))
    files = found.get("files") if isinstance(found, Mapping) else None
    return dict(files) if isinstance(files, Mapping) else {}


def clear_stale(
    folder: Path, earlier: Mapping[str, str], kept: Iterable[str]
) -> list[str]:
    """Remove files of an earlier prediction, but none that was changed since.

    Args:
        folder: nothing outside it is touched.
        earlier: from `earlier_files`.
        kept: names that stay in any case: they have been written anew.

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
