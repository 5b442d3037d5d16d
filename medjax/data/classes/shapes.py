"""Drawn shapes with classes: which shape it is, or how large."""

import numpy as np

from medjax.data.classes.pictures import Picture, PictureLook, Pictures
from medjax.data.classes.tasks import ClassTask, TaskParts
from medjax.data.volumes.shapes import (
    NAMES,
    check_drawing,
    draw_shape,
    noisy_ground,
    part_generator,
)

_COUNTS = (2000, 80)  # pictures to train and to test on
SIZES = ("tiny", "small", "medium", "large", "huge")


def shape_pictures(
    *, count: int, size: tuple[int, int], part: str, ask_size: bool
) -> Pictures:
    """`count` pictures of one shape each, whose class is what it is or how large.

    Args:
        count: How many pictures an epoch has, 1 or more; kinds, then sizes, come in
            turn.
        size: (height, width) in pixels, each 32 or more.
        part: "train", "val" or "test": equal generators draw other pictures in each.
        ask_size: Whether the class is the shape's size (tiny, small, medium, large,
            huge); else it is its tone and form.

    Raises:
        ValueError: The part is unknown, or a side is below 32 pixels.
    """
    check_drawing(size, part)
    index = np.arange(count)
    kinds, steps = index % len(NAMES), index // len(NAMES) % len(SIZES)

    def picture(n: int, rng: np.random.Generator) -> Picture:
        own = part_generator(rng, part)
        image = noisy_ground(size, own)
        # From a sixth to five sixths of the picture, in steps that do not overlap.
        share = (1 + 4 * (steps[n] + own.uniform(0.1, 0.9)) / len(SIZES)) / 6
        side = int(share * min(size))
        top, left = (int(own.integers(0, n - side)) for n in size)
        draw_shape(image, int(kinds[n]), side, top, left, own)
        grey = np.clip(image, 0, 255).astype(np.uint8)
        name = f"synthetic {part} {n}"
        return Picture(np.repeat(grey[..., None], 3, axis=-1), name, name)

    labels = (steps if ask_size else kinds).astype(np.int32)
    return Pictures(count, picture, labels[:, None], (size,))


def shape_task(task: ClassTask, look: PictureLook, *, ask_size: bool) -> TaskParts:
    """The task with drawn pictures of `look.size`; nothing else of the look is used.

    Args:
        task: The task in words.
        look: Gives the pictures' size.
        ask_size: Whether the class is the shape's size; else it is its kind.
    """
    train, test = (
        shape_pictures(count=count, size=look.size, part=part, ask_size=ask_size)
        for part, count in zip(("train", look.tested), _COUNTS, strict=True)
    )
    return TaskParts(task, train, test, {})
