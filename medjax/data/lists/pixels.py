"""What joins rows beside the words of a list: one file, equal pixels, near copies."""

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from medjax.data.audit.duplicates import constant_pictures, near_pairs
from medjax.data.audit.records import Facts, LookFn, Pictures
from medjax.data.images import ImageFile, image_size
from medjax.data.lists.groups import picture_key


def picture_contents(
    pictures: Pictures | None, *, near: bool
) -> dict[ImageFile, tuple[Hashable, ...]]:
    """Keys of each picture that was decoded, of which equal ones have one in common.

    Args:
        pictures: Their facts; None, where nothing was decoded, gives {}.
        near: Whether nearly equal pictures have a key in common too, see
            `near_pictures`.

    Raises:
        ValueError: `near` of pictures that were not decoded.
    """
    if pictures is None:
        if near:
            raise ValueError(
                "data.near=group needs the pictures decoded; leave data.check=off out"
            )
        return {}
    files, facts = list(pictures.facts), list(pictures.facts.values())
    keys: dict[ImageFile, list[Hashable]] = {
        file: [_pixel_key(file, one, constant)]
        for file, one, constant in zip(
            files, facts, constant_pictures(facts), strict=True
        )
    }
    for n, pair in enumerate(near_pairs(pictures) if near else ()):
        for place in pair[:2]:
            keys[files[place]].append(("near", n))
    return {file: tuple(found) for file, found in keys.items()}


def contents_of(
    file: ImageFile, contents: Mapping[ImageFile, tuple[Hashable, ...]]
) -> tuple[Hashable, ...]:
    """What joins a picture to others: its pixels, or else its place, and its file.

    Frames of one film and slices of one volume are near copies of each other: those of
    one file lie in one part.

    Args:
        file: The picture.
        contents: From `picture_contents`.
    """
    found = contents.get(file, (picture_key(file),))
    return (
        found if file.frame is None else (*found, ("file", os.path.abspath(file.path)))
    )


class Seen(NamedTuple):
    """A picture that can be used."""

    size: tuple[int, int]  # (height, width) as shown
    # Of its pixels; of its place, where it was not decoded or is one grey all over.
    digest: str


PictureState = Seen | OSError | ValueError


def see_pictures(
    named: Iterable[tuple[str, Sequence[ImageFile]]], decode: LookFn | None
) -> tuple[dict[ImageFile, PictureState], Pictures | None]:
    """Every picture once: what it is, or why it cannot be used.

    Args:
        named: Of each line its origin and its pictures.
        decode: Decodes them; None reads their sizes alone.
    """
    files: dict[ImageFile, str] = {}
    for origin, images in named:
        for image in images:
            files.setdefault(image, origin)
    found: dict[ImageFile, PictureState] = {}
    if decode is None:
        for image, origin in files.items():
            try:
                found[image] = Seen(image_size(image, origin), picture_key(image))
            except (OSError, ValueError) as error:
                found[image] = type(error)(str(error).removeprefix(f"{origin}: "))
        return found, None
    pictures = decode(files)
    facts = list(pictures.facts.values())
    for image, one, constant in zip(
        pictures.facts, facts, constant_pictures(facts), strict=True
    ):
        found[image] = Seen(one.size, _pixel_key(image, one, constant))
    for image, origin in files.items():
        if image not in found:
            kind = ValueError if image.path.exists() else FileNotFoundError
            told = pictures.problems[image].removeprefix(f"{origin}: ")
            found[image] = kind(told)
    return found, pictures


def _pixel_key(file: ImageFile, facts: Facts, constant: bool) -> str:
    """Empty slices of two volumes are equal, and no reason to join their patients."""
    return picture_key(file) if constant else facts.digest


def use_picture(found: PictureState, origin: str) -> Seen:
    """The picture, or its error with the line that uses it.

    Args:
        found: From `see_pictures`.
        origin: What an error calls the line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    if isinstance(found, Seen):
        return found
    raise type(found)(f"{origin}: {found}")
