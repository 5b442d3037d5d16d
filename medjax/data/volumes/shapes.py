"""Named shapes drawn on noise: pictures without network, for smoke runs and tests.

They are not medical data, and a run says so: its source is named `synthetic`, `shapes`
or `shape_size`.
"""

import numpy as np
from jaxtyping import Bool, Float

TONES = (("dark", 40), ("bright", 230))
SHAPES = ("disc", "square", "triangle", "cross")
NAMES = tuple(f"{tone} {shape}" for tone, _ in TONES for shape in SHAPES)
PARTS = ("train", "test", "val")


def check_drawing(size: tuple[int, int], part: str) -> None:
    """Refuse what shapes cannot be drawn for.

    Args:
        size: (height, width) in pixels.
        part: "train", "val" or "test".

    Raises:
        ValueError: another part, or a side of less than 32 pixels.
    """
    if part not in PARTS:
        raise ValueError(f"part={part!r}: expected one of {PARTS}")
    if min(size) < 32:
        raise ValueError(f"size {size}: shapes need 32 pixels a side at least")


def part_generator(rng: np.random.Generator, part: str) -> np.random.Generator:
    """A generator that differs between the parts; `rng` moves on by four draws.

    Args:
        rng: Equal ones give equal generators for equal parts.
        part: "train", "val" or "test".
    """
    return np.random.default_rng(
        (*rng.integers(1 << 31, size=4).tolist(), PARTS.index(part))
    )


def noisy_ground(
    size: tuple[int, int], rng: np.random.Generator
) -> Float[np.ndarray, "h w"]:
    """Grey noise to draw on: counts of mean 128 and deviation 12, not yet clipped.

    Args:
        size: (height, width) in pixels.
        rng: Gives one number a pixel.
    """
    return rng.normal(128, 12, size)


def draw_shape(
    image: Float[np.ndarray, "h w"],
    kind: int,
    side: int,
    top: int,
    left: int,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "side side"]:
    """Draw one of `NAMES` into `image`, which changes; the mask of its square.

    Args:
        image: Counts, 0 black and 255 white; the square must lie wholly inside.
        kind: The number of one of `NAMES`, from 0; tone and shape follow from it.
        side: The side of the square that the shape fills, in pixels.
        top: The number of that square's first row in the image.
        left: The number of that square's first column in the image.
        rng: Gives the tone's noise, one number for each pixel of the shape.
    """
    mask = _shape(SHAPES[kind % len(SHAPES)], side)
    inside = image[top : top + side, left : left + side]
    level = TONES[kind // len(SHAPES)][1]
    inside[mask] = level + rng.normal(0, 8, int(mask.sum()))
    return mask


def _shape(shape: str, side: int) -> Bool[np.ndarray, "side side"]:
    y, x = (np.indices((side, side)) + 0.5) / side
    if shape == "disc":
        return (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25
    if shape == "triangle":
        return np.abs(x - 0.5) <= 0.5 * y
    if shape == "cross":
        return (np.abs(x - 0.5) <= 0.18) | (np.abs(y - 0.5) <= 0.18)
    return np.ones((side, side), bool)
