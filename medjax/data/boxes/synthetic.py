"""Generated pictures of named shapes: no network, no files, for smoke runs and tests.

They are not medical data, and a run says so: its source is named `synthetic`.
"""

import numpy as np
from jaxtyping import Float

from medjax.data.boxes.queries import phrasings
from medjax.data.boxes.views import View, Views
from medjax.data.volumes.shapes import (
    NAMES,
    check_drawing,
    draw_shape,
    noisy_ground,
    part_generator,
)

PLANE, MODALITY = "synthetic", "generated"


def synthetic_views(
    *, count: int, size: tuple[int, int], part: str, num_phrasings: int
) -> Views:
    """`count` pictures of four shapes each on a noisy background, new at every draw.

    Args:
        count: How many views an epoch has, 1 or more; their pictures never repeat.
        size: (height, width) in pixels, each 32 or more.
        part: "train", "val" or "test": equal generators draw other pictures in each.
        num_phrasings: How many ways of asking are in use, 1 to 8, the shortest first.

    Raises:
        ValueError: The part is unknown, a side is below 32 pixels, or there are not so
            many phrasings.
    """
    check_drawing(size, part)
    questions = {
        name: phrasings(name, plane=PLANE, modality=MODALITY, count=num_phrasings)
        for name in NAMES
    }

    def view(index: int, rng: np.random.Generator) -> View:
        names, image, boxes = _picture(size, part_generator(rng, part))
        return View(
            images=(np.repeat(image[..., None], 3, axis=-1),),
            names=names,
            boxes=boxes,
            questions=tuple(questions[name] for name in names),
            origin=f"synthetic {part} {index}",
            plane=PLANE,
            position=0,
        )

    return Views(
        count=count,
        view=view,
        names=NAMES,
        texts=tuple(text for name in NAMES for text in questions[name]),
        sizes=(size,),
    )


def _picture(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[tuple[str, ...], np.ndarray, Float[np.ndarray, "4 4"]]:
    """One shape in each quarter, so that none hides another."""
    height, width = size
    image = noisy_ground(size, rng)
    chosen = rng.permutation(len(NAMES))[:4].tolist()
    boxes = []
    for quarter, kind in enumerate(chosen):
        cell = np.array(size) // 2
        side = int(rng.integers(min(cell) // 3, min(cell) - 2))
        corner = [int(rng.integers(0, n - side)) for n in cell]
        top = corner[0] + quarter // 2 * int(cell[0])
        left = corner[1] + quarter % 2 * int(cell[1])
        mask = draw_shape(image, kind, side, top, left, rng)
        across, down = (np.flatnonzero(mask.any(axis=a)) for a in (0, 1))
        boxes.append(
            (
                left + across[0],
                top + down[0],
                left + across[-1] + 1,
                top + down[-1] + 1,
            )
        )
    names = tuple(NAMES[kind] for kind in chosen)
    grey = np.clip(image, 0, 255).astype(np.uint8)
    return names, grey, np.array(boxes, np.float32)
