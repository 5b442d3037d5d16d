"""Views of a user's pictures: all questions about the same images are one view."""

from collections.abc import Sequence

import numpy as np

from medjax.data.boxes.rows import Row
from medjax.data.boxes.views import View, Views
from medjax.data.images import read_image
from medjax.data.lists.groups import picture_key


def row_views(rows: Sequence[Row]) -> Views:
    """Views of a user's images: all questions about the same images are one view.

    Args:
        rows: From `box_rows`, one or more. Images are read when a view is drawn.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(map(picture_key, row.images)), []).append(row)
    grouped = list(groups.values())

    def outline(index: int) -> View:
        mine = grouped[index]
        black = np.zeros((), np.uint8)
        return View(
            images=tuple(np.broadcast_to(black, (*n, 3)) for n in mine[0].sizes),
            names=tuple(row.label for row in mine),
            boxes=np.array(
                [box for row in mine for box in row.boxes], np.float32
            ).reshape(-1, 4),
            questions=tuple((row.query,) for row in mine),
            origin=mine[0].origin,
            plane="",
            position=0,
            columns=tuple(row.columns for row in mine),
            counts=tuple(len(row.boxes) for row in mine),
        )

    def view(index: int, rng: np.random.Generator) -> View:
        del rng  # nothing is drawn
        first = grouped[index][0]
        images = tuple(read_image(file, first.origin) for file in first.images)
        return outline(index)._replace(images=images)

    return Views(
        count=len(grouped),
        view=view,
        names=tuple(dict.fromkeys(row.label for row in rows)),
        texts=tuple(dict.fromkeys(row.query for row in rows)),
        sizes=tuple(sorted({size for row in rows for size in row.sizes})),
        slots=max(len(row.images) for row in rows),
        most=max(len(row.boxes) for row in rows),
        outline=outline,
    )
