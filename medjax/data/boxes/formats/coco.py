"""Boxes of COCO JSON."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medjax.data.boxes.entries import BoxEntry
from medjax.data.boxes.formats.asking import Asking, Found, Seen, ask, choose_classes
from medjax.data.boxes.formats.regions import polygon_box, rle_box
from medjax.data.lists.coco import MarkedImage, marked_images, open_coco
from medjax.data.lists.reading import Bad, Reading


def read_coco(path: Path, reading: Reading, asking: Asking) -> Iterator[BoxEntry | Bad]:
    """Entries of a COCO detection file, or of one for each official part.

        {"images": [{"id": 1, "file_name": "a/1.png", "width": 640, "height": 480}],
         "annotations": [{"id": 7, "image_id": 1, "category_id": 3,
                          "bbox": [x, y, width, height]}],
         "categories": [{"id": 3, "name": "nodule"}]}

    `bbox` is in pixels from the top left corner of the image, of which `width` and
    `height` must be true. Where it is missing the tight box of `segmentation`, polygons
    or run lengths, takes its place; where it is there it is used, also of a crowd
    (`iscrowd`). An image without annotations is one in which nothing was found.
    `file_name` counts from the file's folder, the data's folder, or `images/` or the
    part's folder in it. Groups are fields of an image. What else the
    file says, licences among it, is let be.

    Args:
        path: A file or a folder, see `find_coco`.
        reading: The options of a user's lists.
        asking: What is asked about them.

    Raises:
        ValueError: The file is no COCO, or ids or names of categories are not unique.

    Source: the format of the COCO data set, cocodataset.org, "Data format", and its
    reference reader pycocotools.
    """
    files = open_coco(path)
    root = path if path.is_dir() else path.parent
    names = dict.fromkeys(name for file in files for name in file.categories.values())
    classes = choose_classes(tuple(names), asking.structures, path.name)
    for file in files:
        seen: list[Seen] = []
        for one in marked_images(file, root, reading, _box):
            if isinstance(one, Bad):
                yield one
            else:
                seen.append(_seen(one))
        yield from ask(seen, classes, asking)


def _seen(one: MarkedImage) -> Seen:
    return Seen(
        origin=one.origin,
        image=one.image,
        found=tuple(Found(*mark) for mark in one.marks),
        groups=one.groups,
        split=one.split,
        size=one.size,
    )


def _box(
    entry: Mapping[str, Any], image: Mapping[str, Any]
) -> tuple[float, float, float, float] | str:
    """(x1, y1, x2, y2) of an annotation, or what is wrong with it."""
    box = entry.get("bbox")
    if box in (None, []):
        shape = entry.get("segmentation")
        if shape in (None, [], {}):
            return "neither bbox nor segmentation; expected one of them"
        if not isinstance(shape, dict):
            return polygon_box(shape)
        size = [image.get("height"), image.get("width")]
        if shape.get("size") != size:
            return (
                f"segmentation of size {shape.get('size')!r}, but the image's height "
                f"and width are {size!r}; expected the same"
            )
        return rle_box(shape)
    numbers = isinstance(box, list) and len(box) == 4
    if not numbers or not all(
        type(x) in (int, float) and math.isfinite(x) for x in box
    ):
        return f"bbox {box!r}; expected four numbers [x, y, width, height]"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return f"bbox {box!r} is empty; expected width and height above 0"
    return float(x), float(y), float(x + width), float(y + height)
