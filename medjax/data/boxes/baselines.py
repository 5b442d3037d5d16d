"""Answers that never see the image: what a policy must beat to have looked.

Both know the training boxes, the structure asked for and the plane; `nearest_box` also
knows which slice it is asked about.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from medjax.data.boxes.batches import Record
from medjax.data.boxes.views import Views, drawn_views
from medjax.data.prompting.layout import Geometry, shown_size
from medjax.rl.boxes import convert_boxes


class Targets(NamedTuple):
    """Boxes and what they were asked by, without images."""

    structure: Shaped[np.ndarray, "n"]  # names
    plane: Shaped[np.ndarray, "n"]
    position: Int[np.ndarray, "n"]  # of the slice across its plane
    boxes: Float[np.ndarray, "n 4"]  # pixels of the shown image


def view_targets(views: Views, geometry: Geometry, *, seed: int, draws: int) -> Targets:
    """All targets of `drawn_views`: the training part's memory.

    Args:
        views: The training part, whose boxes the baselines may know; at least one box.
        geometry: How images are shown; boxes are in pixels of the shown image.
        seed: Decides how views are moved, together with the view and the draw.
        draws: How often each view is looked at, 1 or more.
    """
    rows = []
    for view in drawn_views(views, seed=seed, draws=draws):
        size = view.images[-1].shape[:2]
        boxes = convert_boxes(
            view.boxes,
            "original",
            "resized",
            size=size,
            resized=shown_size(size, geometry),
        )
        rows += [
            (name, view.plane, view.position, box)
            for name, box in zip(view.names, boxes, strict=True)
        ]
    return _targets(rows)


def record_targets(records: Sequence[Record]) -> Targets:
    """The targets of an evaluation, in the order of its records.

    Args:
        records: One or more, as `eval_batches` gives them; their pictures are not read.
    """
    return _targets([(r.structure, r.plane, r.position, r.box) for r in records])


def mean_box(train: Targets, test: Targets) -> Float[np.ndarray, "n 4"]:
    """The mean training box of each structure and plane, a baseline without images.

    Args:
        train: What the baseline may know, see `view_targets`.
        test: What is asked; its structures and planes are read, its boxes are not.

    Returns:
        Corners (x1, y1, x2, y2) in pixels of the shown image, one row a target of
        `test`. A structure that training does not show in that plane gets zeros.
    """
    answers = np.zeros_like(test.boxes)
    for rows, known in _matches(train, test):
        answers[rows] = train.boxes[known].mean(axis=0)
    return answers


def nearest_box(train: Targets, test: Targets) -> Float[np.ndarray, "n 4"]:
    """The mean box of the structure in the nearest training slice of the plane.

    A baseline without images; two slices equally near count together.

    Args:
        train: What the baseline may know, see `view_targets`.
        test: What is asked; its structures, planes and positions are read.

    Returns:
        Corners (x1, y1, x2, y2) in pixels of the shown image, one row a target of
        `test`. A structure that training does not show in that plane gets zeros.
    """
    answers = np.zeros_like(test.boxes)
    for rows, known in _matches(train, test):
        for row in rows:
            away = np.abs(train.position[known] - test.position[row])
            answers[row] = train.boxes[known[away == away.min()]].mean(axis=0)
    return answers


def _matches(train: Targets, test: Targets):  # noqa: ANN202
    """Rows of `test` and of `train` that share structure and plane, both non-empty."""
    for name, plane in sorted(set(zip(test.structure, test.plane, strict=True))):
        rows, known = (
            np.flatnonzero((t.structure == name) & (t.plane == plane))
            for t in (test, train)
        )
        if len(known):
            yield rows, known


def _targets(rows: Sequence[tuple[str, str, int, Float[np.ndarray, "4"]]]) -> Targets:
    names, planes, positions, boxes = zip(*rows, strict=True)
    return Targets(
        structure=np.array(names),
        plane=np.array(planes),
        position=np.array(positions, np.int32),
        boxes=np.stack(boxes).astype(np.float32),
    )
