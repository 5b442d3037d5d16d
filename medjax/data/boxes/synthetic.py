"""Generated pictures of named shapes: no network, no files, for smoke runs and tests.

They are not medical data, and a run says so: its source is named `synthetic`.
"""

import numpy as np
from jaxtyping import Bool, Float

from medjax.data.boxes.queries import phrasings
from medjax.data.boxes.views import View, Views
from medjax.data.classes.pictures import Picture, Pictures

TONES = (("dark", 40), ("bright", 230))
SHAPES = ("disc", "square", "triangle", "cross")
NAMES = tuple(f"{tone} {shape}" for tone, _ in TONES for shape in SHAPES)
SIZES = ("tiny", "small", "medium", "large", "huge")
PLANE, MODALITY = "synthetic", "generated"
_PARTS = ("train", "test", "val")


def synthetic_views(
    *, count: int, size: tuple[int, int], part: str, num_phrasings: int
) -> Views:
    """`count` pictures of four shapes each on a noisy background, new at every draw.

    Args:
        count: views.
        size: (height, width) in pixels.
        part: "train", "val" or "test"; equal generators give different pictures.
        num_phrasings: ways of asking.
    """
    _check(size, part)
    asked = {
        name: phrasings(name, plane=PLANE, modality=MODALITY, count=num_phrasings)
        for name in NAMES
    }

    def view(index: int, rng: np.random.Generator) -> View:
        names, image, boxes = _picture(size, _own(rng, part))
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


def shape_pictures(
    *, count: int, size: tuple[int, int], part: str, ask_size: bool
) -> Pictures:
    """`count` pictures of one shape each, whose class is what it is or how large.

    Args:
        count: pictures; kinds and sizes are equally frequent.
        size: (height, width) in pixels.
        part: "train", "val" or "test"; equal generators give different pictures.
        ask_size: the class is one of `SIZES`, else one of `NAMES`.
    """
    _check(size, part)
    index = np.arange(count)
    kinds, steps = index % len(NAMES), index // len(NAMES) % len(SIZES)

    def picture(n: int, rng: np.random.Generator) -> Picture:
        own = _own(rng, part)
        image = own.normal(128, 12, size)
        # From a sixth to five sixths of the picture, in steps that do not overlap.
        share = (1 + 4 * (steps[n] + own.uniform(0.1, 0.9)) / len(SIZES)) / 6
        side = int(share * min(size))
        top, left = (int(own.integers(0, n - side)) for n in size)
        _draw(image, int(kinds[n]), side, top, left, own)
        grey = np.clip(image, 0, 255).astype(np.uint8)
        name = f"synthetic {part} {n}"
        return Picture(np.repeat(grey[..., None], 3, axis=-1), name, name)

    labels = (steps if ask_size else kinds).astype(np.int32)
    return Pictures(count, picture, labels[:, None], (size,))


def _check(size: tuple[int, int], part: str) -> None:
    if part not in _PARTS:
        raise ValueError(f"part={part!r}: expected one of {_PARTS}")
    if min(size) < 32:
        raise ValueError(f"size {size}: shapes need 32 pixels a side at least")


def _own(rng: np.random.Generator, part: str) -> np.random.Generator:
    """A generator that differs between the parts."""
    return np.random.default_rng(
        (*rng.integers(1 << 31, size=4).tolist(), _PARTS.index(part))
    )


def _draw(
    image: Float[np.ndarray, "h w"],
    kind: int,
    side: int,
    top: int,
    left: int,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "side side"]:
    """Draw one of `NAMES` into `image`; its mask."""
    mask = _shape(SHAPES[kind % len(SHAPES)], side)
    inside = image[top : top + side, left : left + side]
    level = TONES[kind // len(SHAPES)][1]
    inside[mask] = level + rng.normal(0, 8, int(mask.sum()))
    return mask


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
        mask = _draw(image, kind, side, top, left, rng)
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
