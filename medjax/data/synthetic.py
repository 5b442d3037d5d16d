"""Generated pictures of named shapes: no network, no files, for smoke runs and tests.

They are not medical data, and a run says so: its source is named `synthetic`.
"""

import numpy as np
from jaxtyping import Bool, Float

from medjax.data.queries import phrasings
from medjax.data.views import View, Views

TONES = (("dark", 40), ("bright", 230))
SHAPES = ("disc", "square", "triangle", "cross")
NAMES = tuple(f"{tone} {shape}" for tone, _ in TONES for shape in SHAPES)
PLANE, MODALITY = "synthetic", "generated"


def synthetic_views(
    *, count: int, size: tuple[int, int], part: str, num_phrasings: int
) -> Views:
    """`count` pictures of four shapes each on a noisy background, new at every draw.

    Args:
        count: views.
        size: (height, width) in pixels.
        part: "train" or "test"; equal generators give different pictures.
        num_phrasings: ways of asking.
    """
    parts = ("train", "test")
    if part not in parts:
        raise ValueError(f"part={part!r}: expected one of {parts}")
    if min(size) < 32:
        raise ValueError(f"size {size}: four shapes need 32 pixels a side at least")
    asked = {
        name: phrasings(name, plane=PLANE, modality=MODALITY, count=num_phrasings)
        for name in NAMES
    }

    def view(index: int, rng: np.random.Generator) -> View:
        drawn = rng.integers(1 << 31, size=4).tolist()
        own = np.random.default_rng((*drawn, parts.index(part)))
        names, image, boxes = _picture(size, own)
        return View(
            images=(np.repeat(image[..., None], 3, axis=-1),),
            names=names,
            boxes=boxes,
            questions=tuple(asked[name] for name in names),
            origin=f"synthetic {part} {index}",
            plane=PLANE,
            position=0,
        )

    return Views(
        count=count,
        view=view,
        names=NAMES,
        texts=tuple(text for name in NAMES for text in asked[name]),
        sizes=(size,),
    )


def _picture(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[tuple[str, ...], np.ndarray, Float[np.ndarray, "4 4"]]:
    """One shape in each quarter, so that none hides another."""
    height, width = size
    image = rng.normal(128, 12, size)
    chosen = rng.permutation(len(NAMES))[:4].tolist()
    boxes = []
    for quarter, kind in enumerate(chosen):
        cell = np.array(size) // 2
        side = int(rng.integers(min(cell) // 3, min(cell) - 2))
        corner = [int(rng.integers(0, n - side)) for n in cell]
        top = corner[0] + quarter // 2 * int(cell[0])
        left = corner[1] + quarter % 2 * int(cell[1])
        mask = _shape(SHAPES[kind % len(SHAPES)], side)
        inside = image[top : top + side, left : left + side]
        level = TONES[kind // len(SHAPES)][1]
        inside[mask] = level + rng.normal(0, 8, int(mask.sum()))
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


def _shape(shape: str, side: int) -> Bool[np.ndarray, "side side"]:
    y, x = (np.indices((side, side)) + 0.5) / side
    if shape == "disc":
        return (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25
    if shape == "triangle":
        return np.abs(x - 0.5) <= 0.5 * y
    if shape == "cross":
        return (np.abs(x - 0.5) <= 0.18) | (np.abs(y - 0.5) <= 0.18)
    return np.ones((side, side), bool)
