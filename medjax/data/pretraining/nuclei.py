"""Nuclei of one fluorescence image, boxed: the largest, the brightest, the leftmost.

Crops are cut from strips of the image: the left fifth is never shown, the right fifth
is validated on, and what lies between is trained on.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from medjax.data.boxes.queries import phrasings
from medjax.data.boxes.slices import Look
from medjax.data.boxes.views import View, Views
from medjax.data.classes.nuclei import FLUORESCENCE, STRIP
from medjax.data.pretraining.attributes import all_reasons
from medjax.data.pretraining.looks import Changes, changed_greys
from medjax.data.pretraining.slices import described
from medjax.data.volumes.ct import window_image
from medjax.data.volumes.frames import Frame, frame_image
from medjax.data.volumes.packs import fetch_pack, say

DOMAIN, PLANE, MODALITY = "nuclei", "microscopy", "fluorescence"
NAMES = tuple(
    f"{word} whole nucleus"
    for word in (
        *("largest", "smallest", "brightest", "darkest"),
        *("leftmost", "rightmost", "uppermost", "lowest"),
    )
)
_WINDOW = (75.0, 140.0)  # level and width, counts, as of the graded task
_GAP = 4  # pixels of the image kept from a strip's edge, the reach of resampling
_AHEAD = 1.1  # how much more size or brightness than the next makes the most
_APART = 3.0  # pixels of the image that make one the leftmost
_DRAWS = 256  # tries for a crop with something to ask for


class Field(NamedTuple):
    """The image and the nuclei that lie wholly inside it."""

    image: UInt8[np.ndarray, "h w"]
    boxes: Int[np.ndarray, "K 4"]  # edges (x1, y1, x2, y2)
    area: Float[np.ndarray, "K"]  # pixels
    tone: Float[np.ndarray, "K"]  # mean grey


def read_field(
    image: UInt8[np.ndarray, "h w"], labels: Int[np.ndarray, "h w"]
) -> Field:
    """The labelled nuclei that do not touch the image's edge.

    Args:
        image: Grey values.
        labels: The number of the nucleus in each pixel, 0 where there is none.
    """
    from scipy import ndimage

    height, width = labels.shape
    boxes, area, tone = [], [], []
    for n, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is None:
            continue
        rows, columns = found
        if rows.start and columns.start and rows.stop < height and columns.stop < width:
            mask = labels[found] == n
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            area.append(float(mask.sum()))
            tone.append(float(image[found][mask].mean()))
    return Field(
        image, np.array(boxes, np.int32).reshape(-1, 4), np.array(area), np.array(tone)
    )


def load_field(
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Field:
    """The nuclei of StarDist's image; fetches its pack (3 MB) where needed.

    Args:
        cache: The folder that packs are kept in; None is the usual one.
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: The pack is not there, and neither is a network.
    """
    paths = fetch_pack(FLUORESCENCE, cache, progress=progress)
    counts, labels = (
        np.asarray(Image.open(paths[name])) for name in ("img2d.tif", "mask2d.tif")
    )
    level, width = _WINDOW
    grey = window_image(counts.astype(np.float32), level=level, width=width)
    return read_field(grey, labels.astype(np.int32))


def nuclei_views(
    field: Field, look: Look, changes: Changes | None, *, side: float, count: int
) -> Views:
    """Crops of one part, new at every draw.

    Args:
        field: The image and its nuclei.
        look: Its size, `min_side` and phrasings are used.
        changes: How far training crops are scaled and changed in contrast; None gives
            crops of the validation part, which are not changed.
        side: Pixels of the image along a side of a crop at scale 1. At the smallest
            scale a crop must fit into a fifth of the image's width.
        count: How many views an epoch has, 1 or more.

    Raises:
        ValueError: A crop is wider than its strip, or 256 crops in turn show
            nothing to ask for.
    """
    height, width = field.image.shape
    edges = (1 - STRIP, 1.0) if changes is None else (STRIP, 1 - STRIP)
    left, right = edges[0] * width + _GAP, edges[1] * width - _GAP * (edges[1] < 1)
    widest = side / (1.0 if changes is None else changes.scale[0])
    if widest > min(right - left, height):
        raise ValueError(
            f"nuclei: crops of up to {widest:.0f} pixels; expected at most "
            f"{min(right - left, height):.0f}, the width of their strip"
        )

    def view(index: int, rng: np.random.Generator) -> View:
        for _ in range(_DRAWS):
            drawn = side
            if changes is not None:
                drawn = side / float(np.exp(rng.uniform(*np.log(changes.scale))))
            frame = Frame(
                left=float(rng.uniform(left, right - drawn)),
                top=float(rng.uniform(0, height - drawn)),
                step=drawn / min(look.size),
                height=look.size[0],
                width=look.size[1],
            )
            asked = _asked(field, frame, look.min_side)
            if not asked:
                continue
            grey = frame_image(field.image, frame)
            if changes is not None:
                grey = changed_greys(grey, changes, rng, invertible=True)
            found = View(
                images=(np.repeat(grey[..., None], 3, axis=-1),),
                names=tuple(asked),
                boxes=np.array(list(asked.values()), np.float32),
                questions=tuple(_questions(name, look) for name in asked),
                origin=f"crop {index}",
                plane=PLANE,
                position=0,
            )
            return described(found, DOMAIN, MODALITY)
        raise ValueError(
            f"nuclei: {_DRAWS} crops of {side} pixels show no nucleus to ask for; "
            "make them larger, or lower min_side"
        )

    return Views(
        count=count,
        view=view,
        names=NAMES,
        texts=tuple(text for name in NAMES for text in _questions(name, look)),
        sizes=(look.size,),
        reasons=all_reasons(NAMES, planes=(PLANE,), modality=MODALITY),
    )


def _questions(name: str, look: Look) -> tuple[str, ...]:
    return phrasings(name, plane=PLANE, modality=MODALITY, count=look.phrasings)


def _asked(
    field: Field, frame: Frame, min_side: int
) -> dict[str, tuple[int, int, int, int]]:
    """Box by name of what stands out among the nuclei that a crop shows whole."""
    corner = np.array([frame.left, frame.top] * 2)
    boxes = (field.boxes - corner) / frame.step
    limit = np.array([frame.width, frame.height])
    whole = np.flatnonzero(
        (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= limit).all(axis=1)
    )
    if len(whole) < 2:
        return {}
    area, tone, place = field.area[whole], field.tone[whole], field.boxes[whole]
    ranks = (
        *(
            (-np.log(x) * sign, np.log(_AHEAD))
            for x in (area, tone)
            for sign in (1, -1)
        ),
        *((x, _APART) for x in (place[:, 0], -place[:, 2], place[:, 1], -place[:, 3])),
    )
    asked = {}
    for name, (rank, margin) in zip(NAMES, ranks, strict=True):
        first, second = np.argsort(rank, kind="stable")[:2].tolist()
        if rank[second] - rank[first] < margin:
            continue
        x1, y1, x2, y2 = np.round(boxes[whole[first]]).astype(int).tolist()
        if min(x2 - x1, y2 - y1) >= min_side:
            asked[name] = (x1, y1, x2, y2)
    return asked
