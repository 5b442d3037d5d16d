"""Classes of COCO JSON: the categories of an image's annotations, as labels of it."""

from collections.abc import Iterator
from pathlib import Path

from medjax.data.classes.entries import NOTHING_FOUND, LabelEntry
from medjax.data.lists.coco import marked_images, open_coco
from medjax.data.lists.reading import Bad, Reading


def read_coco_labels(path: Path, reading: Reading) -> Iterator[LabelEntry | Bad]:
    """Entries of a COCO file, or of one for each official part: an image, its classes.

    An image shows the categories of its annotations, crowds among them, each once;
    without any it shows none, as where its one category is "No finding" and sets of
    labels are asked for. Where the annotations have boxes or shapes, these are let
    be, wrong ones too, and so are `width` and `height`.

    Args:
        path: A file or a folder, see `find_coco`.
        reading: The options of a user's lists.

    Raises:
        ValueError: The file is no COCO, or ids or names of categories are not unique.
    """
    root = path if path.is_dir() else path.parent
    for file in open_coco(path):
        for one in marked_images(file, root, reading, None):
            if isinstance(one, Bad):
                yield one
                continue
            labels = tuple(dict.fromkeys(mark.category for mark in one.marks))
            empty = [name for name in labels if name.casefold() in NOTHING_FOUND]
            if reading.answers == "set" and empty and len(labels) > 1:
                yield Bad(
                    one.origin,
                    f"{one.origin}: its annotations say {', '.join(labels)}; expected "
                    f"{empty[0]!r} alone, or other categories",
                )
            else:
                yield LabelEntry(
                    origin=one.origin,
                    image=one.image,
                    labels=() if reading.answers == "set" and empty else labels,
                    groups=one.groups,
                    split=one.split,
                    reader=None,
                    columns={},
                )
