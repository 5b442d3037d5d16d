"""Sets of boxes that never see the image: what a policy must beat to have looked."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from medjax.data.boxes.set_records import SetRecord
from medjax.data.boxes.views import Views, box_sets, drawn_views
from medjax.data.prompting.layout import Geometry, shown_size
from medjax.rl.boxes import convert_boxes

Sets = tuple[Float[np.ndarray, "k 4"], ...]


class TargetSets(NamedTuple):
    """Sets of boxes and what they were asked by, without images."""

    structure: Shaped[np.ndarray, "n"]  # names
    plane: Shaped[np.ndarray, "n"]
    boxes: Sets  # shares of the shown image's width and height, in reading order


def view_sets(views: Views, geometry: Geometry, *, seed: int, draws: int) -> TargetSets:
    """All sets of `drawn_views`: the training part's memory.

    Args:
        views: The training part, whose boxes the baselines may know.
        geometry: How images are shown.
        seed: Decides how views are moved, together with the view and the draw.
        draws: How often each view is looked at, 1 or more.
    """
    rows = []
    for view in drawn_views(views, seed=seed, draws=draws):
        size = view.images[-1].shape[:2]
        shown = shown_size(size, geometry)
        for name, boxes in zip(view.names, box_sets(view), strict=True):
            resized = convert_boxes(
                boxes, "original", "resized", size=size, resized=shown
            )
            rows.append((name, view.plane, _shares(np.asarray(resized), shown)))
    return _targets(rows)


def whole_image(records: Sequence[SetRecord]) -> Sets:
    """One box a question that covers the whole picture, in pixels as it is shown.

    Args:
        records: What is asked; only the pictures' sizes are read.
    """
    return tuple(
        np.array([[0, 0, r.image.shape[1], r.image.shape[0]]], np.float32)
        for r in records
    )


def most_common_set(train: TargetSets, records: Sequence[SetRecord]) -> Sets:
    """The most common number of boxes of the structure, each at its mean place.

    Of the training sets of the structure and plane those with the most common number
    (the smaller of two equally common) are kept; the n-th box is the mean of their n-th
    boxes in reading order, as shares of the image.

    Args:
        train: What the baseline may know, see `view_sets`.
        records: What is asked; structures, planes and sizes are read.

    Returns:
        Sets in pixels of the shown image; a structure that training does not show in
        that plane is answered by the empty set.
    """
    known: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, plane, boxes in zip(*train, strict=True):
        known.setdefault((str(name), str(plane)), []).append(boxes)
    answers = {key: _common(sets) for key, sets in known.items()}
    nothing = np.zeros((0, 4), np.float32)
    found = []
    for record in records:
        boxes = answers.get((record.structure, record.plane), nothing)
        height, width = record.image.shape[:2]
        extent = np.array([width, height, width, height], np.float32)
        found.append(boxes * extent)
    return tuple(found)


def _common(sets: Sequence[np.ndarray]) -> np.ndarray:
    counts = np.bincount([len(boxes) for boxes in sets])
    number = int(counts.argmax())
    return np.mean([x for x in sets if len(x) == number], axis=0).astype(np.float32)


def _shares(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Of a picture's sides, in reading order: from the top, then from the left."""
    height, width = size
    order = np.lexsort((boxes[:, 0], boxes[:, 1]))
    return boxes[order] / np.array([width, height, width, height], np.float32)


def _targets(rows: Sequence[tuple[str, str, np.ndarray]]) -> TargetSets:
    names, planes, boxes = zip(*rows, strict=True)
    return TargetSets(np.array(names), np.array(planes), boxes)
