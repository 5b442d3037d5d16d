"""Generated pictures of named shapes: no network, no files, for smoke runs and tests.

They are not medical data, and a run says so: its source is named `synthetic`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

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
    *,
    count: int,
    size: tuple[int, int],
    part: str,
    num_phrasings: int,
    sets: bool = False,
) -> Views:
    """`count` pictures of shapes on a noisy background, new at every draw.

    A picture shows four different shapes, each in a quarter of it. With `sets` it shows
    two kinds, in each quarter one of them or nothing, and a third kind is asked for
    that is not there: sets of 0 to 4 boxes.

    Args:
        count: How many views an epoch has, 1 or more; their pictures never repeat.
        size: (height, width) in pixels, each 32 or more.
        part: "train", "val" or "test": equal generators draw other pictures in each.
        num_phrasings: How many ways of asking are in use, 1 to 8, the shortest first.
        sets: A shape may be there several times, or not at all.

    Raises:
        ValueError: The part is unknown, a side is below 32 pixels, or there are not so
            many phrasings.
    """
    check_drawing(size, part)
    questions = {
        name: phrasings(
            name, plane=PLANE, modality=MODALITY, count=num_phrasings, several=sets
        )
        for name in NAMES
    }

    def view(index: int, rng: np.random.Generator) -> View:
        own = part_generator(rng, part)
        names, counts, image, boxes = (_set_picture if sets else _picture)(size, own)
        return View(
            images=(np.repeat(image[..., None], 3, axis=-1),),
            names=names,
            boxes=boxes,
            questions=tuple(questions[name] for name in names),
            origin=f"synthetic {part} {index}",
            plane=PLANE,
            position=0,
            counts=counts,
        )

    return Views(
        count=count,
        view=view,
        names=NAMES,
        texts=tuple(text for name in NAMES for text in questions[name]),
        sizes=(size,),
        most=4 if sets else 1,
    )


class _Drawn(NamedTuple):
    names: tuple[str, ...]
    counts: tuple[int, ...] | None  # boxes of each name; None: one
    image: UInt8[np.ndarray, "h w"]
    boxes: Float[np.ndarray, "N 4"]


def _picture(size: tuple[int, int], rng: np.random.Generator) -> _Drawn:
    """One shape in each quarter, so that none hides another."""
    image = noisy_ground(size, rng)
    chosen = rng.permutation(len(NAMES))[:4].tolist()
    boxes = [_draw(image, n, kind, rng) for n, kind in enumerate(chosen)]
    return _Drawn(tuple(NAMES[kind] for kind in chosen), None, *_finish(image, boxes))


def _set_picture(size: tuple[int, int], rng: np.random.Generator) -> _Drawn:
    """Two kinds of shapes in the quarters, or none; a third is asked for."""
    image = noisy_ground(size, rng)
    kinds = rng.permutation(len(NAMES))[:3].tolist()
    # Of a quarter: the first kind, the second, or nothing (2).
    cells = rng.choice(3, size=4, p=(0.4, 0.2, 0.4)).tolist()
    sets = [
        [_draw(image, n, kind, rng) for n, cell in enumerate(cells) if cell == place]
        for place, kind in enumerate(kinds[:2])
    ]
    boxes = [box for one in sets for box in one]
    return _Drawn(
        tuple(NAMES[kind] for kind in kinds),
        (*map(len, sets), 0),
        *_finish(image, boxes),
    )


def _draw(
    image: Float[np.ndarray, "h w"],
    quarter: int,
    kind: int,
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Draw a shape somewhere in a quarter; its box."""
    cell = np.array(image.shape) // 2
    side = int(rng.integers(min(cell) // 3, min(cell) - 2))
    corner = [int(rng.integers(0, n - side)) for n in cell]
    top = corner[0] + quarter // 2 * int(cell[0])
    left = corner[1] + quarter % 2 * int(cell[1])
    mask = draw_shape(image, kind, side, top, left, rng)
    across, down = (np.flatnonzero(mask.any(axis=a)) for a in (0, 1))
    return (
        left + int(across[0]),
        top + int(down[0]),
        left + int(across[-1]) + 1,
        top + int(down[-1]) + 1,
    )


def _finish(
    image: Float[np.ndarray, "h w"], boxes: list[tuple[int, int, int, int]]
) -> tuple[UInt8[np.ndarray, "h w"], Float[np.ndarray, "N 4"]]:
    grey = np.clip(image, 0, 255).astype(np.uint8)
    return grey, np.array(boxes, np.float32).reshape(-1, 4)
