"""Nuclei: crops of one labelled fluorescence image, graded by the nucleus's size.

The image comes with the package StarDist and shows 125 nuclei of cultured cells, 512 x
512 pixels whose size in micrometres is not told; all lengths here are pixels. Those at
the image's border are cut off, and left out.

The image's left fifth is the test, its right fifth the validation part, and a nucleus
is trained on only where none of its pictures shares a pixel with theirs. It is one
image: good for asking whether a method learns to judge a size, not for more.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from medjax.data.classes.pictures import Picture, PictureLook, Pictures
from medjax.data.classes.tasks import ClassTask, TaskParts
from medjax.data.volumes.ct import window_image
from medjax.data.volumes.frames import frame_image, moved_frame
from medjax.data.volumes.packs import Pack, fetch_pack, pack_sums, say
from medjax.data.volumes.shares import grade_values
from medjax.data.volumes.splits import PARTS, check_tested

SIZES = ("very small", "small", "large", "very large")
STRIP = 0.2  # of the image's width: the test part, and as much the validation part
_BORDER = 2  # pixels from the image's edge that a nucleus must keep
_WINDOW = (75.0, 140.0)  # level and width, counts; dividing nuclei are white

FLUORESCENCE = Pack(
    package="stardist",
    version="0.9.2",
    sha256="2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023",
    megabytes=3.1,
    members=(
        "stardist/data/images/img2d.tif",
        "stardist/data/images/mask2d.tif",
        "stardist-0.9.2.dist-info/licenses/LICENSE.txt",
    ),
    licence="BSD-3-Clause (package); picture and labels: CC0, BBBC038",
    credit="Fluorescence image of nuclei of the 2018 Data Science Bowl: Caicedo et "
    "al., Nature Methods 2019, doi:10.1038/s41592-019-0612-7; package StarDist: "
    "Copyright (c) 2018-2025, Uwe Schmidt, Martin Weigert",
    tags=("cp311", "cp311", "manylinux_2_28_x86_64"),
)


class Nuclei(NamedTuple):
    """An image, and K nuclei that it shows whole."""

    image: UInt8[np.ndarray, "h w"]
    label: Int[np.ndarray, "K"]  # value in the label map
    centre: Float[np.ndarray, "K 2"]  # (x, y) of the box's middle, pixel edges
    area: Int[np.ndarray, "K"]  # pixels


def find_nuclei(
    image: UInt8[np.ndarray, "h w"], labels: Int[np.ndarray, "h w"]
) -> Nuclei:
    """The labelled nuclei that keep two pixels from the image's edge.

    Args:
        image: Grey values, which are handed on.
        labels: The number of the nucleus in each pixel, 0 where there is none.

    Raises:
        ValueError: Image and labels have different shapes, or there is no such nucleus.
    """
    from scipy import ndimage

    if image.shape != labels.shape:
        raise ValueError(
            f"nuclei: expected labels of the image's shape {image.shape}, found "
            f"{labels.shape}; give those that were drawn on it"
        )
    height, width = labels.shape
    areas = np.bincount(labels.ravel())
    whole = []
    for n, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            rows, columns = box
            first = min(rows.start, columns.start)
            last = min(height - rows.stop, width - columns.stop)
            if min(first, last) >= _BORDER:
                x, y = columns.start + columns.stop, rows.start + rows.stop
                whole.append((n, x / 2, y / 2, areas[n]))
    if not whole:
        raise ValueError("nuclei: none of the labels lies wholly inside the image")
    label, x, y, area = map(np.array, zip(*whole, strict=True))
    return Nuclei(image, label, np.stack([x, y], axis=-1), area)


def split_nuclei(nuclei: Nuclei, look: PictureLook) -> Int[np.ndarray, "K"]:
    """0 train, 1 test, -1 dropped, by where in the image a nucleus lies.

    The left fifth is tested; nuclei whose pictures would overlap with the other part
    are dropped.

    Args:
        nuclei: All nuclei of one image.
        look: Its `tested` "val" tests the right fifth instead of the left one, and
            learns nothing from that either; its field decides whose pictures overlap.
    """
    check_tested(look.tested)
    width = nuclei.image.shape[1]
    test = nuclei.centre[:, 0] < STRIP * width
    held = test
    if look.tested == "val":
        right = nuclei.centre[:, 0] >= (1 - STRIP) * width
        held = test | right
        test = right & ~_overlap(nuclei, test, look)
    part = np.where(_overlap(nuclei, held, look), -1, PARTS.index("train"))
    part[test] = PARTS.index("test")
    return part.astype(np.int32)


def size_pictures(
    nuclei: Nuclei, *, look: PictureLook
) -> tuple[Pictures, Pictures, list[float]]:
    """Training and test pictures with the grade of the nucleus in their middle.

    A draw moves the crop at random; training pictures are mirrored half of the time if
    `look.mirror`. They are not scaled, as other tasks' are: the size is the question.

    Args:
        nuclei: All nuclei of one image; where each lies decides which part it is in.
        look: How crops are shown: `field` is in pixels of the image; `margin`, `least`
            and `scale` are not used.

    Returns:
        Both parts, and the thresholds of the grades in pixels: quantiles of the
        training part's areas.

    Raises:
        ValueError: A part has no nuclei.
    """
    parts = split_nuclei(nuclei, look)
    for n, part in enumerate(PARTS):
        if not (parts == n).any():
            raise ValueError(
                f"nuclei, {part}: none of {len(parts)} is in it; a field of "
                f"{look.field} pixels leaves too few apart, make it smaller"
            )
    train = parts == PARTS.index("train")
    areas = nuclei.area.astype(np.float64)
    grades, cuts = grade_values(areas, train, grades=len(SIZES), zero=None)
    first, second = (
        _pictures(nuclei, grades, np.flatnonzero(parts == n), n, look)
        for n in range(len(PARTS))
    )
    return first, second, cuts.tolist()


def read_nuclei(image: Path, labels: Path) -> Nuclei:
    """Nuclei of two TIFF files.

    Args:
        image: Counts of one channel, which become greys by the pack's own window.
        labels: The number of the nucleus in each pixel, 0 where there is none.
    """
    counts, values = (np.asarray(Image.open(path)) for path in (image, labels))
    level, width = _WINDOW
    grey = window_image(counts.astype(np.float32), level=level, width=width)
    return find_nuclei(grey, values.astype(np.int32))


def load_nuclei(
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Nuclei:
    """The nuclei of StarDist's image; fetches its pack (3 MB) where needed.

    Args:
        cache: The folder that packs are kept in; None is the usual one.
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: The pack is not there, and neither is a network.
    """
    paths = fetch_pack(FLUORESCENCE, cache, progress=progress)
    return read_nuclei(paths["img2d.tif"], paths["mask2d.tif"])


def nuclei_task(task: ClassTask, look: PictureLook) -> TaskParts:
    """The task with the pictures of `size_pictures`; fetches the pack where needed.

    Args:
        task: The task in words; its classes are grades of size.
        look: How crops are shown; its field is in pixels.
    """
    train, test, thresholds = size_pictures(load_nuclei(), look=look)
    identity = {"packs": pack_sums([FLUORESCENCE]), "thresholds": thresholds}
    return TaskParts(task, train, test, identity)


def _reach(look: PictureLook) -> Float[np.ndarray, "2"]:
    """Pixels of the image from a nucleus's centre that a picture can show, (x, y)."""
    step = look.field / min(look.size)
    shown = (0.5 + look.shift) * step * np.array(look.size[::-1])
    # Resampling reads two pixels further, of the picture or of the image; see
    # `frame_image`. A pixel that is touched counts whole.
    return shown + 2 * max(step, 1) + 1


def _overlap(
    nuclei: Nuclei, others: Bool[np.ndarray, "K"], look: PictureLook
) -> Bool[np.ndarray, "K"]:
    """Which nuclei's pictures can share a pixel with those of `others`."""
    apart = np.abs(nuclei.centre[:, None] - nuclei.centre[others])
    meet = np.all(apart < 2 * _reach(look), axis=-1)  # [K, others]
    return meet.any(axis=1)


def _pictures(
    nuclei: Nuclei,
    grades: Int[np.ndarray, "K"],
    kept: Int[np.ndarray, "n"],
    part: int,
    look: PictureLook,
) -> Pictures:
    test = part == PARTS.index("test")
    draws = look.test_draws if test else 1

    def picture(index: int, rng: np.random.Generator) -> Picture:
        n = kept[index // draws]
        x, y = nuclei.centre[n].tolist()
        frame = moved_frame(
            (x, y),
            field=look.field,
            size=look.size,
            shift=look.shift,
            scale=None,  # the size is the question
            rng=rng,
        )
        grey = frame_image(nuclei.image, frame)
        if look.mirror and not test and rng.random() < 0.5:
            grey = grey[:, ::-1]
        name = f"nucleus {nuclei.label[n]}"
        return Picture(np.repeat(grey[..., None], 3, axis=-1), name, name)

    labels = np.repeat(grades[kept], draws)[:, None].astype(np.int32)
    return Pictures(len(labels), picture, labels, (look.size,))
