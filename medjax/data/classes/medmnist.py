"""MedMNIST files: small pictures in `.npz` arrays with official splits.

    organamnist.npz, organamnist_224.npz: train_images [n, h, w] or [n, h, w, 3] uint8,
    train_labels [n, 1], and the same for val_ and test_
    chestmnist.npz: train_labels [n, 14] of 0 and 1, several a picture or none
    organmnist3d.npz, organmnist3d_64.npz: train_images [n, d, h, w], one label a volume

Volumes are shown slice by slice. What their axes are in the body is not published, so
an axis is named by its number.
The files are the user's own (Yang et al., Scientific Data 2023, zenodo 10519652; CC BY
4.0, DermaMNIST CC BY-NC 4.0). They hold no class names: those are in `SETS`, or come
from a JSON file. Pictures have no patients' ids, so each is a group of its own,
and so is each volume.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from medjax.data.classes.medmnist_arrays import (
    PARTS,
    check_images,
    label_marks,
    member_sums,
    read_parts,
    single_labels,
)
from medjax.data.classes.medmnist_sets import SETS, MedSet
from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.tasks import ClassQuestion, ClassTask, TaskParts


class Slices(NamedTuple):
    """Which slices of a volume are shown."""

    axis: int = 0  # that slices are cut across, of the three of the array
    step: int = 1  # every so many voxels, from the middle of the first so many on


EVERY = Slices()


def load_medmnist(
    path: str | os.PathLike[str],
    *,
    test: str = "test",
    classes: Sequence[str] | None = None,
    ordinal: bool | None = None,
    multi: bool = False,
    slices: Slices = EVERY,
) -> TaskParts:
    """The task of a file, its training part and the part to test on.

    Args:
        path: The .npz file; which set it is, is known by its name.
        test: The official part that is tested, "test" or "val".
        classes: Names in the order of the labels; None takes those of `SETS`.
        ordinal: Whether the classes are grades; None takes what `SETS` says, or else
            False.
        multi: Whether a file that is not in `SETS` has marks of several classes a
            picture, as those of chestmnist are. A set of `SETS` is what it is.
        slices: Which slices of volumes are shown; each is a picture, and those of a
            volume are one group. Not read for pictures.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, lacks a split, has several labels a picture
            where one is expected or the other way round, pictures of another kind, or a
            label outside the classes; the set is unknown; or there are no such slices.
    """
    path = Path(path)
    if test not in PARTS[1:]:
        raise ValueError(f"test={test!r}: expected one of {PARTS[1:]}")
    stem = re.sub(r"_(28|64|128|224)$", "", path.stem.lower())
    arrays = read_parts(path, ("train", test))
    known = SETS.get(stem)
    if classes is None and known is None:
        raise ValueError(
            f"{path}: {stem!r} is none of {', '.join(SETS)}, and the file holds no "
            "class names: give them as a JSON file, a list in the labels' order"
        )
    if known is not None and multi and not known.multi:
        raise ValueError(
            f"{path}: {stem} has one label a picture; leave out data.answers=set"
        )
    names = tuple(classes if classes is not None else known.classes if known else ())
    graded = (known.ordinal if known else False) if ordinal is None else ordinal
    several = known.multi if known else multi
    shape = _Shape(len(names), several, known.volumes if known else None, slices)
    both = [_pictures(path, part, *arrays[part], shape) for part in ("train", test)]
    task = ClassTask(
        name=stem,
        classes=names,
        questions=(_question(known, len(names), graded, several),),
        ordinal=graded,
        multi=several,
    )
    identity = {
        "task": stem,
        "classes": list(names),
        "crc": member_sums(path),
        "test": test,
    }
    if both[0].voted:
        identity |= {"slices": slices._asdict()}
    copies = _copies(path.name, arrays["train"][0], test, arrays[test][0])
    return TaskParts(task, both[0], both[1], identity, copies=copies)


def _copies(
    name: str, train: UInt8[np.ndarray, "n ..."], test: str, tested: np.ndarray
) -> tuple[str, ...]:
    """A line where pictures or volumes of both parts are equal, and no single grey."""

    def sums(images: np.ndarray) -> dict[bytes, int]:
        return {
            hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest(): n
            for n, image in enumerate(images)
            if image.min() < image.max()
        }

    known, other = sums(train), sums(tested)
    both = [(n, known[key]) for key, n in other.items() if key in known]
    if not both:
        return ()
    first, like = both[0]
    return (
        f"{name}: {len(both)} of the {len(tested)} in {test}_images are in "
        f"train_images too, pixel by pixel, such as {test} {first} = train {like}; "
        "scores count them",
    )


class _Shape(NamedTuple):
    """What a file's arrays should be."""

    classes: int
    multi: bool
    volumes: bool | None  # None: as the arrays look
    slices: Slices


def _pictures(
    path: Path, part: str, images: np.ndarray, labels: np.ndarray, shape: _Shape
) -> Pictures:
    read = label_marks if shape.multi else single_labels
    known = read(path, part, labels, shape.classes)
    check_images(path, part, images, shape.volumes)
    if len(images) != len(known):
        raise ValueError(
            f"{path}: {len(images)} {part}_images and {len(known)} {part}_labels"
        )
    if images.ndim == 4 and images.shape[-1] != 3:
        return _slices(path, part, images, known, shape.slices)

    def picture(index: int, rng: np.random.Generator) -> Picture:
        del rng  # nothing is drawn
        name = f"{path.name} {part} {index}"
        return Picture(_rgb(images[index]), name, name)

    return Pictures(len(known), picture, known, (images.shape[1:3],))


def _slices(
    path: Path,
    part: str,
    images: UInt8[np.ndarray, "n d h w"],
    labels: Int[np.ndarray, "n Q"],
    slices: Slices,
) -> Pictures:
    """The slices of volumes, volume by volume; a volume is a group."""
    axis, step = slices
    if axis not in (0, 1, 2):
        raise ValueError(f"data.slices.axis={axis}: expected 0, 1 or 2")
    across = images.shape[1 + axis]
    if not 1 <= step <= across:
        raise ValueError(
            f"data.slices.step={step}: {path.name} has {across} slices across axis "
            f"{axis}; expected 1 to {across}"
        )
    positions = range((step - 1) // 2, across, step)

    def picture(index: int, rng: np.random.Generator) -> Picture:
        del rng  # nothing is drawn
        volume, n = divmod(index, len(positions))
        image = images[volume].take(positions[n], axis=axis)
        name = f"{path.name} {part} volume {volume}"
        return Picture(_rgb(image), f"{name}, slice {positions[n]}", name)

    size = tuple(np.delete(images.shape[1:], axis).tolist())
    every = np.repeat(labels, len(positions), axis=0)
    return Pictures(len(every), picture, every, (size,), voted="volume")


def _rgb(image: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "h w 3"]:
    return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image


def _question(
    known: MedSet | None, count: int, ordinal: bool, multi: bool
) -> ClassQuestion:
    picture = known.picture if known else "picture"
    phrasings = (
        "Which class is this?",
        f"What does this {picture} show?",
        f"Classify this {picture}.",
    )
    if ordinal:
        phrasings = ("Which grade is this?", f"Grade this {picture}.")
    if multi:
        phrasings = (
            "Which of these are seen?",
            f"What does this {picture} show?",
            f"Name all that this {picture} shows.",
        )
    return ClassQuestion("class", phrasings, tuple(range(count)))
