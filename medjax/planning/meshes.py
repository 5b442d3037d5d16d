"""Which sizes of a mesh are near to those that were asked for and do not work."""

from collections.abc import Callable, Mapping

import numpy as np


def nearest_sizes(
    sizes: Mapping[str, int], count: int, works: Callable[[Mapping[str, int]], bool]
) -> dict[str, int] | None:
    """The sizes of a mesh nearest to some others, on so many devices.

    Nearest is what multiplies or divides the sizes by the least in all; of equals that
    which keeps the first axes.

    Args:
        sizes: Wanted, by axis; one that is less than 1 takes what the others leave.
        count: How many devices the sizes must multiply to, 1 or more.
        works: Says of other sizes, nearest first, whether they will do.

    Returns:
        By axis; None where no sizes work.
    """
    given = np.array([size >= 1 for size in sizes.values()])
    wanted = np.log([max(1, size) for size in sizes.values()])

    def distance(other: tuple[int, ...]) -> tuple[float, ...]:
        steps = np.abs(np.log(other) - wanted) * given
        return tuple(round(float(x), 9) for x in (steps.sum(), *steps))

    for other in sorted(factored(count, len(sizes)), key=distance):
        found = dict(zip(sizes, other, strict=True))
        if works(found):
            return found
    return None


def factored(count: int, axes: int) -> list[tuple[int, ...]]:
    """All ways to write a number as a product of so many, in order.

    Args:
        count: The number, 1 or more.
        axes: How many factors, 1 or more; each is 1 or more.
    """
    if axes == 1:
        return [(count,)]
    first = [n for n in range(1, count + 1) if count % n == 0]
    return [(n, *rest) for n in first for rest in factored(count // n, axes - 1)]
