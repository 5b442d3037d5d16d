"""What joins rows beside the words of a list: one file, equal pixels, near copies."""

from collections.abc import Hashable, Mapping

from medjax.data.audit.duplicates import near_pictures
from medjax.data.audit.records import Pictures
from medjax.data.images import ImageFile
from medjax.data.lists.groups import picture_key


def picture_contents(
    pictures: Pictures | None, *, near: bool
) -> dict[ImageFile, tuple[Hashable, ...]]:
    """Keys of each picture that was decoded, of which equal ones have one in common.

    Args:
        pictures: Their facts; None, where nothing was decoded, gives {}.
        near: Whether nearly equal pictures have a key in common too, see
            `near_pictures`.
    """
    if pictures is None:
        return {}
    files, facts = list(pictures.facts), list(pictures.facts.values())
    keys: dict[ImageFile, list[Hashable]] = {
        file: [one.digest] for file, one in pictures.facts.items()
    }
    for n, pair in enumerate(near_pictures(facts) if near else ()):
        for place in pair[:2]:
            keys[files[place]].append(("near", n))
    return {file: tuple(found) for file, found in keys.items()}


def contents_of(
    file: ImageFile, contents: Mapping[ImageFile, tuple[Hashable, ...]]
) -> tuple[Hashable, ...]:
    """What joins a picture to others: its pixels, or else its place.

    Args:
        file: The picture.
        contents: From `picture_contents`.
    """
    return contents.get(file, (picture_key(file),))
