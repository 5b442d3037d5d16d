"""Images by their bare names, in the folders where published sets keep them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".dicom", ".dcm")


def by_stem(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """The image files of folders by name without the ending, in the folders' order.

    Args:
        folders: Those that are there; no folder inside them is looked into.
    """
    found: dict[str, list[Path]] = {}
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in PICTURES and not file.name.startswith("."):
                found.setdefault(file.stem, []).append(file)
    return found


def the_one(files: Mapping[str, list[Path]], stem: str, origin: str) -> Path:
    """The file of that name.

    Copies of the same size in several folders, as an archive on Kaggle has them, are
    one.

    Args:
        files: From `by_stem`.
        stem: The name without the ending.
        origin: What an error calls the line that names it.

    Raises:
        ValueError: There is none, or several differ.
    """
    mine = files.get(stem, [])
    if not mine:
        raise ValueError(
            f"{origin}: no image {stem} in the folders of the set; get it, take the "
            "line out, or say data.on_bad=drop"
        )
    if len(mine) > 1 and (
        len({file.stat().st_size for file in mine}) > 1
        or len({file.suffix for file in mine}) > 1
    ):
        raise ValueError(
            f"{origin}: {len(mine)} images are called {stem}: "
            + ", ".join(f"{file.parent.name}/{file.name}" for file in mine)
        )
    return mine[0]
