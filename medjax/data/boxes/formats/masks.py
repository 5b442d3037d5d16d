"""Folders of images and masks: the boxes are those around what the masks mark."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from medjax.data.boxes.entries import BoxEntry
from medjax.data.boxes.formats.asking import Asking, Found, Seen, ask, choose_classes
from medjax.data.images import ImageFile
from medjax.data.lists.groups import SPLITS
from medjax.data.lists.masks import (
    mask_regions,
    mask_slices,
    read_mask,
    read_mask_volume,
    read_names,
)
from medjax.data.lists.reading import Bad, Reading
from medjax.data.lists.recognise import refuse_groups, refuse_square

_ENDINGS = ("_mask", "_segmentation", "_seg")  # of a mask's name, after the image's
_VOLUMES = (".nii", ".nii.gz")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", *_VOLUMES)
_DICOM = (".dcm", ".dicom")  # of images alone
_READERS = 8  # masks that are read at a time


class Folders(NamedTuple):
    """Where images and their masks lie, and the part that they belong to."""

    images: Path
    masks: Path
    split: str | None


class Pair(NamedTuple):
    """An image and its mask."""

    origin: str
    image: Path
    mask: Path
    seen: Seen  # what is known of it but for what the mask marks


def find_mask_folders(path: Path) -> list[Folders]:
    """`images/` beside `masks/`, in the folder or in its `train/`, `val/`, `test/`.

    Args:
        path: A folder; of a file there are none.
    """
    places = [(path, None), *((path / name, split) for name, split in SPLITS.items())]
    return [
        Folders(place / "images", place / "masks", split)
        for place, split in places
        if (place / "images").is_dir() and (place / "masks").is_dir()
    ]


def read_masks(
    path: Path, reading: Reading, asking: Asking
) -> Iterator[BoxEntry | Bad]:
    """Entries of images with masks of the same names.

        images/case_01.png      masks/case_01.png
        names.json              {"1": "liver", "2": "spleen"}

    A mask may end in `_mask`, `_segmentation` or `_seg`, and in another format than its
    image; it has the image's size. Folders `train/`, `val/` (or `valid/`,
    `validation/`) and `test/` with `images/` and `masks/` each are the official parts.
    A binary mask has the values 0 and one other, a map of labels those that
    `data.names` names; a JPEG mask is cut at half. A mask without any value is of an
    image in which nothing was found.

    NIfTI masks lie as NIfTI images do. Each slice of `data.plane` is an image, those of
    a volume lie in one part; slices without a label are left out unless
    `data.negatives` says what they are asked.

    Args:
        path: The folder.
        reading: The options of a user's lists.
        asking: `mask` is "whole", one box around all of a label, or "components", one
            around each; `min_area` leaves out smaller regions, in pixels; `names` is
            that of `read_names`.

    Raises:
        ValueError: The folders are not there, or there are parts and none at once.
    """
    folders = find_mask_folders(path)
    if not folders or (folders[0].split is None and len(folders) > 1):
        raise ValueError(
            f"{path.name}: expected images/ beside masks/ in the folder, or in its "
            f"train/, val/ and test/, but not both; found {len(folders)} such places"
        )
    refuse_groups(reading, "masks have no columns")
    refuse_square(reading, "masks")
    names = read_names(asking.names, path)
    labels = (names,) if isinstance(names, str) else tuple(names.values())
    classes = choose_classes(labels, asking.structures, path.name)
    for place in folders:
        pairs: list[Pair] = []
        for pair in _pairs(place, path):
            if isinstance(pair, Bad):
                yield pair
            else:
                pairs.append(pair)
        for seen in marked(pairs, names, asking):
            if isinstance(seen, Bad):
                yield seen
            else:
                yield from ask((seen,), classes, asking)


def marked(
    pairs: Iterable[Pair], names: Mapping[int, str] | str, asking: Asking
) -> Iterator[Seen | Bad]:
    """What masks mark, in the pairs' order; several are read at a time.

    Args:
        pairs: Images and their masks.
        names: Of the values, see `read_names`.
        asking: `mask` and `min_area`, see `read_masks`. An image all of whose regions
            are too small is left out: it is none in which nothing was found. A class
            with regions that are too small is not asked about as absent there.
    """

    def look(pair: Pair) -> list[Seen | Bad]:
        try:
            if _ending(pair.image) in _VOLUMES:
                return _look_at_slices(pair, names, asking)
            values = read_mask(pair.mask, pair.origin, image=pair.image)
            return _look(pair.seen, values, names, asking)
        except (ValueError, FileNotFoundError) as error:
            return [Bad(pair.origin, str(error))]

    with ThreadPoolExecutor(_READERS) as pool:
        yield from itertools.chain.from_iterable(pool.map(look, pairs))


def _look(
    seen: Seen,
    values: Integer[np.ndarray, "h w"],
    names: Mapping[int, str] | str,
    asking: Asking,
) -> list[Seen | Bad]:
    """The image with what the mask marks; nothing where all of it is too small."""
    every = mask_regions(values, names, pieces=asking.mask, origin=seen.origin)
    regions = [one for one in every if one.area >= asking.min_area]
    if every and not regions:
        return []
    found = tuple(Found(seen.origin, one.label, one.box) for one in regions)
    small = {one.label: None for one in every if one.area < asking.min_area}
    height, width = values.shape
    return [seen._replace(found=found, size=(height, width), hidden=tuple(small))]


def _look_at_slices(
    pair: Pair, names: Mapping[int, str] | str, asking: Asking
) -> list[Seen | Bad]:
    """The same of a volume's slices; without negatives the empty ones are left out."""
    volume = read_mask_volume(pair.mask, pair.image, pair.origin)
    found: list[Seen | Bad] = []
    for frame, values in mask_slices(volume, asking.plane, pair.origin):
        if values.any() or asking.negatives in ("one", "all"):
            seen = pair.seen._replace(
                origin=f"{pair.origin}, {asking.plane} {frame}",
                image=ImageFile(pair.image, frame, asking.plane),
                groups={"volume": pair.origin},
            )
            found += _look(seen, values, names, asking)
    return found


def _pairs(place: Folders, root: Path) -> Iterator[Pair | Bad]:
    images = _by_stem(place.images, (*_PICTURES, *_DICOM))
    masks = _by_stem(place.masks, _PICTURES)
    for stem, files in images.items():
        mine = [*masks.get(stem, ())]
        for ending in _ENDINGS:
            mine += masks.get(stem + ending, ())
        origin = files[0].relative_to(root).as_posix()
        if len(files) > 1 or len(mine) != 1:
            yield Bad(
                origin,
                f"{origin}: {len(files)} images and {len(mine)} masks of that name; "
                "expected one of each: " + ", ".join(f.name for f in [*files, *mine]),
            )
        elif (_ending(files[0]) in _VOLUMES) != (_ending(mine[0]) in _VOLUMES):
            yield Bad(
                origin,
                f"{origin}: {files[0].name} and the mask {mine[0].name}; expected both "
                "as NIfTI, or neither",
            )
        else:
            seen = Seen(origin, ImageFile(files[0]), (), split=place.split)
            yield Pair(origin, files[0], mine[0], seen)
    for stem, files in masks.items():
        owners = [stem, *(stem.removesuffix(ending) for ending in _ENDINGS)]
        if not any(owner in images for owner in owners):
            origin = files[0].relative_to(root).as_posix()
            yield Bad(origin, f"{origin}: a mask without an image of that name")


def _by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        ending = _ending(file)
        if ending in endings and not file.name.startswith("."):
            found.setdefault(file.name[: -len(ending)], []).append(file)
    return found


def _ending(file: Path) -> str:
    name = file.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()
